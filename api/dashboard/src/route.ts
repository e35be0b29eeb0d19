/**
 * Addresses of the dashboard. They stand after the `#`, because the paths themselves (`/jobs`, `/trials`) belong to
 * the API.
 */

export type JobTab = 'overview' | 'trials' | 'spec';

/** The fields beside `page` are the properties of the page's component. */
export type Route =
  | { page: 'jobs' }
  | { page: 'job'; id: string; tab: JobTab; query: URLSearchParams }
  | { page: 'trial'; id: string }
  | { page: 'nodes' }
  | { page: 'submit' }
  | { page: 'unknown'; path: string };

export type PageName = Route['page'];
export type RouteOf<Name extends PageName> = Extract<Route, { page: Name }>;
type KnownPage = Exclude<PageName, 'unknown'>;

/** For each page: its route, if the parts of the path lead to it. */
const ROUTES: { [Name in KnownPage]: (parts: string[], query: URLSearchParams) => RouteOf<Name> | undefined } = {
  jobs: ([first, ...rest]) => (rest.length === 0 && (first ?? 'jobs') === 'jobs' ? { page: 'jobs' } : undefined),
  job: ([first, id, tab = 'overview', ...rest], query) =>
    first === 'jobs' && id !== undefined && isJobTab(tab) && rest.length === 0
      ? { page: 'job', id, tab, query }
      : undefined,
  trial: ([first, id, ...rest]) =>
    first === 'trials' && id !== undefined && rest.length === 0 ? { page: 'trial', id } : undefined,
  nodes: ([first, ...rest]) => (first === 'nodes' && rest.length === 0 ? { page: 'nodes' } : undefined),
  submit: ([first, ...rest]) => (first === 'submit' && rest.length === 0 ? { page: 'submit' } : undefined),
};

/** The pages that have an address. */
export const PAGES = Object.keys(ROUTES) as KnownPage[];

export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const parts = path.split('/').filter(Boolean).map(decode);
  const query = new URLSearchParams(search);
  for (const route of Object.values(ROUTES)) {
    const found = route(parts, query);
    if (found) return found;
  }
  return { page: 'unknown', path };
}

export const links = {
  jobs: () => '#/jobs',
  job: (id: string, tab: JobTab = 'overview') =>
    `#/jobs/${encodeURIComponent(id)}${tab === 'overview' ? '' : `/${tab}`}`,
  trial: (id: string) => `#/trials/${encodeURIComponent(id)}`,
  nodes: () => '#/nodes',
  submit: () => '#/submit',
  /** The list of a job's trials; a filter that is empty is left out. */
  trials: (id: string, filter: Record<string, string | null | undefined> = {}) => {
    const query = new URLSearchParams(Object.entries(filter).filter((e): e is [string, string] => Boolean(e[1])));
    return `${links.job(id, 'trials')}${query.size === 0 ? '' : `?${query}`}`;
  },
} satisfies Record<KnownPage, (...values: never[]) => string> & Record<'trials', unknown>;

function isJobTab(text: string): text is JobTab {
  const tabs: Record<JobTab, true> = { overview: true, trials: true, spec: true };
  return Object.hasOwn(tabs, text);
}

/** The part with its percent escapes decoded; unchanged if they are malformed. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

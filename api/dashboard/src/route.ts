/**
 * Addresses of the dashboard, after the `#`: the paths themselves (`/jobs`, `/trials`) belong to the API.
 */

export type JobTab = 'overview' | 'trials' | 'spec';

export type Route =
  | { page: 'jobs'; query: URLSearchParams }
  | { page: 'job'; id: string; tab: JobTab; query: URLSearchParams }
  | { page: 'trial'; id: string }
  | { page: 'nodes' }
  | { page: 'submit' }
  | { page: 'unknown'; path: string };

export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const parts = path.split('/').filter(Boolean).map(decode);
  const query = new URLSearchParams(search);
  const [first, id, tab] = parts;
  if (first === undefined || (first === 'jobs' && parts.length === 1)) return { page: 'jobs', query };
  if (first === 'jobs' && id !== undefined && parts.length === 2) return { page: 'job', id, tab: 'overview', query };
  if (first === 'jobs' && id !== undefined && parts.length === 3 && (tab === 'trials' || tab === 'spec')) {
    return { page: 'job', id, tab, query };
  }
  if (first === 'trials' && id !== undefined && parts.length === 2) return { page: 'trial', id };
  if (first === 'nodes' && parts.length === 1) return { page: 'nodes' };
  if (first === 'submit' && parts.length === 1) return { page: 'submit' };
  return { page: 'unknown', path };
}

export const links = {
  jobs: () => '#/jobs',
  job: (id: string, tab: JobTab = 'overview') =>
    `#/jobs/${encodeURIComponent(id)}${tab === 'overview' ? '' : `/${tab}`}`,
  trials: (id: string, filter: Record<string, string | undefined> = {}) => {
    const query = new URLSearchParams(Object.entries(filter).filter((e): e is [string, string] => Boolean(e[1])));
    return `${links.job(id, 'trials')}${query.size === 0 ? '' : `?${query}`}`;
  },
  trial: (id: string) => `#/trials/${encodeURIComponent(id)}`,
  nodes: () => '#/nodes',
  submit: () => '#/submit',
};

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

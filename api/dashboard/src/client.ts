/** The calls to the HTTP API, typed by its OpenAPI document. Every failure is thrown as a `ProblemError`. */

import { problemOf, unreachable } from './problem';
import type { NodeView, paths, TrialView } from './schema';
import { session } from './session.svelte';

/** What an operation answers with `Status`. */
type Answer<Operation, Status extends number = 200> = Operation extends {
  responses: Record<Status, { content: { 'application/json': infer Body } }>;
}
  ? Body
  : never;

type Get<Path extends keyof paths> = NonNullable<paths[Path]['get']>;
type Post<Path extends keyof paths> = NonNullable<paths[Path]['post']>;
type InPath<Operation> = Operation extends { parameters: { path: infer Names } } ? Names : unknown;
type InQuery<Operation> = Operation extends { parameters: { query?: infer Names } } ? Exclude<Names, undefined> : never;
/** Values for the parameters of an operation, by name. A value of the query that is null or empty is left out. */
type ValuesOf<Operation> = InPath<Operation> & {
  [Name in keyof InQuery<Operation>]?: InQuery<Operation>[Name] | null;
};

export type TrialQuery = ValuesOf<Get<'/jobs/{id}/trials'>>;

type Values = Record<string, string | number | boolean | null | undefined>;

interface Call {
  method?: string;
  /** Values of the path's parameters; those that the path does not name go into the query. */
  values?: Values;
  headers?: Record<string, string>;
  body?: string;
  signal?: AbortSignal | undefined;
  /** Used instead of the session's token. */
  token?: string;
}

/** The last answer of each address that has a tag, so that the server sends it again only if it has changed. */
const tagged = new Map<string, { tag: string; body: unknown }>();
/** Number of answers that are kept: a page fetches few. */
const KEPT = 8;

/** Largest page that the server sends. */
const MOST_IN_PAGE = 1000;

export const api = {
  jobs: (cursor: string | null, signal?: AbortSignal) => get('/jobs', { limit: 25, cursor }, signal),
  job: (id: string, signal?: AbortSignal) => getChanged('/jobs/{id}', { id }, signal),
  cancel: (id: string) => post('/jobs/{id}/cancel', 200, { values: { id } }),
  trials: (query: TrialQuery, signal?: AbortSignal) => get('/jobs/{id}/trials', query, signal),
  /** The first `wanted` trials that a query finds, page by page, and whether there are more. */
  firstTrials: async (query: TrialQuery, wanted: number, signal?: AbortSignal) => {
    const trials: TrialView[] = [];
    let cursor: string | null = null;
    do {
      const limit = Math.min(wanted - trials.length, MOST_IN_PAGE);
      const page: Answer<Get<'/jobs/{id}/trials'>> = await api.trials({ ...query, limit, cursor }, signal);
      trials.push(...page.items);
      cursor = page.next;
    } while (cursor !== null && trials.length < wanted);
    return { trials, hasMore: cursor !== null };
  },
  /** Number of blocks for which the job's pre-train trials have points; 0 as long as there is none. */
  blocksOfCurves: async (id: string, signal?: AbortSignal) => {
    const { items } = await get('/jobs/{id}/trials', { id, stage: 'pretrain', limit: 500 }, signal);
    if (items.length === 0) return 0;
    const farthest = items.reduce((best, trial) => (trial.step > best.step ? trial : best));
    const { points } = await get('/trials/{id}', { id: farthest.id, points: 1 }, signal);
    return Math.max(0, ...points.map((point) => Number(/^block_(\d+)_/.exec(point.name)?.[1] ?? 0)));
  },
  curves: (id: string, name: string, signal?: AbortSignal) =>
    get('/jobs/{id}/curves', { id, name, points: 400 }, signal),
  report: (id: string, signal?: AbortSignal) => getChanged('/jobs/{id}/report', { id }, signal),
  reportText: async (id: string, format: 'json' | 'markdown') =>
    (await send('/jobs/{id}/report', { values: { id, format } })).text(),
  trial: (id: string, signal?: AbortSignal) => get('/trials/{id}', { id, points: 500 }, signal),
  checkpoint: (id: string, signal?: AbortSignal) => get('/trials/{id}/checkpoint', { id }, signal),
  checkpointArchive: async (id: string) => (await send('/trials/{id}/checkpoint.tar', { values: { id } })).blob(),
  logs: (id: string, after: number | null, signal?: AbortSignal) =>
    get('/trials/{id}/logs', { id, after, limit: 500 }, signal),
  datasets: async (signal?: AbortSignal) => (await get('/datasets', {}, signal)).items,
  /** All nodes, page by page. */
  nodes: async (signal?: AbortSignal) => {
    const nodes: NodeView[] = [];
    let cursor: string | null = null;
    do {
      const page: Answer<Get<'/nodes'>> = await get('/nodes', { limit: 500, cursor }, signal);
      nodes.push(...page.items);
      cursor = page.next;
    } while (cursor !== null);
    return nodes;
  },
  drainNode: async (id: string) => void (await send('/nodes/{id}/drain', { method: 'POST', values: { id } })),
  resumeNode: async (id: string) => void (await send('/nodes/{id}/resume', { method: 'POST', values: { id } })),
  deleteNode: async (id: string) => void (await send('/nodes/{id}', { method: 'DELETE', values: { id } })),
  plan: (body: string) => post('/jobs', 200, { values: { dry_run: true }, body }),
  submit: (body: string, key: string) => post('/jobs', 201, { body, headers: { 'Idempotency-Key': key } }),
  /** Resolves when the server accepts the token. */
  check: (token: string) => send('/jobs', { values: { limit: 1 }, token }),
  events: async (id: string, headers: Record<string, string>, signal: AbortSignal) => {
    const response = await send('/jobs/{id}/events', { values: { id }, headers, signal });
    if (response.body === null) throw unreachable('the event stream is empty');
    return response.body;
  },
};

function get<Path extends keyof paths>(
  path: Path,
  values: ValuesOf<Get<Path>>,
  signal?: AbortSignal,
): Promise<Answer<Get<Path>>> {
  return read(path, { values: values as Values, signal });
}

/** Like `get`, but an answer that has not changed is not sent again: the same object is returned. */
async function getChanged<Path extends keyof paths>(
  path: Path,
  values: ValuesOf<Get<Path>>,
  signal?: AbortSignal,
): Promise<Answer<Get<Path>>> {
  const key = JSON.stringify([session.token, path, values]);
  const known = tagged.get(key);
  const headers: Record<string, string> = known ? { 'If-None-Match': known.tag } : {};
  const response = await send(path, { values: values as Values, headers, signal });
  if (response.status === 304 && known) return known.body as Answer<Get<Path>>;
  const body = (await response.json()) as Answer<Get<Path>>;
  const tag = response.headers.get('ETag');
  tagged.delete(key);
  if (tag) tagged.set(key, { tag, body });
  // A map is in the order of insertion, so the first key is the oldest one.
  if (tagged.size > KEPT) tagged.delete(tagged.keys().next().value!);
  return body;
}

function post<Path extends keyof paths, Status extends number>(
  path: Path,
  status: Status,
  call: Call,
): Promise<Answer<Post<Path>, Status>> {
  const headers = { ...(call.body === undefined ? {} : { 'Content-Type': 'application/json' }), ...call.headers };
  return read(path, { ...call, method: 'POST', headers }, status);
}

/** The body of the answer; an answer of another status than `status` has another body and is refused. */
async function read<Body>(path: keyof paths, call: Call, status = 200): Promise<Body> {
  const response = await send(path, call);
  if (response.status !== status) throw problemOf(response.status, null, `Status ${status} was expected.`);
  try {
    return (await response.json()) as Body;
  } catch (cause) {
    throw unreachable(cause);
  }
}

async function send(template: keyof paths, call: Call): Promise<Response> {
  const query = new URLSearchParams();
  let path: string = template;
  for (const [name, value] of Object.entries(call.values ?? {})) {
    if (value === null || value === undefined || value === '') continue;
    if (path.includes(`{${name}}`)) path = path.replace(`{${name}}`, encodeURIComponent(value));
    else query.set(name, String(value));
  }
  const token = call.token ?? session.token;
  let response: Response;
  try {
    response = await fetch(query.size === 0 ? path : `${path}?${query}`, {
      method: call.method ?? 'GET',
      headers: { Accept: 'application/json', Authorization: `Bearer ${token}`, ...call.headers },
      body: call.body ?? null,
      signal: call.signal ?? null,
      cache: 'no-store',
    });
  } catch (cause) {
    if (call.signal?.aborted) throw cause;
    throw unreachable(cause);
  }
  if (response.ok || response.status === 304) return response;
  const problem = problemOf(response.status, response.headers.get('content-type'), await response.text());
  // The session ends when its own token stops working. A token that the sign-in page checks is that page's matter.
  if (response.status === 401 && call.token === undefined && session.token === token) {
    session.signOut('Your token is no longer accepted. Sign in again.');
  }
  throw problem;
}

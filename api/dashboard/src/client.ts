/** The calls to the HTTP API. Every failure is thrown as a `Problem`. */

import type { Curves, Job, JobSummary, LogLine, Node, Page, Plan, Trial, TrialDetail } from './api';
import { problemOf, unreachable } from './problem';
import type { Report } from './report';
import { session } from './session.svelte';

type Query = Record<string, string | number | boolean | null | undefined>;

interface Call {
  method?: string;
  query?: Query;
  headers?: Record<string, string>;
  body?: string;
  signal?: AbortSignal | undefined;
  /** In place of the session's. */
  token?: string;
}

export const api = {
  jobs: (cursor: string | null, signal?: AbortSignal) =>
    read<Page<JobSummary>>('/jobs', { query: { limit: 25, cursor }, signal }),
  job: (id: string, signal?: AbortSignal) => read<Job>(`/jobs/${segment(id)}`, { signal }),
  cancel: (id: string) => read<Job>(`/jobs/${segment(id)}/cancel`, { method: 'POST' }),
  trials: (job: string, query: Query, signal?: AbortSignal) =>
    read<Page<Trial>>(`/jobs/${segment(job)}/trials`, { query, signal }),
  /** How many blocks the pre-train trials of a job say something of; 0 as long as none has. */
  blocksOfCurves: async (job: string, signal?: AbortSignal) => {
    const query = { stage: 'pretrain', limit: 500 };
    const { items } = await read<Page<Trial>>(`/jobs/${segment(job)}/trials`, { query, signal });
    if (items.length === 0) return 0;
    const farthest = items.reduce((best, trial) => (trial.step > best.step ? trial : best));
    const { points } = await read<TrialDetail>(`/trials/${segment(farthest.id)}`, { query: { points: 1 }, signal });
    return Math.max(0, ...points.map((point) => Number(/^block_(\d+)_/.exec(point.name)?.[1] ?? 0)));
  },
  curves: (job: string, name: string, signal?: AbortSignal) =>
    read<Curves>(`/jobs/${segment(job)}/curves`, { query: { name, points: 400 }, signal }),
  report: (job: string, signal?: AbortSignal) => read<Report>(`/jobs/${segment(job)}/report`, { signal }),
  reportText: async (job: string, format: 'json' | 'markdown') => {
    const query = format === 'markdown' ? { format } : {};
    return (await send(`/jobs/${segment(job)}/report`, { query })).text();
  },
  trial: (id: string, signal?: AbortSignal) =>
    read<TrialDetail>(`/trials/${segment(id)}`, { query: { points: 500 }, signal }),
  logs: (id: string, after: number | null, signal?: AbortSignal) =>
    read<Page<LogLine>>(`/trials/${segment(id)}/logs`, { query: { after, limit: 500 }, signal }),
  nodes: (signal?: AbortSignal) => every<Node>('/nodes', {}, signal),
  plan: (body: string) => submit<Plan>(body, { dry_run: true }),
  submit: (body: string, key: string) => submit<Job>(body, {}, { 'Idempotency-Key': key }),
  /** Resolves when the server accepts the token. */
  check: (token: string) => send('/jobs', { query: { limit: 1 }, token }),
  events: async (job: string, headers: Record<string, string>, signal: AbortSignal) => {
    const response = await send(`/jobs/${segment(job)}/events`, { headers, signal });
    if (response.body === null) throw unreachable('the event stream is empty');
    return response.body;
  },
};

function submit<T>(body: string, query: Query, headers: Record<string, string> = {}): Promise<T> {
  return read<T>('/jobs', { method: 'POST', query, body, headers: { 'Content-Type': 'application/json', ...headers } });
}

/** Every item of a list, page by page. */
async function every<T>(path: string, query: Query, signal?: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  for (let cursor: string | null = null; ;) {
    const page: Page<T> = await read(path, { query: { ...query, limit: 500, cursor }, signal });
    items.push(...page.items);
    cursor = page.next;
    if (cursor === null) return items;
  }
}

async function read<T>(path: string, call: Call): Promise<T> {
  const response = await send(path, call);
  try {
    return (await response.json()) as T;
  } catch (cause) {
    throw unreachable(cause);
  }
}

async function send(path: string, call: Call): Promise<Response> {
  const query = Object.entries(call.query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  );
  const search = new URLSearchParams(query.map(([name, value]) => [name, String(value)]));
  const token = call.token ?? session.token;
  let response: Response;
  try {
    response = await fetch(search.size === 0 ? path : `${path}?${search}`, {
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
  if (response.ok) return response;
  const problem = problemOf(response.status, response.headers.get('content-type'), await response.text());
  // A session's token that stopped working ends the session; one that is only being checked is the sign-in page's matter.
  if (response.status === 401 && call.token === undefined && session.token === token) {
    session.signOut('Your token is no longer accepted. Sign in again.');
  }
  throw problem;
}

function segment(id: string): string {
  return encodeURIComponent(id);
}

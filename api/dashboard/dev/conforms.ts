/**
 * Whether a server's answers are what src/api.ts and src/report.ts say they are: `npm run types` writes schema.d.ts from its
 * OpenAPI document and checks this file. Nothing here runs.
 */

import type {
  Curves,
  Job,
  JobSummary,
  LogLine,
  Node,
  Page,
  Plan,
  ProblemDetails,
  Trial,
  TrialDetail,
} from '../src/api';
import type { Report } from '../src/report';
import type { components, paths } from './schema';

type Schemas = components['schemas'];

/** The server writes every field; the document calls those optional that may be null. */
type Written<T> = T extends (infer U)[]
  ? Written<U>[]
  : T extends object
    ? { [K in keyof T]-?: Written<Exclude<T[K], undefined>> }
    : T;

type Answer<Path extends keyof paths> = paths[Path] extends {
  get: { responses: { 200: { content: { 'application/json': infer T } } } };
}
  ? Written<T>
  : never;

/** An error at a call means that `Theirs`, what the server sends, is no `Mine`. */
declare function conforms<Mine, Theirs extends Mine>(): [Mine, Theirs];

conforms<Page<JobSummary>, Answer<'/jobs'>>();
conforms<Job, Answer<'/jobs/{id}'>>();
conforms<Page<Trial>, Answer<'/jobs/{id}/trials'>>();
conforms<Curves, Answer<'/jobs/{id}/curves'>>();
conforms<TrialDetail, Answer<'/trials/{id}'>>();
conforms<Page<LogLine>, Answer<'/trials/{id}/logs'>>();
conforms<Page<Node>, Answer<'/nodes'>>();
conforms<Report, Answer<'/jobs/{id}/report'>>();
conforms<Plan, Written<Schemas['Plan']>>();
conforms<Required<ProblemDetails>, Written<Schemas['ProblemDetails']>>();

/** Errors in one form, those that the server answers with and those of the connection. */

import type { Problem, ProblemDetails } from './schema';

export class ProblemError extends Error {
  readonly code: string;
  readonly title: string;
  readonly status: number;
  readonly fields: Problem[];

  /** The dashboard has codes of its own, for failures without an answer. */
  constructor(details: Partial<Omit<ProblemDetails, 'code'>> & { code: string; title: string }) {
    super(details.detail ?? details.title);
    this.code = details.code;
    this.title = details.title;
    this.status = details.status ?? 0;
    this.fields = details.problems ?? [];
  }
}

/** The problem in an answer with an error status. Its body may be no JSON: a proxy may have written it. */
export function problemOf(status: number, contentType: string | null, body: string): ProblemError {
  if (/\bjson\b/.test(contentType ?? '')) {
    try {
      const details: unknown = JSON.parse(body);
      if (isProblem(details)) return new ProblemError({ ...details, status });
    } catch {
      // Broken JSON is handled below, like any other body that is not a problem.
    }
  }
  return new ProblemError({
    code: 'unexpected_answer',
    title: `The server answered with status ${status}`,
    detail: body.trim().slice(0, 300) || 'Its answer was empty.',
    status,
  });
}

export function unreachable(cause: unknown): ProblemError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ProblemError({ code: 'unreachable', title: 'The server cannot be reached', detail: why });
}

export function asProblem(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new ProblemError({ code: 'dashboard', title: 'The dashboard failed', detail });
}

function isProblem(value: unknown): value is ProblemDetails {
  if (typeof value !== 'object' || value === null) return false;
  const { code, title } = value as Partial<ProblemDetails>;
  return typeof code === 'string' && typeof title === 'string';
}

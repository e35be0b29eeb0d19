/** What went wrong, in one form, whether the server said it or never answered. */

import type { FieldProblem, ProblemDetails } from './api';

export class Problem extends Error {
  readonly code: string;
  readonly title: string;
  readonly status: number;
  readonly fields: FieldProblem[];

  constructor(details: Partial<ProblemDetails> & { code: string; title: string }) {
    super(details.detail ?? details.title);
    this.code = details.code;
    this.title = details.title;
    this.status = details.status ?? 0;
    this.fields = details.problems ?? [];
  }
}

/** The problem that an answer with an error status carries; proxies and crashes answer with something else than JSON. */
export function problemOf(status: number, contentType: string | null, body: string): Problem {
  if (/\bjson\b/.test(contentType ?? '')) {
    try {
      const details: unknown = JSON.parse(body);
      if (isProblem(details)) return new Problem({ ...details, status });
    } catch {
      // Broken JSON is answered below like any other body that is not a problem.
    }
  }
  return new Problem({
    code: 'unexpected_answer',
    title: `The server answered with status ${status}`,
    detail: body.trim().slice(0, 300) || 'Its answer was empty.',
    status,
  });
}

export function unreachable(cause: unknown): Problem {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Problem({ code: 'unreachable', title: 'The server cannot be reached', detail: why });
}

export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new Problem({ code: 'dashboard', title: 'The dashboard failed', detail });
}

function isProblem(value: unknown): value is ProblemDetails {
  if (typeof value !== 'object' || value === null) return false;
  const { code, title } = value as Partial<ProblemDetails>;
  return typeof code === 'string' && typeof title === 'string';
}

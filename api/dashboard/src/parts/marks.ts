/** Where in the text of a job the problems of an answer stand. */

import { locate, type Span } from '../pointer';
import type { ProblemError } from '../problem';

export interface Mark {
  /** Counts from 1. */
  line: number;
  message: string;
  /** The pointer of the problem; null for text that is no JSON. */
  pointer: string | null;
  span: Span;
}

/** One mark for each problem of `problem` that has a place in `text`, from top to bottom. */
export function marksOf(problem: ProblemError | undefined, text: string): Mark[] {
  if (!problem) return [];
  const found = problem.fields.flatMap(({ pointer, message }): Mark[] => {
    const span = locate(text, pointer);
    return span ? [{ line: lineOf(text, span.start), message, pointer, span }] : [];
  });
  // The server names line and column of text that is no JSON.
  const broken = /\bline (\d+) column (\d+)/.exec(problem.message);
  if (found.length === 0 && broken) {
    const [line, column] = [Number(broken[1]), Number(broken[2])];
    const start = Math.min(startOf(text, line) + Math.max(0, column - 1), text.length);
    const end = Math.min(start + 1, text.length);
    found.push({ line, message: problem.message, pointer: null, span: { start, end } });
  }
  return found.sort((a, b) => a.span.start - b.span.start);
}

function lineOf(text: string, at: number): number {
  return text.slice(0, at).split('\n').length;
}

/** Where a line begins; the end of the text for a line that it does not have. */
function startOf(text: string, line: number): number {
  return text
    .split('\n')
    .slice(0, line - 1)
    .reduce((sum, one) => sum + one.length + 1, 0);
}

/** Words about a job as a whole. */

import { count, duration } from './format';
import type { JobSummary } from './schema';

/** How long a job or trial waited for its first slot and how long it has run since, apart. */
export function spans(job: Pick<JobSummary, 'created_at' | 'started_at' | 'finished_at'>, now: Date): string[] {
  const end = job.finished_at === null ? now.getTime() : Date.parse(job.finished_at);
  const made = Date.parse(job.created_at);
  if (job.started_at === null) return job.finished_at === null ? [] : [`never ran, ended ${span(made, end)} later`];
  const start = Date.parse(job.started_at);
  return [`waited ${span(made, start)}`, `${job.finished_at === null ? 'running for' : 'ran'} ${span(start, end)}`];
}

function span(from: number, to: number): string {
  return duration(Math.max(0, Math.round((to - from) / 1000)));
}

/** What became of the trials of a job that has ended: "34 trials", "31 of 34 trials succeeded". */
export function endedWords({ trials }: Pick<JobSummary, 'trials'>): string {
  const total = Object.values(trials).reduce((sum, some) => sum + some, 0);
  const noun = `${count(total)} trial${total === 1 ? '' : 's'}`;
  if (total === trials.succeeded) return noun;
  return trials.succeeded === 0 ? `none of ${noun} succeeded` : `${count(trials.succeeded)} of ${noun} succeeded`;
}

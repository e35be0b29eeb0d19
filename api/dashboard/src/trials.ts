/** The list of a job's trials: what its rows are sorted by and searched for. */

import { rate, words } from './format';
import type { TrialCounts, TrialView } from './schema';
import type { Key } from './sort';
import { fullName } from './trial';

/** The validation loss that the trial found, before the score: a fine-tune trial has a score, the others a loss. */
export function lossOf({ report }: Pick<TrialView, 'report'>): number | null {
  return report?.stage === 'pretrain' || report?.stage === 'probe' ? report.validation_loss : null;
}

export function scoreOf({ report }: Pick<TrialView, 'report'>): number | null {
  return report?.stage === 'finetune' ? report.score : null;
}

/** True if a fine-tune trial is no better than a constant guess of the majority class. */
export function isAtMajority({ report }: Pick<TrialView, 'report'>): boolean {
  return report?.stage === 'finetune' && report.score <= report.majority_score;
}

export function keysOf(trial: TrialView): Record<string, Key> {
  return {
    trial: `${trial.stage} ${trial.task ?? ''}`,
    arm: trial.arm,
    seeds: trial.seeds.init * 1e6 + trial.seeds.head,
    state: trial.state,
    steps: trial.step,
    loss: lossOf(trial),
    score: scoreOf(trial),
    trained: trial.trained_seconds > 0 ? trial.trained_seconds : null,
    attempts: trial.attempt_count,
  };
}

/** Everything about a trial that somebody may search for. */
export function searchedText(trial: TrialView): string {
  const { failure, learning_rate: peak } = trial;
  return [
    fullName(trial),
    trial.state,
    trial.id,
    trial.node,
    peak === null ? '' : `rate ${rate(peak)}`,
    failure ? `${words(failure.kind)} ${failure.message}` : '',
  ].join(' ');
}

/** Number of trials that a filter leaves, if the counts of the job tell; a filter by stage or arm cannot be counted. */
export function totalOf(
  counts: TrialCounts,
  filter: { stage?: unknown; arm?: unknown; state?: keyof TrialCounts | null | undefined },
): number | null {
  if (filter.stage || filter.arm) return null;
  if (filter.state) return counts[filter.state] ?? null;
  return Object.values(counts).reduce((sum, some) => sum + some, 0);
}

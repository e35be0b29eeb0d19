/** The answer of a job that has nothing to compare: no result yet, none at all, or a single arm. */

import { duration, fixed, plural, score } from '../format';
import type { Report } from '../schema';

/** True if the report has a number to show. */
export function hasResult({ speed, pretrain, glue }: Report): boolean {
  return speed !== null || pretrain.some((arm) => arm.seeds.length > 0) || glue.length > 0;
}

/** Why there is no result. `ended`: true if none will come. */
export function noResult(ended: boolean): string {
  if (!ended) return 'No trial has a result yet. Speed is measured first, then loss, then GLUE.';
  return 'This job has ended, and no trial has a result. The list of trials says what became of each.';
}

export interface Measured {
  name: string;
  value: string;
  detail: string;
}

/** What was measured of the only arm of a job. */
export function ofOneArm({ speed, pretrain, glue_averages: averages }: Report): Measured[] {
  const found: Measured[] = [];
  const timed = speed?.arms[0];
  if (timed) {
    const detail = `over ${plural(speed!.rounds, 'round')}`;
    found.push({ name: 'Time per step', value: duration(timed.seconds_per_step), detail });
  }
  const [arm] = pretrain;
  if (arm?.validation_loss) {
    const { n, mean } = arm.validation_loss;
    const rest = arm.loss_without_failures;
    const without = rest === undefined ? '' : `, ${fixed(rest, 3)} without them`;
    const diverged = arm.diverged > 0 ? `, of which ${arm.diverged} diverged${without}` : '';
    found.push({ name: 'Validation loss', value: fixed(mean, 3), detail: `mean of ${plural(n, 'seed')}${diverged}` });
  } else if (arm && arm.diverged > 0) {
    found.push({ name: 'Validation loss', value: '–', detail: `${plural(arm.diverged, 'seed')} diverged` });
  }
  const [average] = averages;
  if (average) {
    const detail = `score × 100, mean of ${plural(average.tasks.length, 'task')}`;
    found.push({ name: 'GLUE', value: score(average.mean), detail });
  }
  return found;
}

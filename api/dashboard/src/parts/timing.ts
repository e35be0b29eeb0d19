/** From the report of a timing trial to the rows of its table. */

import { duration } from '../format';
import type { ArmTiming } from '../schema';

const mean = (values: number[]) =>
  values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;

export interface TimingRow {
  arm: string;
  /** Mean seconds per step over the turns; null without a turn. */
  mean: number | null;
  turns: number;
  /** The shortest and the longest turn. */
  range: string;
  /** Mean number of open blocks of the timed steps; null without a step. */
  open: number | null;
  blocks: number;
  /** Tokens per second. */
  tokens: number | null;
}

export function timingRow({ name, turns, blocks, tokens_per_step: tokens }: ArmTiming): TimingRow {
  const means = turns.flatMap((turn) => mean(turn.seconds) ?? []);
  const seconds = mean(means);
  return {
    arm: name,
    mean: seconds,
    turns: turns.length,
    range: means.length < 2 ? '' : `${duration(Math.min(...means))} to ${duration(Math.max(...means))}`,
    open: mean(turns.flatMap((turn) => turn.open_blocks)),
    blocks,
    tokens: seconds ? tokens / seconds : null,
  };
}

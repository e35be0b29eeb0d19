/** From the report of a timing trial to the rows of its table. */

import { duration } from '../format';
import type { ArmTiming } from '../schema';

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

export function timingRow({ name, turns, blocks, by_open: byOpen, tokens_per_step: tokens }: ArmTiming): TimingRow {
  const mean = turns.length === 0 ? null : turns.reduce((sum, turn) => sum + turn, 0) / turns.length;
  const steps = byOpen.reduce((sum, row) => sum + row.steps, 0);
  const range = turns.length < 2 ? '' : `${duration(Math.min(...turns))} to ${duration(Math.max(...turns))}`;
  return {
    arm: name,
    mean,
    turns: turns.length,
    range,
    open: steps === 0 ? null : byOpen.reduce((sum, row) => sum + row.steps * row.open_blocks, 0) / steps,
    blocks,
    tokens: mean ? tokens / mean : null,
  };
}

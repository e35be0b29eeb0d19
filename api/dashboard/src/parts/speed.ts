/** From the report to the rows of the speed table. */

import { compact, duration, fixed, percent } from '../format';
import type { ArmSpeed } from '../schema';
import { type Interval, isPossible, ratioWorth } from './worth';

/** A number with what is known of its certainty. */
export interface Estimate {
  text: string;
  /** The ends of its interval, or that there is none to rely on. */
  interval: string;
  /** True if the interval is worth a number in bold. */
  isSure: boolean;
}

export interface SpeedRow {
  arm: string;
  time: Estimate;
  /** Null for the baseline, and for an arm that is not compared. */
  ratio: Estimate | null;
  saving: string;
  limit: string;
  share: string;
  /** How much of a bar the share fills, from 0 to 1; null if the share is not known. */
  filled: number | null;
  tokens: string;
  turns: number;
  /** What is drawn: the ratio, and its interval if that is narrow enough to be one. */
  drawn: { ratio: number; interval: Interval | null } | null;
  /** Numbers to sort by. */
  keys: Record<'time' | 'ratio' | 'saving' | 'share' | 'tokens', number | null>;
}

const CANNOT_TELL = 'cannot tell';
/** A share of the limit may pass 100 % by noise, but not by much. */
const MOST_SHARE = 1.1;

export function speedRow(arm: ArmSpeed, baseline: string): SpeedRow {
  const { seconds_per_step: time, ratio_to_baseline: ratio, ratio_interval: interval } = arm;
  const isBaseline = arm.arm === baseline;
  const worth = ratioWorth(interval);
  // From an interval that is too wide, neither a saving nor a share of the limit can be told.
  const isKnown = interval !== null && interval[0] > 0 && interval[1] / interval[0] <= 2;
  const share = arm.share_of_limit;
  const isShare = isKnown && share !== null && share >= 0 && share <= MOST_SHARE;
  const isTime = isPossible(time.interval, [0, Infinity]);
  return {
    arm: arm.arm,
    time: {
      text: duration(time.mean),
      interval: isTime ? ends(time.mean, time.interval!) : time.interval ? CANNOT_TELL : '',
      isSure: isTime || time.interval === null,
    },
    ratio:
      isBaseline || ratio === null
        ? null
        : {
            text: `${fixed(ratio, 3)}×`,
            interval: isKnown
              ? `[${fixed(interval[0], 3)}, ${fixed(interval[1], 3)}]`
              : interval
                ? CANNOT_TELL
                : 'no interval',
            isSure: isKnown && worth.kind !== 'open',
          },
    saving: isBaseline || arm.step_saving === null ? '–' : isKnown ? percent(arm.step_saving, 1) : CANNOT_TELL,
    limit: percent(arm.limit_saving, 1),
    share: share === null ? '–' : isShare ? percent(share) : CANNOT_TELL,
    filled: isShare ? Math.min(share, 1) : null,
    tokens: compact(arm.tokens_per_second),
    turns: time.n,
    drawn: isBaseline
      ? { ratio: 1, interval: null }
      : ratio === null || !(isKnown || interval === null)
        ? null
        : { ratio, interval },
    keys: {
      time: time.mean,
      ratio: isBaseline ? 1 : ratio,
      saving: isBaseline ? 0 : arm.step_saving,
      share: isShare ? share : null,
      tokens: arm.tokens_per_second,
    },
  };
}

/** Both ends in the unit of the mean: 182 ms [180, 184]. */
function ends(mean: number, [low, high]: Interval): string {
  const scale = mean < 1 ? 1e3 : 1;
  const digits = Math.max(0, 3 - Math.floor(Math.log10(mean * scale) + 1));
  return `[${fixed(low * scale, digits)}, ${fixed(high * scale, digits)}]`;
}

/**
 * What an interval is worth. An interval that leaves everything open gets no number in bold beside it: a reader would
 * take the number for the answer.
 */

import type { Summary } from '../schema';

/** Both ends of a 95 % interval. */
export type Interval = NonNullable<Summary['interval']>;

/** A ratio whose upper end is this many times its lower end says which way it goes, but not how far. */
const WIDE_RATIO = 2;
/** Ratios within this distance of 1 count as the same. */
const SAME_RATIO = 0.05;
/** Losses whose difference is within this share of the baseline's loss count as the same. */
const SAME_SHARE = 0.02;

export type Worth =
  /** The whole interval lies on one side of no difference. */
  | { kind: 'clear'; sign: 1 | -1; isMeasured: boolean }
  /** There may be a difference, but it is at most `within`. */
  | { kind: 'same'; within: number }
  | { kind: 'open' };

const OPEN: Worth = { kind: 'open' };

/** The worth of the interval of a ratio, of which 1 means no difference. */
export function ratioWorth(interval: Interval | null): Worth {
  if (!interval || !interval.every(Number.isFinite)) return OPEN;
  const [low, high] = interval;
  if (low <= 0) return OPEN;
  if (low > 1 || high < 1) return { kind: 'clear', sign: low > 1 ? 1 : -1, isMeasured: high / low <= WIDE_RATIO };
  const within = Math.max(1 - low, high - 1);
  return within <= SAME_RATIO ? { kind: 'same', within } : OPEN;
}

/** The worth of the interval of a difference in loss, given the baseline's loss if it has one. */
export function lossWorth(interval: Interval | null, baseline: number | null): Worth {
  if (!interval || !interval.every(Number.isFinite)) return OPEN;
  const [low, high] = interval;
  // A loss is not negative, so a difference cannot be known to less than the loss itself.
  const isMeasured = baseline === null || high - low <= baseline;
  if (low > 0 || high < 0) return { kind: 'clear', sign: low > 0 ? 1 : -1, isMeasured };
  const within = Math.max(-low, high);
  return baseline !== null && within <= SAME_SHARE * baseline ? { kind: 'same', within } : OPEN;
}

/** True if the interval lies where its value can lie, between `least` and `most`. */
export function isPossible(interval: Interval | null, [least, most]: [number, number]): interval is Interval {
  return interval !== null && interval[0] >= least && interval[1] <= most;
}

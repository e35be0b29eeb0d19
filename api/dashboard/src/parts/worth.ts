/**
 * What of an interval is printed. Verdicts come from the server; here it is only seen to that no number stands in large
 * letters whose interval is wider than the number itself, and that no absurd end of an interval is written at all.
 */

import type { Summary } from '../schema';

/** Both ends of a 95 % interval. */
export type Interval = NonNullable<Summary['interval']>;

/** A ratio whose upper end is this many times its lower end is not a number to read. */
const WIDE = 2;
/** Beyond this factor between the ends of a ratio they are not written either. */
const ABSURD = 100;

/** True if the ratio inside the interval is worth large letters. */
export function isNarrow(interval: Interval | null): interval is Interval {
  return isWithin(interval, WIDE);
}

/** True if the ends of a ratio are worth writing. */
export function isWritable(interval: Interval | null): interval is Interval {
  return isWithin(interval, ABSURD);
}

function isWithin(interval: Interval | null, factor: number): interval is Interval {
  return interval !== null && interval[0] > 0 && interval[1] / interval[0] <= factor;
}

/**
 * True if the interval lies where its value can lie, between `least` and `most`. The server cuts an interval at these
 * ends, so that one that reaches them is not known on that side.
 */
export function isPossible(interval: Interval | null, [least, most]: [number, number]): interval is Interval {
  return interval !== null && interval[0] > least && interval[1] < most;
}

/** Turns the points of single seeds into lines: a thick one for the mean of each arm, a thin one for each seed. */

import type { Series } from './schema';

export type XAxis = 'step' | 'time';

/** The choices of the horizontal axis. The axis itself names its unit, which for a time depends on how long it is. */
export const AXES: { value: XAxis; name: string }[] = [
  { value: 'step', name: 'Steps' },
  { value: 'time', name: 'Time' },
];

export interface Line {
  arm: string;
  /** Id of the seed's trial; undefined for the mean over the arm's seeds. */
  trial?: string;
  seed?: number;
  /** One value for each of `Drawing.xs`; null where this line has no value. */
  values: (number | null)[];
}

export interface ArmCurve {
  arm: string;
  seeds: Line[];
  mean: Line;
}

export interface Drawing {
  /** Steps, or seconds of training; ascending, without duplicates. */
  xs: number[];
  arms: ArmCurve[];
}

/** Stands in for the arm of a timing trial, which runs all arms. */
const EVERY_ARM = 'all arms';

interface Track {
  trial: string;
  seed: number;
  x: number[];
  y: number[];
}

/**
 * Groups the series by arm, in the order of `order`. All lines share one x axis, the union of the x of all points, as
 * the chart needs it. The mean has a value only where every seed of its arm has one (interpolated between its points),
 * so that a seed that starts late or fails early does not move the mean by its absence.
 */
export function draw(series: Series[], order: string[], axis: XAxis): Drawing {
  const byArm = new Map<string, Track[]>(order.map((arm) => [arm, []]));
  for (const one of series) {
    const track = toTrack(one, axis);
    if (track.x.length === 0) continue;
    const arm = one.arm ?? EVERY_ARM;
    const tracks = byArm.get(arm);
    if (tracks) tracks.push(track);
    else byArm.set(arm, [track]);
  }
  const xs = union([...byArm.values()].flat().map((track) => track.x));
  const arms = [...byArm]
    .filter(([, tracks]) => tracks.length > 0)
    .map(([arm, tracks]) => {
      tracks.sort((a, b) => a.seed - b.seed);
      const seeds = tracks.map((t): Line => ({ arm, trial: t.trial, seed: t.seed, values: sample(t, xs, false) }));
      return { arm, seeds, mean: { arm, values: mean(tracks, xs) } };
    });
  return { xs, arms };
}

function toTrack(one: Series, axis: XAxis): Track {
  const points = one.points
    .filter((point) => Number.isFinite(point.value))
    .map((point) => ({ x: axis === 'step' ? point.step : point.trained_seconds, y: point.value }))
    .sort((a, b) => a.x - b.x);
  // A resumed attempt repeats steps: of two points at one x the later one counts.
  const last = points.filter((point, i) => point.x !== points[i + 1]?.x);
  return { trial: one.trial, seed: one.seeds.init, x: last.map((p) => p.x), y: last.map((p) => p.y) };
}

function union(lists: number[][]): number[] {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

/** Values of a track at `xs`. Between its points a value is interpolated or null, outside of them it is null. */
function sample(track: Track, xs: number[], interpolate: boolean): (number | null)[] {
  let next = 0;
  return xs.map((x) => {
    while (next < track.x.length && track.x[next]! < x) next++;
    const right = track.x[next];
    if (right === undefined) return null;
    if (right === x) return track.y[next]!;
    const left = track.x[next - 1];
    if (!interpolate || left === undefined) return null;
    const share = (x - left) / (right - left);
    return track.y[next - 1]! * (1 - share) + track.y[next]! * share;
  });
}

function mean(tracks: Track[], xs: number[]): (number | null)[] {
  const sampled = tracks.map((track) => sample(track, xs, true));
  return xs.map((_, i) => {
    let sum = 0;
    for (const values of sampled) {
      const value = values[i];
      if (value === null || value === undefined) return null;
      sum += value;
    }
    return sum / sampled.length;
  });
}

/** The same drawing with each mean averaged over up to `radius` points on each side. */
export function smooth(drawing: Drawing, radius: number): Drawing {
  if (radius === 0) return drawing;
  const arms = drawing.arms.map((arm) => {
    const { values } = arm.mean;
    const smoothed = values.map((value, i) => {
      if (value === null) return null;
      const near = values.slice(Math.max(0, i - radius), i + radius + 1).filter((v) => v !== null);
      return near.reduce((sum, v) => sum + v, 0) / near.length;
    });
    return { ...arm, mean: { ...arm.mean, values: smoothed } };
  });
  return { ...drawing, arms };
}

/** Index of the last x at which every arm has a mean, so that the arms can be compared there. */
export function common(drawing: Drawing): number | undefined {
  const ends = drawing.arms.map(({ mean }) => mean.values.findLastIndex((value) => value !== null));
  const index = Math.min(...ends);
  return Number.isFinite(index) && index >= 0 ? index : undefined;
}

/** The value of a line at an index of the x axis: between two points the earlier one, after the last point none. */
export function valueAt(values: (number | null)[], index: number): number | undefined {
  if (index > values.findLastIndex((value) => value !== null)) return undefined;
  return values.slice(0, index + 1).findLast((value) => value !== null) ?? undefined;
}

/** The unit that suits a training time of `seconds`, and its size in seconds. */
export function timeUnit(seconds: number): { name: string; size: number } {
  if (seconds < 180) return { name: 'seconds', size: 1 };
  if (seconds < 2 * 3600) return { name: 'minutes', size: 60 };
  return { name: 'hours', size: 3600 };
}

const UNITS: Record<string, string> = {
  validation_loss: 'nats',
  train_loss: 'nats',
  validation_accuracy: 'share of images',
  open_blocks: 'blocks',
  step_seconds: 'seconds',
};

/** The unit of a metric; empty if it is a plain number. */
export function unitOf(metric: string): string {
  return UNITS[metric] ?? '';
}

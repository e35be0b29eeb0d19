/** From the points of single seeds to what the chart draws: one thick line per arm, one thin line per seed. */

import type { CurveSeries } from './api';

export type XAxis = 'step' | 'time';

export interface Line {
  arm: string;
  /** The trial whose seed this is; undefined for the mean over the arm's seeds. */
  trial?: string;
  seed?: number;
  /** One value per shared x; null where this line has none. */
  values: (number | null)[];
}

export interface ArmCurve {
  arm: string;
  seeds: Line[];
  mean: Line;
}

export interface Drawing {
  /** Steps, or seconds of training; ascending and distinct. */
  xs: number[];
  arms: ArmCurve[];
}

/** The name under which points of a trial that runs all arms are drawn. */
const EVERY_ARM = 'all arms';

interface Track {
  trial: string;
  seed: number;
  x: number[];
  y: number[];
}

/**
 * Groups by arm, in the order of `order`. All lines share one x axis, as the chart needs it: the union of every point.
 * The mean exists only where every seed of its arm has a value (interpolated between its points), so that a seed that
 * starts late, or fails early, never moves it by its absence.
 */
export function draw(series: CurveSeries[], order: string[], axis: XAxis): Drawing {
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

function toTrack(one: CurveSeries, axis: XAxis): Track {
  const points = one.points
    .filter((point) => Number.isFinite(point.value))
    .map((point) => ({ x: axis === 'step' ? point.step : point.trained_seconds, y: point.value }))
    .sort((a, b) => a.x - b.x);
  // Of two points at one x (a resumed attempt says a step again) the later one counts.
  const last = points.filter((point, i) => point.x !== points[i + 1]?.x);
  return { trial: one.trial, seed: one.seeds.init, x: last.map((p) => p.x), y: last.map((p) => p.y) };
}

function union(lists: number[][]): number[] {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

/** Values of a track at `xs`; between its points either interpolated or null, outside of them null. */
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

/** The same drawing with each mean averaged over `radius` points on each side; fewer at its ends. */
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

/** The last place at which every arm has a mean: only there can last values be compared. */
export function common(drawing: Drawing): number | undefined {
  const ends = drawing.arms.map(({ mean }) => mean.values.findLastIndex((value) => value !== null));
  const index = Math.min(...ends);
  return Number.isFinite(index) && index >= 0 ? index : undefined;
}

/** The value of a line at a place on the x axis; between its points the one before, after its end none. */
export function valueAt(values: (number | null)[], index: number): number | undefined {
  if (index > values.findLastIndex((value) => value !== null)) return undefined;
  return values.slice(0, index + 1).findLast((value) => value !== null) ?? undefined;
}

/** The unit in which `seconds` of training read best, and its size in seconds. */
export function timeUnit(seconds: number): { name: string; size: number } {
  if (seconds < 180) return { name: 'seconds', size: 1 };
  if (seconds < 2 * 3600) return { name: 'minutes', size: 60 };
  return { name: 'hours', size: 3600 };
}

/** From the report to the heat maps of a task, which show how the score of each run depends on the learning rate. */

import { rate, score } from '../format';
import type { GlueRow, GlueReport, GlueScore } from '../schema';
import { type Scale, scaleOver } from '../strip';
import { depthOf, keptBlocks, modelOf } from '../trial';
import { runName } from './strips';

export type Run = Pick<GlueScore, 'pretrain_seed' | 'seed'>;

/** The result of a run. `position` is its place on the colour scale, from 0 to 1; a failed run has no place there. */
export type Outcome =
  | { state: 'scored'; position: number }
  | { state: 'failed' }
  | { state: 'diverged' }
  | { state: 'missing' };

/** A cell of a map. `title` names the run and its result. */
export type Cell = Outcome & { title: string };

export interface HeatRow {
  rate: number;
  selected: boolean;
  /** One cell for each of the task's runs. */
  cells: Cell[];
}

/** The map of one arm and choice of kept blocks. */
export interface HeatMap {
  arm: string;
  /** Tells maps of one arm apart; empty if it has one map. */
  note: string;
  /** One row for each of the task's rates, in rising order. */
  rows: HeatRow[];
  /** The map in a sentence, for screen readers. */
  spoken: string;
}

/** The maps of a task. They share rows, columns and scale, so that they can be compared. */
export interface HeatMaps {
  /** Sorted by pre-train seed, then by seed. */
  runs: Run[];
  maps: HeatMap[];
  /** Maps scores to positions; null if every run failed. */
  scale: Scale | null;
  /** Which results, and whether selected rows, occur in the maps: the legend names only these. */
  has: Record<Outcome['state'] | 'selected', boolean>;
}

/** The maps of a task; undefined if it has one learning rate. */
export function heatMaps(task: GlueReport): HeatMaps | undefined {
  const rates = [...new Set(task.arms.map((arm) => arm.learning_rate))].sort((a, b) => a - b);
  if (rates.length < 2) return undefined;
  const scores = task.arms.flatMap((arm) => arm.scores);
  const runs = runsOf(scores);
  const counted = scores.flatMap((run) => (run.score === null || run.failed ? [] : [run.score]));
  // Failed runs are left out: one run at the majority guess would leave one colour for all others.
  const scale = counted.length > 0 ? scaleOver(counted, [0, 1], 6) : null;
  const severalSeeds = new Set(runs.map((run) => run.pretrain_seed)).size > 1;
  const severalDepths = new Set(task.arms.map(depthOf)).size > 1;

  const isFirst = (arm: GlueRow, i: number) => task.arms.findIndex((other) => isOfMap(other, arm)) === i;
  const maps = task.arms.filter(isFirst).map((first): HeatMap => {
    const { arm, keep, blocks } = first;
    const rows = task.arms.filter((other) => isOfMap(other, first));
    const note = severalDepths ? keptBlocks(keep, blocks) : '';
    return {
      arm,
      note,
      rows: rates.map((rate) => heatRow(rate, rows, runs, severalSeeds, scale)),
      spoken: spoken([arm, note].filter(Boolean).join(', '), rows),
    };
  });
  const rows = maps.flatMap((map) => map.rows);
  const occurs = (state: Outcome['state']) => rows.some((row) => row.cells.some((cell) => cell.state === state));
  return {
    runs,
    maps,
    scale,
    has: {
      scored: occurs('scored'),
      failed: occurs('failed'),
      diverged: occurs('diverged'),
      missing: occurs('missing'),
      selected: rows.some((row) => row.selected),
    },
  };
}

const isOfMap = (a: GlueRow, b: GlueRow) => modelOf(a) === modelOf(b);
const isSame = (a: Run, b: Run) => a.pretrain_seed === b.pretrain_seed && a.seed === b.seed;

function runsOf(scores: GlueScore[]): Run[] {
  const sorted = [...scores].sort((a, b) => a.pretrain_seed - b.pretrain_seed || a.seed - b.seed);
  return sorted
    .filter((run, i) => i === 0 || !isSame(run, sorted[i - 1]!))
    .map(({ pretrain_seed, seed }) => ({ pretrain_seed, seed }));
}

function heatRow(at: number, rows: GlueRow[], runs: Run[], severalSeeds: boolean, scale: Scale | null): HeatRow {
  const row = rows.find((row) => row.learning_rate === at);
  const results = new Map(row?.scores.map((run) => [`${run.pretrain_seed} ${run.seed}`, run]));
  return {
    rate: at,
    selected: row?.selected ?? false,
    cells: runs.map((run) => {
      const came = results.get(`${run.pretrain_seed} ${run.seed}`);
      return { ...outcome(came, scale), title: `${runName(run, severalSeeds)}, ${rate(at)}: ${resultText(came)}` };
    }),
  };
}

function outcome(run: GlueScore | undefined, scale: Scale | null): Outcome {
  if (run === undefined) return { state: 'missing' };
  if (run.score === null) return { state: 'diverged' };
  return run.failed || scale === null ? { state: 'failed' } : { state: 'scored', position: scale(run.score) };
}

function resultText(run: GlueScore | undefined): string {
  if (run === undefined) return 'no result';
  if (run.score === null) return 'diverged';
  return `${score(run.score)}${run.failed ? ', at or below the majority' : ''}`;
}

function spoken(name: string, rows: GlueRow[]): string {
  const runs = rows.flatMap((row) => row.scores);
  const scores = runs.flatMap((run) => (run.score === null ? [] : [run.score]));
  const failed = runs.filter((run) => run.failed).length;
  const selected = rows.find((row) => row.selected);
  return [
    `${name}: scores by learning rate and run`,
    ...(scores.length > 0 ? [`${score(Math.min(...scores))} to ${score(Math.max(...scores))}`] : []),
    `${failed} of ${runs.length} at or below the majority, or diverged`,
    ...(selected ? [`selected rate ${rate(selected.learning_rate)}`] : []),
  ].join(', ');
}

/** Number of colours of the scale, `--heat-0` to `--heat-6` in the style sheet. */
export const HEATS = 7;

/** The colour of a position, in CSS. */
export function heat(position: number): string {
  const at = Math.min(Math.max(position, 0), 1) * (HEATS - 1);
  const below = Math.min(Math.floor(at), HEATS - 2);
  const share = Math.round((at - below) * 100);
  return `color-mix(in srgb, var(--heat-${below + 1}) ${share}%, var(--heat-${below}))`;
}

/** Largest width of a column, and the gap between two pre-train seeds, in pixels. */
const WIDEST = 32;
const BETWEEN_CHECKPOINTS = 5;

export interface Columns {
  /** Left ends of the columns. */
  xs: number[];
  /** Distance between two columns of one pre-train seed. */
  pitch: number;
  /** Meaning of the labels: pre-train seeds, or seeds if all runs share one pre-train seed. */
  name: string;
  labels: { x: number; text: string }[];
}

/** Places runs side by side within `width` pixels; those of one pre-train seed stand closer together. */
export function columns(runs: Run[], width: number): Columns {
  const starts = runs.flatMap((run, i) => (i === 0 || run.pretrain_seed !== runs[i - 1]!.pretrain_seed ? [i] : []));
  const checkpoints = starts.length;
  const gap = checkpoints > 1 && checkpoints < runs.length && width > 20 * checkpoints ? BETWEEN_CHECKPOINTS : 0;
  const room = Math.max(0, (width - gap * (checkpoints - 1)) / Math.max(runs.length, 1));
  // Wide columns have whole pixels: between them, a difference of one pixel would show.
  const pitch = room < 8 ? room : Math.min(Math.floor(room), WIDEST);
  let gaps = -1;
  const xs = runs.map((_, i) => {
    if (starts[gaps + 1] === i) gaps += 1;
    return i * pitch + gaps * gap;
  });
  const middle = (first: number, last: number) => (xs[first]! + xs[last]! + pitch) / 2;
  const labels =
    checkpoints > 1
      ? starts.map((start, i) => ({
          x: middle(start, (starts[i + 1] ?? runs.length) - 1),
          text: String(runs[start]!.pretrain_seed),
        }))
      : runs.map((run, i) => ({ x: middle(i, i), text: String(run.seed) }));
  return { xs, pitch, name: checkpoints > 1 ? 'pre-train seed' : 'seed', labels: thinned(labels) };
}

/** Every label, or every second, fifth and so on, so that they do not overlap. */
function thinned(labels: { x: number; text: string }[]): { x: number; text: string }[] {
  const widest = 7 * Math.max(0, ...labels.map((label) => label.text.length));
  const between = labels.length > 1 ? (labels.at(-1)!.x - labels[0]!.x) / (labels.length - 1) : Infinity;
  const step = [1, 2, 5, 10, 20, 50, 100].find((step) => step * between >= widest + 8) ?? labels.length;
  return labels.filter((_, i) => i % step === 0);
}

/** Index of the column that contains `x`, or of the next one. */
export function columnAt({ xs, pitch }: Columns, x: number): number {
  const after = xs.findIndex((left) => x < left + pitch);
  return after === -1 ? xs.length - 1 : after;
}

/** The place of a cell in a map. */
export interface Place {
  row: number;
  run: number;
}

/** The cell that a key moves to; undefined for a key that does not move. */
export function moved(key: string, at: Place, rows: number, runs: number): Place | undefined {
  const within = (row: number, run: number) => ({
    row: Math.min(Math.max(row, 0), rows - 1),
    run: Math.min(Math.max(run, 0), runs - 1),
  });
  switch (key) {
    case 'ArrowUp':
      return within(at.row - 1, at.run);
    case 'ArrowDown':
      return within(at.row + 1, at.run);
    case 'ArrowLeft':
      return within(at.row, at.run - 1);
    case 'ArrowRight':
      return within(at.row, at.run + 1);
    case 'Home':
      return within(at.row, 0);
    case 'End':
      return within(at.row, runs - 1);
    default:
      return undefined;
  }
}

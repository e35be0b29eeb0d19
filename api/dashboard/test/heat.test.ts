import { expect, test } from 'vitest';

import { columnAt, columns, heat, heatMaps, moved } from '../src/parts/heat';
import type { GlueRow, GlueReport, GlueScore } from '../src/schema';

/** A run as `[pretrain_seed, seed, score]`; the majority score is 0.5. */
type Came = [number, number, number | null];

const scores = (came: Came[]): GlueScore[] =>
  came.map(([pretrain_seed, seed, score]) => ({
    pretrain_seed,
    seed,
    score,
    selection: null,
    failed: score === null || score <= 0.5,
    hours: null,
  }));

const row = (arm: string, learning_rate: number, came: Came[], over: Partial<GlueRow> = {}): GlueRow => ({
  arm,
  keep: 'all',
  blocks: 12,
  learning_rate,
  selection: null,
  selected: false,
  n: came.length,
  mean: null,
  sd: null,
  interval: null,
  independent: 1,
  median: null,
  min: null,
  max: null,
  failed: 0,
  failed_interval: null,
  diverged: 0,
  hours: 0.02,
  best_of: [],
  scores: scores(came),
  ...over,
});

const task = (...arms: GlueRow[]): GlueReport => ({
  task: 'rte',
  metrics: ['accuracy'],
  majority_score: 0.5,
  arms,
  comparisons: [],
  selected: [],
  selected_comparisons: [],
});

test('a task of one learning rate has no heat map', () => {
  expect(heatMaps(task(row('pld', 1e-4, [[0, 0, 0.6]]), row('pre-ln', 1e-4, [[0, 0, 0.6]])))).toBeUndefined();
});

test('rates rise, and runs are sorted by pre-train seed and then by seed, as numbers', () => {
  const { maps, runs } = heatMaps(
    task(
      row('pld', 2e-4, [[1, 0, 0.6]]),
      row('pld', 2e-5, [
        [0, 10, 0.6],
        [0, 2, 0.6],
      ]),
    ),
  )!;
  expect(maps[0]!.rows.map((row) => row.rate)).toEqual([2e-5, 2e-4]);
  expect(runs.map((run) => [run.pretrain_seed, run.seed])).toEqual([
    [0, 2],
    [0, 10],
    [1, 0],
  ]);
});

test('all arms share rows, columns and scale, and a run that an arm lacks is an empty cell', () => {
  const { maps, has } = heatMaps(
    task(row('pre-ln', 1e-4, [[0, 0, 0.5 + 1e-9]]), row('pld', 1e-4, [[0, 0, 0.7]]), row('pld', 2e-4, [[0, 1, 0.6]])),
  )!;
  expect(maps.map((map) => map.rows.map((row) => row.cells.map((cell) => cell.state)))).toEqual([
    [
      ['scored', 'missing'],
      ['missing', 'missing'],
    ],
    [
      ['scored', 'missing'],
      ['missing', 'scored'],
    ],
  ]);
  const positions = maps.map((map) => map.rows[0]!.cells[0]).map((cell) => cell?.state === 'scored' && cell.position);
  expect(positions).toEqual([expect.closeTo(0), expect.closeTo(1)]);
  expect(has).toEqual({ scored: true, failed: false, diverged: false, missing: true, selected: false });
});

test('failed runs do not stretch the scale, and their titles say that they failed', () => {
  const shown = heatMaps(
    task(
      row('pld', 2e-5, [
        [0, 3, 0.682],
        [0, 4, 0.1],
      ]),
      row('pld', 1e-3, [
        [0, 3, null],
        [0, 4, 0.64],
      ]),
    ),
  )!;
  expect(shown.scale!.domain).toEqual([0.64, expect.closeTo(0.69)]);
  expect(shown.maps[0]!.rows.flatMap((row) => row.cells.map((cell) => [cell.state, cell.title]))).toEqual([
    ['scored', 'seed 3, 2e-5: 68.2'],
    ['failed', 'seed 4, 2e-5: 10.0, at or below the majority'],
    ['diverged', 'seed 3, 1e-3: diverged'],
    ['scored', 'seed 4, 1e-3: 64.0'],
  ]);
  expect(shown.maps[0]!.spoken).toBe(
    'pld: scores by learning rate and run, 10.0 to 68.2, 2 of 4 at or below the majority, or diverged',
  );
});

test('there is no scale if every run failed', () => {
  const { scale, maps } = heatMaps(task(row('pld', 1e-4, [[0, 0, 0.5]]), row('pld', 2e-4, [[0, 0, null]])))!;
  expect(scale).toBeNull();
  expect(maps[0]!.rows.map((row) => row.cells[0]!.state)).toEqual(['failed', 'diverged']);
});

test('each choice of kept blocks has a map, with its selected rate', () => {
  const of = (over: Partial<GlueRow>) => [
    row('pld', 1e-4, [[0, 0, 0.6]], over),
    row('pld', 2e-4, [[1, 0, 0.7]], { ...over, selected: true }),
  ];
  const { maps, has } = heatMaps(task(...of({}), ...of({ keep: { first: 6 }, blocks: 6 })))!;
  expect(maps.map((map) => map.note)).toEqual(['all 12 blocks', 'first 6 blocks']);
  expect(maps[1]!.rows.map((row) => row.selected)).toEqual([false, true]);
  expect(maps[1]!.rows[1]!.cells[1]!.title).toBe('seed 0, pre-train seed 1, 2e-4: 70.0');
  expect(maps[1]!.spoken).toContain('selected rate 2e-4');
  expect(has.selected).toBe(true);
});

test('a position lies between two colours of the style sheet', () => {
  expect([0, 0.25, 1, 2].map(heat)).toEqual([
    'color-mix(in srgb, var(--heat-1) 0%, var(--heat-0))',
    'color-mix(in srgb, var(--heat-2) 50%, var(--heat-1))',
    'color-mix(in srgb, var(--heat-6) 100%, var(--heat-5))',
    'color-mix(in srgb, var(--heat-6) 100%, var(--heat-5))',
  ]);
});

const runs = (pretrain: number, seeds: number) =>
  Array.from({ length: pretrain * seeds }, (_, i) => ({ pretrain_seed: Math.floor(i / seeds), seed: i % seeds }));

test.each([
  [1, 1, 310],
  [1, 100, 290],
  [1, 100, 1150],
  [100, 1, 290],
  [20, 5, 290],
  [3, 5, 310],
])('columns of %i pre-train seeds times %i stay within %i px, apart and rising', (pretrain, seeds, width) => {
  const laid = columns(runs(pretrain, seeds), width);
  expect(laid.xs).toHaveLength(pretrain * seeds);
  expect(laid.pitch).toBeGreaterThan(2);
  expect(laid.xs.at(-1)! + laid.pitch).toBeLessThanOrEqual(width + 1e-9);
  laid.xs.slice(1).forEach((x, i) => expect(x - laid.xs[i]!).toBeGreaterThanOrEqual(laid.pitch - 1e-9));
  laid.labels.slice(1).forEach((label, i) => expect(label.x - laid.labels[i]!.x).toBeGreaterThan(14));
});

test('runs of one pre-train seed stand together, above its number', () => {
  const laid = columns(runs(2, 3), 125);
  expect(laid).toEqual({
    xs: [0, 20, 40, 65, 85, 105],
    pitch: 20,
    name: 'pre-train seed',
    labels: [
      { x: 30, text: '0' },
      { x: 95, text: '1' },
    ],
  });
  expect([-3, 19, 21, 62, 90, 200].map((x) => columnAt(laid, x))).toEqual([0, 0, 1, 3, 4, 5]);
  expect(columns(runs(1, 3), 60).name).toBe('seed');
});

test('arrow keys move from cell to cell and stop at the edges', () => {
  const from = { row: 1, run: 2 };
  const to = (key: string) => moved(key, from, 3, 4);
  expect(to('ArrowUp')).toEqual({ row: 0, run: 2 });
  expect(to('ArrowRight')).toEqual({ row: 1, run: 3 });
  expect(to('Home')).toEqual({ row: 1, run: 0 });
  expect(moved('ArrowDown', { row: 2, run: 3 }, 3, 4)).toEqual({ row: 2, run: 3 });
  expect(to('Tab')).toBeUndefined();
});

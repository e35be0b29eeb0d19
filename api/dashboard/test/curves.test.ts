import { expect, test } from 'vitest';

import { common, draw, smooth, timeUnit, valueAt } from '../src/curves';
import type { Series } from '../src/schema';

function series(arm: string, seed: number, points: [step: number, value: number][], secondsPerStep = 1): Series {
  return {
    trial: `${arm}-${seed}`,
    arm,
    seeds: { init: seed, data: seed, dropout: seed, gate: seed, head: seed },
    points: points.map(([step, value]) => ({ step, value, trained_seconds: step * secondsPerStep })),
  };
}

test('seeds are grouped by arm, in the order of the job, and by seed', () => {
  const drawing = draw(
    [series('b', 1, [[0, 1]]), series('a', 0, [[0, 2]]), series('b', 0, [[0, 3]])],
    ['a', 'b'],
    'step',
  );
  expect(drawing.arms.map(({ arm, seeds }) => [arm, seeds.map((line) => line.trial)])).toEqual([
    ['a', ['a-0']],
    ['b', ['b-0', 'b-1']],
  ]);
});

test('the mean interpolates between the points of seeds that have points at different steps', () => {
  const drawing = draw(
    [
      series('a', 0, [
        [0, 10],
        [20, 6],
      ]),
      series('a', 1, [
        [0, 8],
        [10, 4],
        [20, 2],
      ]),
    ],
    ['a'],
    'step',
  );
  expect(drawing.xs).toEqual([0, 10, 20]);
  expect(drawing.arms[0]!.seeds.map((line) => line.values)).toEqual([
    [10, null, 6],
    [8, 4, 2],
  ]);
  expect(drawing.arms[0]!.mean.values).toEqual([9, 6, 4]);
});

test('a seed that starts late or ends early never moves the mean by its absence', () => {
  const drawing = draw(
    [
      series('a', 0, [
        [0, 5],
        [10, 4],
        [20, 3],
      ]),
      series('a', 1, [[10, 100]]),
    ],
    ['a'],
    'step',
  );
  expect(drawing.arms[0]!.mean.values).toEqual([null, 52, null]);
});

test('on the time axis, each arm has its own time per step', () => {
  const drawing = draw(
    [
      series(
        'slow',
        0,
        [
          [0, 9],
          [10, 5],
        ],
        2,
      ),
      series(
        'fast',
        0,
        [
          [0, 9],
          [10, 5],
        ],
        1,
      ),
    ],
    ['slow', 'fast'],
    'time',
  );
  expect(drawing.xs).toEqual([0, 10, 20]);
  expect(drawing.arms.map((arm) => arm.mean.values)).toEqual([
    [9, 7, 5],
    [9, 5, null],
  ]);
});

test('values that are no numbers are left out, and the later one of two points at one step counts', () => {
  const drawing = draw(
    [
      series('a', 0, [
        [10, 3],
        [0, 9],
        [10, 2],
        [20, NaN],
      ]),
    ],
    ['a'],
    'step',
  );
  expect([drawing.xs, drawing.arms[0]!.mean.values]).toEqual([
    [0, 10],
    [9, 2],
  ]);
  expect(draw([series('a', 0, [])], ['a'], 'step')).toEqual({ xs: [], arms: [] });
});

test('arms are compared at the last step at which all of them have a value', () => {
  const drawing = draw(
    [
      series('a', 0, [
        [0, 5],
        [10, 4],
        [20, 3],
      ]),
      series('b', 0, [
        [0, 5],
        [10, 2],
      ]),
    ],
    ['a', 'b'],
    'step',
  );
  expect(common(drawing)).toBe(1);
  expect(common(draw([], [], 'step'))).toBeUndefined();
});

test('smoothing averages the mean over its neighbours, and leaves the seeds as they are', () => {
  const drawing = draw(
    [
      series('a', 0, [
        [0, 0],
        [1, 3],
        [2, 6],
        [3, 0],
      ]),
    ],
    ['a'],
    'step',
  );
  const smoothed = smooth(drawing, 1);
  expect(smoothed.arms[0]!.mean.values).toEqual([1.5, 3, 3, 3]);
  expect(smoothed.arms[0]!.seeds).toEqual(drawing.arms[0]!.seeds);
  expect(smooth(drawing, 0)).toBe(drawing);
});

test('a reading is the value at or before the cursor, and none after the end', () => {
  expect([0, 1, 2, 3].map((at) => valueAt([1, null, 3, null], at))).toEqual([1, 1, 3, undefined]);
  expect(valueAt([null, 2], 0)).toBeUndefined();
});

test('training time is shown in the unit that suits it', () => {
  expect([20, 600, 90_000].map((seconds) => timeUnit(seconds).name)).toEqual(['seconds', 'minutes', 'hours']);
});

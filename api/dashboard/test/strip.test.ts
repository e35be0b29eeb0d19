import { expect, test } from 'vitest';

import { scaleOver, swarm } from '../src/strip';

test('a scale ends at round numbers around every value', () => {
  const x = scaleOver([0.527, 0.571, 0.602], [0, 100]);
  expect(x.domain).toEqual([0.52, 0.62]);
  expect(x.ticks).toEqual([0.52, 0.54, 0.56, 0.58, 0.6, 0.62]);
  expect([x(x.domain[0]), x(x.domain[1])]).toEqual([0, 100]);
});

test('a scale exists for a single value, for none, and for values that are no numbers', () => {
  for (const values of [[0.5], [], [0, 0], [NaN, 3], [-2, -2]]) {
    const x = scaleOver(values, [10, 90]);
    expect(x.domain[1]).toBeGreaterThan(x.domain[0]);
    for (const value of values.filter(Number.isFinite))
      expect(x(value)).toSatisfy((at: number) => at >= 10 && at <= 90);
  }
});

test('dots that do not overlap stay on the middle line', () => {
  expect(swarm([0, 20, 40], 4, 20)).toEqual([0, 0, 0]);
});

test('no two dots overlap while the row can hold them', () => {
  const xs = Array.from({ length: 40 }, (_, i) => ((i * 37) % 101) * 1.3);
  const ys = swarm(xs, 4, 1000);
  for (let i = 0; i < xs.length; i++) {
    for (let j = 0; j < i; j++) {
      expect(Math.hypot(xs[i]! - xs[j]!, ys[i]! - ys[j]!), `${i} and ${j}`).toBeGreaterThanOrEqual(8 - 1e-6);
    }
  }
});

test('equal values stack without hiding one another', () => {
  expect(new Set(swarm([50, 50, 50, 50, 50], 4, 100)).size).toBe(5);
});

test('a hundred equal values stay inside their row', () => {
  const ys = swarm(new Array<number>(100).fill(50), 4, 22);
  expect(Math.max(...ys.map(Math.abs))).toBeLessThanOrEqual(18 + 1e-9);
  expect(new Set(ys).size).toBe(100);
});

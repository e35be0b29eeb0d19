import { expect, test } from 'vitest';

import { draw, unitOf } from '../src/curves';
import { traces, weight } from '../src/parts/chart';
import type { Series } from '../src/schema';

const series = (arm: string, seed: number): Series => ({
  trial: `${arm}-${seed}`,
  arm,
  seeds: { init: seed, data: seed, dropout: seed, gate: seed, head: seed },
  points: [{ step: 0, value: seed, trained_seconds: 0 }],
});

test('seeds are drawn for few arms, and only means for many', () => {
  const drawing = draw([series('a', 0), series('a', 1), series('b', 0)], ['a', 'b'], 'step');
  const kinds = (bare: boolean) => traces(drawing, false, bare).map(({ arm, kind }) => `${kind} ${arm}`);
  expect(kinds(false)).toEqual(['seed a', 'seed a', 'mean a', 'mean b']);
  expect(kinds(true)).toEqual(['mean a', 'mean b']);
});

test('a chosen arm stands out, and the others step back without going away', () => {
  const line = { arm: 'a', kind: 'mean' as const, values: [] };
  const [alone, chosen, other] = [[], ['a'], ['b']].map((arms) => weight(line, new Set(arms), true));
  expect(alone!.alpha).toBe(1);
  expect(chosen!.width).toBeGreaterThan(alone!.width);
  expect(other!.alpha).toBeGreaterThan(0);
  expect(other!.alpha).toBeLessThan(0.3);
});

test('metrics that have a unit name it', () => {
  const metrics = ['validation_loss', 'open_blocks', 'step_seconds', 'theta'];
  expect(metrics.map(unitOf)).toEqual(['nats', 'blocks', 'seconds', '']);
});

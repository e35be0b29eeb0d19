import { expect, test } from 'vitest';

import { Rows } from '../src/rows.svelte';
import { matches, next, type Order, sorted } from '../src/sort';

test('rows without a value come last in both directions, and equal rows keep their order', () => {
  const rows = [{ at: 0, key: 2 }, { at: 1, key: null }, { at: 2, key: 1 }, { at: 3, key: 2 }];
  const order = (isFalling: boolean) => sorted(rows, (row) => row.key, isFalling).map((row) => row.at);
  expect([order(false), order(true)]).toEqual([
    [2, 0, 3, 1],
    [0, 3, 2, 1],
  ]);
});

test('numbers inside names are sorted as numbers', () => {
  expect(sorted(['pld-10', 'pld-9', 'Pld-2'], (name) => name, false)).toEqual(['Pld-2', 'pld-9', 'pld-10']);
});

test('a column is sorted up, then down, then not at all', () => {
  let order: Order | null = null;
  const seen = ['mean', 'mean', 'mean', 'mean', 'n'].map((column) => (order = next(order, column)));
  expect(seen).toEqual([
    { column: 'mean', isFalling: false },
    { column: 'mean', isFalling: true },
    null,
    { column: 'mean', isFalling: false },
    { column: 'n', isFalling: false },
  ]);
});

test('a search finds all of its words in any order', () => {
  expect(matches('Fine-tune RTE, pld, seed 0 → 3', 'rte PLD')).toBe(true);
  expect(matches('Fine-tune RTE, pld, seed 0 → 3', 'rte post')).toBe(false);
  expect(matches('anything', '  ')).toBe(true);
});

test('a long table shows its first rows until it is opened, and a table of a few rows is never folded', () => {
  const table = (length: number) => new Rows(() => Array.from({ length }, (_, i) => i), (row) => ({ row }));
  const long = table(35);
  expect([long.shown.length, long.canFold, long.canSort]).toEqual([8, true, true]);
  long.sort('row');
  long.sort('row');
  expect(long.shown[0]).toBe(34);
  long.isOpen = true;
  expect(long.shown.length).toBe(35);
  expect([table(10).shown.length, table(3).canSort]).toEqual([10, false]);
});

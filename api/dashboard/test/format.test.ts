import { expect, test } from 'vitest';

import {
  bytes,
  compact,
  duration,
  metric,
  percent,
  progress,
  rate,
  relative,
  score,
  signed,
  significant,
} from '../src/format';

/** The text with ordinary spaces in place of narrow no-break spaces. */
const plain = (text: string) => text.replaceAll('\u202f', ' ');

test.each([
  [0, '0 s'],
  [0.000184, '0.184 ms'],
  [0.1843, '184 ms'],
  [1, '1 s'],
  [1.004, '1.00 s'],
  [12.34, '12.3 s'],
  [59.94, '59.9 s'],
  [59.96, '1 min'],
  [252, '4 min 12 s'],
  [3599.6, '1 h'],
  [7500, '2 h 5 min'],
  [86_399, '1 d'],
  [273_600, '3 d 4 h'],
  [NaN, '–'],
])('%d seconds last %s', (seconds, text) => {
  expect(plain(duration(seconds))).toBe(text);
});

test.each([
  [0, 'just now'],
  [-12, '12 s ago'],
  [-200, '3 min ago'],
  [200, 'in 3 min'],
  [-7300, '2 h ago'],
  [-200_000, '2 d ago'],
])('%d seconds from now is %s', (seconds, text) => {
  const now = new Date('2026-11-23T20:00:00Z');
  expect(plain(relative(new Date(now.getTime() + seconds * 1000), now))).toBe(text);
});

test('scores are times 100, with a real minus sign and no negative zero', () => {
  expect([score(0.5319), score(-0.0261), score(-0.0001), score(null)]).toEqual(['53.2', '−2.6', '0.0', '–']);
  expect([signed(0.42, 1), signed(-0.42, 1), signed(0.04, 1), signed(-0.04, 1)]).toEqual([
    '+0.4',
    '−0.4',
    '0.0',
    '0.0',
  ]);
});

test('progress reads 100 % only when all work is done', () => {
  expect([0, 0.004, 0.9999, 1].map(progress).map(plain)).toEqual(['0 %', '0 %', '99 %', '100 %']);
  expect(plain(percent(0.2214, 1))).toBe('22.1 %');
});

test('sizes keep three digits', () => {
  expect([950, 12_345, 8.4e15, 0].map(compact).map(plain)).toEqual(['950', '12.3 k', '8400 T', '0']);
  expect([0, 1023, 85_520_809_984].map(bytes).map(plain)).toEqual(['0 B', '1023 B', '79.6 GiB']);
  expect([significant(0.18249, 3), significant(1820.4, 3)]).toEqual(['0.182', '1820']);
});

test('metric values and learning rates of any size stay readable', () => {
  expect([2.31449, 12, 0, 0.0001, null].map(metric)).toEqual(['2.314', '12.00', '0', '1.00e-4', '–']);
  expect([1e-4, 2.5e-5, 0].map(rate)).toEqual(['1e-4', '2.5e-5', '0']);
});

import { expect, test } from 'vitest';

import { laid, nearest, places, wholeTicks } from '../src/lines';

const same = (value: number) => value;

test('ticks are whole numbers, and fewer if there is less room', () => {
  expect(wholeTicks(1, 4, 400, 30)).toEqual([1, 2, 3, 4]);
  expect(wholeTicks(1, 12, 200, 30)).toEqual([2, 4, 6, 8, 10, 12]);
  expect(wholeTicks(1, 24, 240, 30)).toEqual([3, 6, 9, 12, 15, 18, 21, 24]);
  expect(wholeTicks(4.5, 6.5, 300, 30)).toEqual([5, 6]);
  expect(wholeTicks(12, 12, 300, 30)).toEqual([12]);
});

test('places are the x at which some arm has a point', () => {
  const lines = [
    { arm: 'pre-ln', points: [{ x: 12, y: 1 }] },
    { arm: 'pld', points: [4.5, 8, 12].map((x) => ({ x, y: 1 })) },
  ];
  expect(places(lines)).toEqual([4.5, 8, 12]);
  expect([nearest([4.5, 8, 12], 5.9), nearest([4.5, 8, 12], 99), nearest([], 3)]).toEqual([4.5, 12, undefined]);
});

test('a single point moves aside for a line and for another single point, and the line stays', () => {
  const point = { x: 100, y: 50 };
  const lines = [
    { arm: 'post-ln', points: [point] },
    { arm: 'pre-ln', points: [point] },
    { arm: 'pld', points: [{ x: 10, y: 20 }, point] },
  ];
  expect(laid(lines, same, same, 4)).toEqual([[{ x: 108, y: 50 }], [{ x: 92, y: 50 }], lines[2]!.points]);
  const apart = [
    { arm: 'a', points: [{ x: 100, y: 50 }] },
    { arm: 'b', points: [{ x: 100, y: 70 }] },
  ];
  expect(laid(apart, same, same, 4)).toEqual(apart.map((line) => line.points));
});

test('many single points stay where they belong', () => {
  const lines = Array.from({ length: 12 }, (_, i) => ({ arm: `${i}`, points: [{ x: 100, y: 50 }] }));
  expect(laid(lines, same, same, 4).flat().every((point) => point.x === 100)).toBe(true);
});

import { expect, test } from 'vitest';

import { timingRow } from '../src/parts/timing';

const turn = (seconds: number[], open_blocks: number[]) => ({ place: 0, warmup_seconds: [9], seconds, open_blocks });
const row = (...turns: ReturnType<typeof turn>[]) =>
  timingRow({ name: 'pld', blocks: 12, turns, tokens_per_step: 1000 });

test('an arm is shown with the mean of its turns, their range and the mean of its open blocks', () => {
  expect(row(turn([0.1, 0.3], [12, 6]), turn([0.2, 0.4], [9, 7]))).toEqual({
    arm: 'pld',
    mean: 0.25,
    turns: 2,
    range: '200\u202fms to 300\u202fms',
    open: 8.5,
    blocks: 12,
    tokens: 4000,
  });
});

test('an arm without a turn has no numbers', () => {
  expect(row()).toMatchObject({ mean: null, turns: 0, range: '', open: null, tokens: null });
});

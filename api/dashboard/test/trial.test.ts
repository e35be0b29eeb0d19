import { expect, test } from 'vitest';

import type { WaitReason } from '../src/schema';
import { fullName, isEnded, seedText, STATES, waitingWords } from '../src/trial';

function sentence(reason: WaitReason): string {
  const { before, trial, after, until } = waitingWords(reason);
  return [before + trial + after, until].filter(Boolean).join(' ');
}

test('a trial that waits for timing does not claim to wait for its pre-train trial', () => {
  expect(sentence({ for: 'trial', stage: 'timing', state: 'running' })).toBe(
    'waits for the timing trial, which is running',
  );
  expect(sentence({ for: 'trial', stage: 'pretrain', state: 'queued' })).toBe(
    'waits for its pre-train trial, which is queued',
  );
});

test('a trial that was cancelled with the one it waited for names that one', () => {
  expect(sentence({ for: 'trial', stage: 'pretrain', state: 'failed' })).toBe('its pre-train trial failed');
  expect(sentence({ for: 'trial', stage: 'timing', state: 'cancelled' })).toBe('the timing trial was cancelled');
});

test('other reasons for waiting are named', () => {
  expect(sentence({ for: 'node' })).toBe('no node is connected');
  expect(sentence({ for: 'idle_node' })).toBe('waits for a node on which nothing else runs');
  expect(sentence({ for: 'slot' })).toBe('waits for a free slot');
  const at = '2026-01-02T03:04:05Z';
  expect(sentence({ for: 'retry', attempt: 2, outcome: 'failed', failure: 'device_fault', at })).toBe(
    `attempt 2 ended as failed (device fault); the next one starts ${at}`,
  );
  expect(sentence({ for: 'retry', attempt: 1, outcome: 'lost', failure: null, at })).toBe(
    `attempt 1 ended as lost; the next one starts ${at}`,
  );
});

test('three states are final', () => {
  expect(STATES.filter((state) => isEnded({ state }))).toEqual(['succeeded', 'failed', 'cancelled']);
});

test('a fine-tune trial is named with both of its seeds', () => {
  const seeds = { init: 1, data: 4, dropout: 4, gate: 1, head: 4 };
  expect(seedText(seeds)).toBe('1 → 4');
  expect(fullName({ stage: 'finetune', task: 'cola', arm: 'pld', seeds })).toBe('Fine-tune CoLA, pld, seed 1 → 4');
});

import { expect, test } from 'vitest';

import { changesReport } from '../src/change';
import { endedWords, spans } from '../src/job';
import type { TrialView } from '../src/schema';
import { isAtMajority, keysOf, lossOf, scoreOf, searchedText, totalOf } from '../src/trials';

const plain = (texts: string[]) => texts.map((text) => text.replaceAll('\u202f', ' '));
const NOW = new Date('2026-01-02T03:30:00Z');
const made = { created_at: '2026-01-02T03:00:00Z', started_at: null, finished_at: null };

test('waiting and running are told apart', () => {
  const started = { ...made, started_at: '2026-01-02T03:05:00Z' };
  const finished_at = '2026-01-02T03:20:00Z';
  expect(plain(spans({ ...started, finished_at }, NOW))).toEqual(['waited 5 min', 'ran 15 min']);
  expect(plain(spans(started, NOW))).toEqual(['waited 5 min', 'running for 25 min']);
  expect(plain(spans({ ...made, finished_at }, NOW))).toEqual(['never ran, ended 20 min later']);
  expect(spans(made, NOW)).toEqual([]);
});

const counts = { blocked: 0, queued: 0, running: 0, paused: 0, succeeded: 31, failed: 1, cancelled: 2 };

test('a cancelled job is not called done', () => {
  expect(endedWords({ trials: counts })).toBe('31 of 34 trials succeeded');
  expect(endedWords({ trials: { ...counts, failed: 0, cancelled: 0 } })).toBe('31 trials');
  expect(endedWords({ trials: { ...counts, succeeded: 0 } })).toBe('none of 3 trials succeeded');
});

const change = (state: string) => ({ event: 'trial', data: JSON.stringify({ at: made.created_at, data: { state } }) });

test('only a trial that has ended changes the report', () => {
  expect(['succeeded', 'failed', 'running', 'queued'].map((state) => changesReport(change(state)))).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(['poll', 'job', 'progress', 'evaluated'].map((event) => changesReport({ event, data: '' }))).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(changesReport({ event: 'trial', data: 'no JSON' })).toBe(true);
});

const trial = {
  stage: 'finetune', task: 'rte', arm: 'pld', state: 'succeeded', node: 'gpu-01', learning_rate: 1e-4, failure: null,
  id: '0199', seeds: { init: 1, data: 2, dropout: 2, gate: 1, head: 2 }, step: 9, trained_seconds: 0, attempt_count: 1,
  report: { stage: 'finetune', score: 0.527, majority_score: 0.527 },
} as unknown as TrialView;

test('a fine-tune trial has a score, a pre-train trial a loss', () => {
  const report = { stage: 'pretrain', validation_loss: 3.1 } as TrialView['report'];
  expect([scoreOf(trial), lossOf(trial), isAtMajority(trial)]).toEqual([0.527, null, true]);
  expect([scoreOf({ report }), lossOf({ report }), isAtMajority({ report })]).toEqual([null, 3.1, false]);
  expect(keysOf(trial)).toMatchObject({ score: 0.527, loss: null, trained: null, seeds: 1_000_002 });
  expect(searchedText(trial)).toContain('Fine-tune RTE, pld, seed 1 → 2 succeeded 0199 gpu-01 rate 1e-4');
});

test('how many trials a filter leaves is known only where the job counts them', () => {
  expect(totalOf(counts, {})).toBe(34);
  expect(totalOf(counts, { state: 'cancelled' })).toBe(2);
  expect(totalOf(counts, { arm: 'pld', state: 'failed' })).toBeNull();
});

import { expect, test } from 'vitest';

import { lossTable, pValue, taskTable } from '../src/parts/strips';
import { verdicts } from '../src/parts/verdict';
import type { Comparison, GlueTask, Report } from '../src/report';

const comparison = (over: Partial<Comparison>): Comparison => ({
  arm: 'pld',
  learning_rate: null,
  baseline_learning_rate: null,
  keep: null,
  blocks: null,
  n_pairs: 3,
  mean_difference: 0.01,
  interval: [-0.01, 0.03],
  p_paired_t: 0.2,
  p_holm: null,
  p_wilcoxon: null,
  p_brown_forsythe: null,
  ...over,
});

const COMPARED = comparison({
  learning_rate: 1e-4,
  baseline_learning_rate: 1e-4,
  keep: 'all',
  blocks: 12,
  mean_difference: 0.04,
  interval: [0.02, 0.06],
  p_holm: 0.03,
});

const RTE: GlueTask = {
  task: 'rte',
  metrics: ['accuracy'],
  majority_score: 0.527,
  arms: [
    {
      arm: 'pld',
      keep: 'all',
      blocks: 12,
      learning_rate: 1e-4,
      selection: null,
      selected: true,
      n: 3,
      mean: 0.56,
      sd: 0.02,
      interval: [0.53, 0.59],
      independent: 3,
      median: 0.55,
      min: 0.527,
      max: 0.58,
      failed: 2,
      failed_interval: [0.1, 0.9],
      diverged: 1,
      scores: [
        { seed: 0, pretrain_seed: 0, score: 0.58, selection: null, failed: false },
        { seed: 1, pretrain_seed: 0, score: 0.527, selection: null, failed: true },
        { seed: 2, pretrain_seed: 0, score: null, selection: null, failed: true },
      ],
    },
  ],
  comparisons: [COMPARED],
  selected_comparisons: [],
};

const REPORT: Report = {
  job: '1',
  name: 'x',
  baseline: 'pre-ln',
  complete: false,
  notes: [],
  glue: [RTE],
  glue_averages: [{ arm: 'pld', keep: 'all', blocks: 12, tasks: ['rte'], mean: 0.56 }],
  speed: {
    device: null,
    fit: null,
    arms: [
      {
        arm: 'pld',
        seconds_per_step: { n: 8, mean: 0.14, sd: 0.01, interval: [0.13, 0.15] },
        ratio_to_baseline: 1.28,
        ratio_interval: [1.2, 1.36],
        step_saving: 0.22,
        encoder_share: 0.9,
        closed_form_saving: 0.27,
        limit_saving: 0.24,
        share_of_limit: 0.92,
        tokens_per_second: 30_000,
        by_open: [],
      },
    ],
  },
  pretrain: [
    {
      arm: 'pre-ln',
      seeds: [{ seed: 0, steps: 9, validation_loss: 3.1, hours: 2, failure: null }],
      validation_loss: { n: 1, mean: 3.1, sd: null, interval: null },
      comparison: null,
    },
    {
      arm: 'pld',
      seeds: [{ seed: 0, steps: null, validation_loss: null, hours: null, failure: 'non_finite_loss' }],
      validation_loss: null,
      comparison: null,
    },
    { arm: 'later', seeds: [], validation_loss: null, comparison: null },
  ],
};

test('every seed that has a score is a dot, and failed ones say so', () => {
  const row = taskTable(RTE).rows[0]!;
  expect(row.dots.map((dot) => [dot.name, dot.failed])).toEqual([
    ['seed 0', false],
    ['seed 1', true],
  ]);
  expect(row.aside).toMatchObject({ text: '2 of 3', bad: true });
  expect(row.aside.title).toContain('1 diverged');
  expect(row.difference).toMatchObject({ clear: true, p: '0.030' });
});

test('the selected rate is named, and stands against the selected rate of the baseline', () => {
  const task: GlueTask = structuredClone(RTE);
  task.arms.push({ ...task.arms[0]!, learning_rate: 3e-4, selected: false });
  task.selected_comparisons = [{ ...COMPARED, baseline_learning_rate: 3e-4, mean_difference: 0.02 }];
  task.comparisons.push({ ...COMPARED, learning_rate: 3e-4, baseline_learning_rate: 3e-4, mean_difference: 0.01 });
  const { rows } = taskTable(task);
  expect(rows.map((row) => [row.note, row.difference!.mean])).toEqual([
    ['rate 1e-4, selected', 0.02],
    ['rate 3e-4', 0.01],
  ]);
  expect(rows[0]!.difference!.title).toContain('at rate 1e-4 against 3e-4');
});

test('rows of one arm are told apart by the blocks that were kept', () => {
  const task: GlueTask = structuredClone(RTE);
  task.arms.push({ ...task.arms[0]!, keep: 'every_other', blocks: 6 }, { ...task.arms[0]!, keep: { first: 6 }, blocks: 6 });
  const { rows } = taskTable(task);
  expect(rows.map((row) => row.note)).toEqual(['all 12 blocks', 'every other block, 6', 'first 6 blocks']);
  expect(rows.map((row) => row.difference?.mean)).toEqual([0.04, undefined, undefined]);
});

test('scores are shown times 100, losses as they are', () => {
  const [task, loss] = [taskTable(RTE), lossTable(REPORT.pretrain)];
  expect([task.text(0.527), task.tickText(0.57), task.differenceText(-0.0123)]).toEqual(['52.7', '57', '−1.2']);
  expect([loss.text(3.1), loss.tickText(3.1), loss.differenceText(0.5)]).toEqual(['3.100', '3.1', '+0.500']);
});

test('a diverged pre-train seed stays in the table; an arm without an ended seed does not', () => {
  const { rows } = lossTable(REPORT.pretrain);
  expect(rows.map((row) => [row.arm, row.aside.text.replaceAll('\u202f', ' ')])).toEqual([
    ['pre-ln', '2 h'],
    ['pld', '1 failed'],
  ]);
});

test('a verdict says what the interval allows, and that it cannot tell', () => {
  const [pld] = verdicts(REPORT, ['pre-ln', 'pld']);
  expect(pld!.answers.map((answer) => [answer.value, answer.words])).toEqual([
    ['1.28×', 'faster'],
    ['–', ''],
    ['1 of 1', '1 better'],
  ]);
  const vague: Report = structuredClone(REPORT);
  vague.speed!.arms[0]!.ratio_interval = [0.9, 1.4];
  vague.pretrain[1]!.comparison = comparison({});
  vague.glue[0]!.comparisons[0]!.p_holm = 0.2;
  const shallow = { ...COMPARED, keep: { first: 3 }, blocks: 3, p_holm: 0.001 };
  vague.glue[0]!.selected_comparisons = [{ ...COMPARED, p_holm: 0.2 }, shallow];
  expect(verdicts(vague, ['pld'])[0]!.answers.map((answer) => answer.words)).toEqual(
    new Array(3).fill('no clear difference'),
  );
});

test('no p-value is zero', () => {
  expect([0.0004, 0.0341, 1, null].map(pValue)).toEqual(['< 0.001', '0.034', '1.000', '']);
});

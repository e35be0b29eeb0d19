import { expect, test } from 'vitest';

import { ofOneArm } from '../src/parts/answer';
import { blockLines, blockRows, quantities } from '../src/parts/blocks';
import { memoryShown } from '../src/parts/memory';
import { speedRow } from '../src/parts/speed';
import { accuracyTable, lossTable, pValue, taskTable } from '../src/parts/strips';
import { type Asked, tally, verdicts } from '../src/parts/verdict';
import type { ArmMemory, ArmSpeed, Comparison, GlueReport, ProbeArm, Report } from '../src/schema';

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

const RTE: GlueReport = {
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
      hours: 0.02,
      best_of: [
        { runs: 2, expected: 0.575 },
        { runs: 5, expected: 0.58 },
      ],
      scores: [
        { seed: 0, pretrain_seed: 0, score: 0.58, selection: null, failed: false, hours: 0.01 },
        { seed: 1, pretrain_seed: 0, score: 0.527, selection: null, failed: true, hours: 0.02 },
        { seed: 2, pretrain_seed: 0, score: null, selection: null, failed: true, hours: null },
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
        memory: null,
        largest_batch: null,
      },
    ],
  },
  pretrain: [
    {
      arm: 'pre-ln',
      learning_rate: 1e-3,
      seeds: [{ seed: 0, steps: 9, validation_loss: 3.1, hours: 2, reference_hours: 1.5, failure: null }],
      diverged: 0,
      diverged_interval: [0, 0.79],
      validation_loss: { n: 1, mean: 3.1, sd: null, interval: null },
      comparison: null,
    },
    {
      arm: 'pld',
      learning_rate: 1e-3,
      seeds: [
        { seed: 0, steps: null, validation_loss: null, hours: null, reference_hours: null, failure: 'non_finite_loss' },
      ],
      diverged: 1,
      diverged_interval: [0.21, 1],
      validation_loss: null,
      comparison: null,
    },
    {
      arm: 'later',
      learning_rate: null,
      seeds: [],
      diverged: 0,
      diverged_interval: null,
      validation_loss: null,
      comparison: null,
    },
  ],
};

const ASKED: Asked = { arms: ['pre-ln', 'pld'], times: true, pretrains: true, tunes: true, ended: false };

test('every seed that has a score is a dot, and failed ones say so', () => {
  const row = taskTable(RTE).rows[0]!;
  expect(row.dots.map((dot) => [dot.name, dot.failed])).toEqual([
    ['seed 0', false],
    ['seed 1', true],
  ]);
  expect(row.asides).toMatchObject([{ text: '2 of 3', isBad: true }]);
  expect(row.asides[0]!.title).toContain('1 diverged');
  expect(row.difference).toMatchObject({ isClear: true, p: '0.030' });
  expect(row.dots[0]!.time).toBe('36\u202fs');
  expect(row.footnote).toBe(
    'A run takes 1\u202fmin 12\u202fs, from 36\u202fs to 1\u202fmin 12\u202fs · expected best of 2: 57.5, of 5: 58.0',
  );
});

test('the selected rate is named, and is compared with the selected rate of the baseline', () => {
  const task: GlueReport = structuredClone(RTE);
  task.arms.push({ ...task.arms[0]!, learning_rate: 3e-4, selected: false });
  task.selected_comparisons = [{ ...COMPARED, baseline_learning_rate: 3e-4, mean_difference: 0.02 }];
  task.comparisons.push({ ...COMPARED, learning_rate: 3e-4, baseline_learning_rate: 3e-4, mean_difference: 0.01 });
  const { rows } = taskTable(task);
  expect(rows.map((row) => [row.note, row.difference!.mean, row.isShownAtFirst])).toEqual([
    ['rate 1e-4, selected', 0.02, true],
    ['rate 3e-4', 0.01, false],
  ]);
  expect(rows[0]!.difference!.title).toContain('at rate 1e-4 against 3e-4');
});

test('if no rate of an arm is selected, all of its rows are shown at first', () => {
  const task: GlueReport = structuredClone(RTE);
  const [selected] = task.arms;
  const others = [3e-4, 1e-4].map((learning_rate) => ({ ...selected!, arm: 'x', learning_rate, selected: false }));
  task.arms = [selected!, { ...selected!, learning_rate: 3e-4, selected: false }, ...others];
  expect(taskTable(task).rows.map((row) => row.isShownAtFirst)).toEqual([true, false, true, true]);
});

test('rows of one arm are told apart by the blocks that were kept', () => {
  const task: GlueReport = structuredClone(RTE);
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

test('accuracies of images are shown times 100, with their own difference', () => {
  const arms = structuredClone(REPORT.pretrain);
  for (const arm of arms) for (const seed of arm.seeds) seed.validation_accuracy = 0.9;
  arms[0]!.validation_accuracy = { ...arms[0]!.validation_loss!, mean: 0.9 };
  arms[1]!.accuracy_comparison = comparison({ mean_difference: -0.02 });
  const table = accuracyTable(arms);
  expect([table.text(0.9123), table.tickText(0.5), table.differenceText(-0.02)]).toEqual(['91.23', '50', '−2.00']);
  expect(table.rows.map((row) => row.mean)).toEqual([0.9, null]);
  expect(table.rows[0]!.dots.map((dot) => dot.value)).toEqual(arms[0]!.seeds.map(() => 0.9));
  expect(table.rows[1]!.difference?.mean).toBe(-0.02);
});

test('a diverged pre-train seed is counted with its interval; an arm without an ended seed has no row', () => {
  const { asideNames, rows } = lossTable(REPORT.pretrain);
  const plain = (text: string) => text.replaceAll('\u202f', ' ');
  expect(asideNames).toEqual(['Time', 'Diverged']);
  expect(rows.map((row) => [row.arm, ...row.asides.map(({ text, detail }) => plain(`${text} ${detail}`))])).toEqual([
    ['pre-ln', '2 h ref. 1 h 30 min', '0 of 1 0–79 %'],
    ['pld', '– ', '1 of 1 21–100 %'],
  ]);
});

test('a seed that failed on its machine is no divergence', () => {
  const arms = structuredClone(REPORT.pretrain);
  arms[1]!.seeds[0]!.failure = 'out_of_memory';
  arms[1]!.diverged = 0;
  arms[1]!.diverged_interval = null;
  const { asideNames, rows } = lossTable(arms);
  expect(asideNames).toEqual(['Time']);
  expect(rows[1]!.asides).toMatchObject([{ text: '1 without result', isBad: true }]);
  expect(rows[1]!.asides[0]!.title).toContain('out of memory');
});

test('a learning rate that all arms share stands in the heading, different ones in the rows', () => {
  const shared = lossTable(REPORT.pretrain);
  expect([shared.subtitle, ...shared.rows.map((row) => row.note)]).toEqual([
    'at the end of pre-training, learning rate 1e-3',
    '',
    '',
  ]);
  const arms = structuredClone(REPORT.pretrain);
  arms[1]!.learning_rate = 4e-3;
  const different = lossTable(arms);
  expect([different.subtitle, ...different.rows.map((row) => row.note)]).toEqual([
    'at the end of pre-training',
    'rate 1e-3',
    'rate 4e-3',
  ]);
});

test('a verdict has a number in large letters only if its interval is worth one', () => {
  const said = (report: Report) =>
    verdicts(report, ASKED)[0]!.answers.map(({ kind, value, words }) => [kind, value, words]);
  expect(said(REPORT)).toEqual([
    ['better', '1.28×', 'faster'],
    ['none', '–', ''],
    ['better', '1 of 1', 'task better'],
  ]);
  const vague: Report = structuredClone(REPORT);
  vague.speed!.arms[0]!.ratio_interval = [0.9, 1.4];
  vague.pretrain[1]!.comparison = comparison({ interval: [-1.3, 1.5] });
  vague.glue[0]!.comparisons[0]!.p_holm = 0.2;
  const shallow = { ...COMPARED, keep: { first: 3 }, blocks: 3, p_holm: 0.001 };
  vague.glue[0]!.selected_comparisons = [{ ...COMPARED, p_holm: 0.2 }, shallow];
  expect(said(vague)).toEqual(new Array(3).fill(['open', 'cannot tell', '']));
  expect(tally(verdicts(vague, ASKED))[0]).toEqual({ question: 'Speed per step', counts: '1 cannot tell' });
});

test('an interval of many orders of magnitude is not printed, nor the number inside it', () => {
  const report: Report = structuredClone(REPORT);
  Object.assign(report.speed!.arms[0]!, { ratio_to_baseline: 5.24, ratio_interval: [0.001, 603_653_588.96] });
  const [speed] = verdicts(report, ASKED)[0]!.answers;
  expect(speed).toMatchObject({
    value: 'cannot tell',
    evidence: ['measured 5.24×', 'the turns differ too much', '8 turns'],
  });
  report.pretrain[1]!.comparison = comparison({ mean_difference: 0.04, interval: [-31.2, 30.4] });
  expect(verdicts(report, ASKED)[0]!.answers[1]).toMatchObject({
    value: 'cannot tell',
    evidence: ['measured +0.040', 'the pairs differ too much', '3 pairs', 'p = 0.200', '1 of 1 seed diverged'],
  });
  Object.assign(report.speed!.arms[0]!, { ratio_to_baseline: 5.24, ratio_interval: [1.1, 40] });
  const [wide] = verdicts(report, ASKED)[0]!.answers;
  expect(wide).toMatchObject({ value: 'faster', words: 'by how much cannot be told' });
});

test('a difference that is at most small is called the same, within a bound that holds', () => {
  const report: Report = structuredClone(REPORT);
  report.speed!.arms[0]!.ratio_interval = [0.991, 1.0203];
  report.pretrain[1]!.comparison = comparison({ mean_difference: 0.001, interval: [-0.031, 0.033] });
  const [speed, loss] = verdicts(report, ASKED)[0]!.answers;
  expect(speed!.words.replace('\u202f', ' ')).toBe('same within 3 %');
  expect(loss).toMatchObject({ kind: 'same', value: '+0.001', words: 'same within 0.04' });
});

test('a verdict on the loss says how many seeds diverged, and of an ended job what that means', () => {
  const loss = (report: Report, ended: boolean) => verdicts(report, { ...ASKED, ended })[0]!.answers[1]!;
  expect(loss(REPORT, false).evidence).toEqual(['1 of 1 seed diverged']);
  expect(loss(REPORT, true)).toMatchObject({ value: 'diverged', evidence: ['its only seed'] });
  const report = structuredClone(REPORT);
  Object.assign(report.pretrain[0]!, { diverged: 1, validation_loss: null });
  expect(loss(report, true).evidence).toEqual(['its only seed', 'so did the baseline']);
  report.pretrain[1]!.diverged = 0;
  expect(loss(report, true).evidence).toEqual(['nothing to compare with: the baseline diverged']);
  report.pretrain[1]!.comparison = comparison({});
  report.pretrain[1]!.diverged = 1;
  expect(loss(report, true).evidence).toContain('1 of 1 seed diverged');
});

test('runs that are all at the majority guess are called so, and no test is claimed to be missing', () => {
  const report: Report = structuredClone(REPORT);
  Object.assign(report.glue[0]!.arms[0]!, { failed: 3, n: 3 });
  expect(verdicts(report, ASKED)[0]!.answers[2]).toMatchObject({
    value: 'no better than a guess',
    evidence: ['all 3 runs', 'at or below the majority score'],
  });
  report.glue[0]!.arms[0]!.failed = 0;
  report.glue[0]!.comparisons[0]!.p_holm = null;
  expect(verdicts(report, ASKED)[0]!.answers[2]!.evidence[0]).toBe('all pairs differ by the same amount');
  report.glue[0]!.comparisons[0]!.n_pairs = 1;
  expect(verdicts(report, ASKED)[0]!.answers[2]!.evidence[0]).toBe('one pair: a test needs two');
});

test('a loss of another objective is not compared, and the verdict says so', () => {
  const report: Report = structuredClone(REPORT);
  report.pretrain[1]!.other_measure = true;
  expect(verdicts(report, ASKED)[0]!.answers[1]).toMatchObject({
    value: '–',
    evidence: ['another objective: not compared'],
  });
  // It is not drawn on one scale with the others either.
  report.pretrain[1]!.seeds[0]!.validation_loss = 28.1;
  expect(lossTable(report.pretrain).rows.map((row) => row.reasonNotDrawn)).toEqual(['', 'of another objective']);
});

test('a verdict answers only what the job asks', () => {
  const questions = (over: Partial<Asked>) =>
    verdicts(REPORT, { ...ASKED, ...over })[0]!.answers.map((answer) => answer.question);
  expect(questions({})).toEqual(['Speed per step', 'Validation loss', 'GLUE']);
  expect(questions({ tunes: false })).toEqual(['Speed per step', 'Validation loss']);
  expect(questions({ times: false, pretrains: false })).toEqual(['GLUE']);
});

test('an interval outside of what is possible is not shown', () => {
  const task: GlueReport = structuredClone(RTE);
  task.arms[0]!.interval = [0.57, 1.079];
  task.comparisons[0]!.interval = [-1.2, 1.6];
  const [row] = taskTable(task).rows;
  expect(row).toMatchObject({ interval: null, isVague: true, difference: { interval: null, isVague: true } });
  expect(taskTable(RTE).rows[0]).toMatchObject({ interval: [0.53, 0.59], isVague: false });
});

test('a speed that is not worth a number has none in its row either', () => {
  const [arm] = REPORT.speed!.arms;
  expect(speedRow(arm!, 'pre-ln')).toMatchObject({
    ratio: { text: '1.280×', interval: '[1.200, 1.360]', isSure: true },
    filled: 0.92,
  });
  const time = { ...arm!.seconds_per_step, interval: [-1.212, 1.618] as [number, number] };
  const wild = { ...arm!, seconds_per_step: time, ratio_interval: [0.01, 60] as [number, number], share_of_limit: 8.1 };
  expect(speedRow(wild, 'pre-ln')).toMatchObject({
    time: { interval: 'cannot tell', isSure: false },
    ratio: { interval: 'cannot tell', isSure: false },
    saving: 'cannot tell',
    share: 'cannot tell',
    filled: null,
    drawn: null,
  });
});

test('the only arm of a job has its numbers in place of a comparison', () => {
  const found = ofOneArm(REPORT).map(({ name, value, detail }) => `${name}: ${value}, ${detail}`);
  expect(found.map((text) => text.replaceAll('\u202f', ' '))).toEqual([
    'Time per step: 140 ms, mean of 8 turns',
    'Validation loss: 3.100, mean of 1 seed',
    'GLUE: 56.0, score × 100, mean of 1 task',
  ]);
});

test('no p-value is zero', () => {
  expect([0.0004, 0.0341, 1, null].map(pValue)).toEqual(['< 0.001', '0.034', '1.000', '']);
});

const MIB = 2 ** 20;
const timed = (arm: string, memory: ArmMemory | null, largest_batch: number | null = null): ArmSpeed => ({
  ...REPORT.speed!.arms[0]!,
  arm,
  memory,
  largest_batch,
});
/** `open`: open sublayers and peak in MiB, in rising order. */
const memory = (state: number, open: [number, number][]): ArmMemory => ({
  state_bytes: state * MIB,
  mean_bytes: (state + 1) * MIB,
  peak_bytes: Math.max(...open.map(([, peak]) => peak)) * MIB,
  by_open: open.map(([open_sublayers, peak]) => ({
    open_sublayers,
    steps: 2,
    peak_bytes: peak * MIB,
    mean_bytes: open.length > 1 ? (peak - 100) * MIB : null,
  })),
});

test('memory is shown in MiB, and in blocks of two sublayers', () => {
  const shown = memoryShown([
    timed('pre-ln', memory(507, [[24, 2300]]), 1440),
    timed('pld', memory(507, [[9, 1600.4], [24, 2300]]), 0),
    timed('untimed', null),
  ])!;
  expect(shown.rows[0]).toMatchObject({
    taken: { state: { text: '507' }, mean: { text: '508' }, peak: { text: '2,300' } },
    fewest: null,
    most: { blocks: 12, peak: '2,300' },
  });
  expect(shown.rows[1]).toMatchObject({ fewest: { blocks: 4.5, peak: '1,600' }, largest: 0 });
  expect(shown.rows[2]).toEqual({ arm: 'untimed', taken: null, fewest: null, most: null, largest: null });
  expect(shown).toMatchObject({ measured: true, varies: true, sought: true });
  const [peak, mean] = shown.charts;
  expect(peak!.lines.map((line) => [line.arm, line.points.length])).toEqual([
    ['pre-ln', 1],
    ['pld', 2],
  ]);
  expect(mean!.lines).toEqual([{ arm: 'pld', points: [{ x: 4.5, y: 1500.4 }, { x: 12, y: 2200 }] }]);
});

test('memory that was not measured is left out; small memory keeps a decimal', () => {
  expect(memoryShown(REPORT.speed!.arms)).toBeUndefined();
  expect(memoryShown([timed('pld', null, 8)])).toMatchObject({ measured: false, varies: false, sought: true });
  const small = memoryShown([timed('pre-ln', memory(7.25, [[4, 1234.5]]))])!;
  expect(small.rows[0]!.taken).toMatchObject({
    state: { text: '7.3' },
    mean: { text: '8.3' },
    peak: { text: '1,234.5' },
  });
  expect(small.varies).toBe(false);
});

const probe = (arm: string, removed: number[]): ProbeArm => ({
  arm,
  n: 2,
  validation_loss: 3,
  shuffled_adds: null,
  blocks: removed.map((removed_adds, i) => ({
    block: i + 1,
    removed_adds,
    swapped_adds: i + 1 < removed.length ? removed_adds / 2 : null,
    cosine: 0.9,
    distance: 4,
    gradient_norm: 0.1,
  })),
});

test('the last block has no point and no value for the swap', () => {
  const probes = [probe('pre-ln', [0.4, 0.1, 0.2]), probe('pld', [0.3, -0.02])];
  expect(blockLines(probes, 'swapped_adds').map((line) => line.points.map((point) => point.x))).toEqual([[1, 2], [1]]);
  expect(blockRows(probes, 'removed_adds')).toEqual([
    { block: 1, values: [0.4, 0.3] },
    { block: 2, values: [0.1, -0.02] },
    { block: 3, values: [0.2, null] },
  ]);
  const [removed, swapped] = quantities(probes);
  expect([removed!.text(-0.02), swapped!.text(0.2), swapped!.text(null)]).toEqual(['−0.0200', '+0.2000', '–']);
});

test('a quantity without a value in any arm is not offered', () => {
  expect(quantities([probe('tiny', [0.4])]).map((quantity) => quantity.name)).toEqual([
    'Removed',
    'Cosine',
    'Distance',
    'Gradient',
  ]);
});

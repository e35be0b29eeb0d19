import { expect, test } from 'vitest';

import { ofOneArm } from '../src/parts/answer';
import { blockLines, blockRows, quantities } from '../src/parts/blocks';
import { memoryShown } from '../src/parts/memory';
import { controlText, speedRow } from '../src/parts/speed';
import { accuracyTable, guessNote, lossTable, pValue, taskTable } from '../src/parts/strips';
import { armAnswers, clauses, columns, fixedText, otherArms, tally } from '../src/parts/verdict';
import type { ArmMemory, ArmSpeed, Comparison, GlueReport, ProbeArm, Report, Verdict } from '../src/schema';

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
  effect_size: null,
  units: 'checkpoints',
  spread: null,
  failed: { difference: 0, interval: [-0.5, 0.5], p_mcnemar: null },
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
  selected: [
    {
      arm: 'pld', keep: 'all', blocks: 12, learning_rates: [1e-4], tried: 1, n: 3, mean: 0.56, interval: [0.53, 0.59],
    },
  ],
  selected_comparisons: [],
};

const verdict = (over: Partial<Verdict>): Verdict => ({
  question: 'speed',
  outcome: 'faster',
  estimate: 1.28,
  interval: [1.2, 1.36],
  margin: 0.02,
  n: 32,
  p: 0.001,
  ...over,
});

const OPEN = 'the interval holds both no difference and one beyond the margin';
const VERDICTS: Verdict[] = [
  verdict({}),
  verdict({
    question: 'validation_loss', outcome: 'cannot_tell', estimate: 0.012, interval: [-0.02, 0.044], n: 3,
    reason: OPEN, more_seeds: [16, 27],
  }),
  verdict({
    question: 'loss_spread', outcome: 'cannot_tell', estimate: 0.7, interval: [0.2, 2.4], margin: 1.5, n: 3,
    reason: OPEN,
  }),
  verdict({
    question: 'score', task: 'rte', outcome: 'better', estimate: 0.04, interval: [0.02, 0.06], margin: 0.01, n: 3,
  }),
];
const SENTENCE =
  'pld is 1.28 times as fast per step as pre-ln (95 % 1.20 to 1.36), at a score on rte 4.0 points higher; whether it ' +
  'changes the validation loss cannot be told from 3 seeds: 16 to 27 more would tell.';

const REPORT: Report = {
  sentence: SENTENCE,
  answers: [{ arm: 'pld', sentence: SENTENCE, verdicts: VERDICTS }],
  preregistration: { digest: 'ab'.repeat(32), questions: 4, deviations: [] },
  rules: { alpha: 0.05, margins: { speed: 0.02, loss: 0.02, score: 0.01, spread: 1.5 } },
  job: '1',
  name: 'x',
  baseline: 'pre-ln',
  complete: false,
  notes: [],
  glue: [RTE],
  glue_averages: [{ arm: 'pld', keep: 'all', blocks: 12, tasks: ['rte'], mean: 0.56, interval: null }],
  speed: {
    device: null,
    rounds: 32,
    control: { ratio: 1.001, interval: [0.99, 1.01], agrees: true },
    fit: null,
    arms: [
      {
        arm: 'pld',
        seconds_per_step: 0.14,
        ratio_to_baseline: 1.28,
        ratio_interval: [1.2, 1.36],
        step_saving: 0.22,
        step_saving_interval: [0.167, 0.265],
        encoder_share: 0.9,
        closed_form_saving: 0.27,
        limit_saving: 0.24,
        share_of_limit: 0.92,
        share_of_limit_interval: [0.7, 1.1],
        first_step: null,
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
      guess_loss: 10.33,
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
      guess_loss: 10.33,
      diverged_interval: [0.21, 1],
      validation_loss: { n: 1, mean: 10.33, sd: null, interval: null },
      comparison: null,
    },
    {
      arm: 'later',
      learning_rate: null,
      seeds: [],
      diverged: 0,
      guess_loss: 10.33,
      diverged_interval: null,
      validation_loss: null,
      comparison: null,
    },
  ],
};

const { answers: ANSWERS } = REPORT;

test('every run is a dot, and failed ones say so', () => {
  const row = taskTable(RTE, ANSWERS).rows[0]!;
  // A run that diverged counts with the score of the majority class.
  expect(row.dots.map((dot) => [dot.name, dot.value, dot.failure])).toEqual([
    ['seed 0', 0.58, ''],
    ['seed 1', 0.527, 'at or below the majority guess'],
    ['seed 2', 0.527, 'diverged'],
  ]);
  expect(row.asides).toMatchObject([{ text: '2 of 3, 1 diverged', detail: 'Δ 0 points [−50, +50]', isBad: true }]);
  expect(row.difference).toMatchObject({ isTold: true, p: '0.030' });
  expect(row.dots[0]!.time).toBe('36\u202fs');
  expect(row.footnote).toBe(
    'A run takes 1\u202fmin 12\u202fs, from 36\u202fs to 1\u202fmin 12\u202fs · expected best of 2: 57.5, of 5: 58.0' +
      ' · against the baseline: paired t: p 0.200, Holm: p 0.030',
  );
});

test('the selected rate is named, and is compared with the selected rate of the baseline', () => {
  const task: GlueReport = structuredClone(RTE);
  task.arms.push({ ...task.arms[0]!, learning_rate: 3e-4, selected: false });
  task.selected_comparisons = [{ ...COMPARED, baseline_learning_rate: 3e-4, mean_difference: 0.02 }];
  task.comparisons.push({ ...COMPARED, learning_rate: 3e-4, baseline_learning_rate: 3e-4, mean_difference: 0.01 });
  const { rows } = taskTable(task, ANSWERS);
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
  expect(taskTable(task, ANSWERS).rows.map((row) => row.isShownAtFirst)).toEqual([true, false, true, true]);
});

test('rows of one arm are told apart by the blocks that were kept', () => {
  const task: GlueReport = structuredClone(RTE);
  task.arms.push({ ...task.arms[0]!, keep: 'every_other', blocks: 6 }, { ...task.arms[0]!, keep: { first: 6 }, blocks: 6 });
  const { rows } = taskTable(task, ANSWERS);
  expect(rows.map((row) => row.note)).toEqual(['all 12 blocks', 'every other block, 6', 'first 6 blocks']);
  expect(rows.map((row) => row.difference?.mean)).toEqual([0.04, undefined, undefined]);
});

test('scores are shown times 100, losses as they are', () => {
  const [task, loss] = [taskTable(RTE, ANSWERS), lossTable(REPORT.pretrain, ANSWERS)];
  expect([task.text(0.527), task.tickText(0.57), task.differenceText(-0.0123)]).toEqual(['52.7', '57', '−1.2']);
  expect([loss.text(3.1), loss.tickText(3.1), loss.differenceText(0.5)]).toEqual(['3.100', '3.1', '+0.500']);
});

test('accuracies of images are shown times 100, with their own difference', () => {
  const arms = structuredClone(REPORT.pretrain);
  for (const arm of arms) for (const seed of arm.seeds) seed.validation_accuracy = 0.9;
  arms[0]!.validation_accuracy = { ...arms[0]!.validation_loss!, mean: 0.9 };
  arms[1]!.accuracy_comparison = comparison({ mean_difference: -0.02 });
  const table = accuracyTable(arms, ANSWERS);
  expect([table.text(0.9123), table.tickText(0.5), table.differenceText(-0.02)]).toEqual(['91.23', '50', '−2.00']);
  expect(table.rows.map((row) => row.mean)).toEqual([0.9, null]);
  expect(table.rows[0]!.dots.map((dot) => dot.value)).toEqual(arms[0]!.seeds.map(() => 0.9));
  expect(table.rows[1]!.difference?.mean).toBe(-0.02);
});

test('a diverged pre-train seed is counted with its interval; an arm without an ended seed has no row', () => {
  const { asideNames, rows } = lossTable(REPORT.pretrain, ANSWERS);
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
  const { asideNames, rows } = lossTable(arms, ANSWERS);
  expect(asideNames).toEqual(['Time']);
  expect(rows[1]!.asides).toMatchObject([{ text: '1 without result', isBad: true }]);
  expect(rows[1]!.asides[0]!.title).toContain('out of memory');
});

test('a learning rate that all arms share stands in the heading, different ones in the rows', () => {
  const shared = lossTable(REPORT.pretrain, ANSWERS);
  expect([shared.subtitle, ...shared.rows.map((row) => row.note)]).toEqual([
    'at the end of pre-training, learning rate 1e-3',
    '',
    '',
  ]);
  const arms = structuredClone(REPORT.pretrain);
  arms[1]!.learning_rate = 4e-3;
  const different = lossTable(arms, ANSWERS);
  expect([different.subtitle, ...different.rows.map((row) => row.note)]).toEqual([
    'at the end of pre-training',
    'rate 1e-3',
    'rate 4e-3',
  ]);
});

const plainText = (text: string) => text.replaceAll('\u202f', ' ');

test('the answers of an arm say what the server decided, and what it rests on', () => {
  const [pld] = armAnswers(REPORT);
  const said = (of: ReturnType<typeof armAnswers>[number]['headlines']) =>
    of.map((one) => [one.question, one.kind, one.value, one.words, plainText(one.evidence.join(', '))]);
  expect(said(pld!.headlines)).toEqual([
    ['Speed per step', 'better', '1.28×', 'faster', '95 % [1.20, 1.36], margin 2 %, 32 rounds'],
    [
      'Validation loss', 'open', 'cannot tell', '',
      'found +0.012 [−0.020, +0.044], margin 0.02 nats, 3 pairs, 1 of 1 seed diverged',
    ],
    ['RTE', 'better', '+4.0', 'points better', '95 % [+2.0, +6.0], margin 1 point, 3 pairs'],
  ]);
  expect(said(pld!.spreads)).toEqual([
    ['Spread of losses', 'open', 'cannot tell', '', 'found 0.70× [0.20, 2.40], margin 1.5×, 3 pairs'],
  ]);
  const [, loss] = pld!.headlines;
  expect([loss!.reason, loss!.help, loss!.order]).toEqual([OPEN, '16 to 27 more seeds would tell', null]);
  expect(pld!.spreads[0]!.reason, 'a reason is said once').toBe('');
  expect(pld!.tasks).toEqual([]);
});

const oneAnswer = (over: Partial<Verdict>) => {
  const { headlines, spreads } = armAnswers({
    ...REPORT,
    answers: [{ arm: 'pld', sentence: '', verdicts: [verdict(over)] }],
  })[0]!;
  return [...headlines, ...spreads][0]!;
};

test('what is the same, and a ratio that is known to a factor of more than two, has no number in large letters', () => {
  const same = oneAnswer({ outcome: 'same', estimate: 1.003, interval: [0.99, 1.01] });
  expect([same.value, plainText(same.words), same.evidence]).toEqual([
    'the same',
    'within 2 %',
    ['found 1.00× [0.99, 1.01]', '32 rounds'],
  ]);
  const wide = { question: 'score_spread', outcome: 'steadier', estimate: 0.3, margin: 1.5 } as const;
  expect(oneAnswer({ ...wide, interval: [0.1, 0.8] })).toMatchObject({ value: 'steadier', words: '' });
  expect(oneAnswer({ ...wide, interval: [0.25, 0.4] })).toMatchObject({ value: '0.30×', words: 'steadier' });
});

test('an interval of many orders of magnitude is not printed, nor the number inside it', () => {
  const reason = 'the interval of the speed-up spans a factor of two';
  const speed = oneAnswer({ outcome: 'cannot_tell', estimate: 5.24, interval: [0.001, 603_653_588.96], n: 8, reason });
  expect(plainText(speed.evidence.join(', '))).toBe('margin 2 %, 8 rounds');
  expect([speed.value, speed.reason]).toEqual(['cannot tell', reason]);
  const loss = { question: 'validation_loss', outcome: 'cannot_tell', estimate: 0.04 } as const;
  const { evidence } = oneAnswer({ ...loss, interval: [-31.2, 30.4], n: 3 });
  expect(evidence).toEqual(['margin 0.02 nats', '3 pairs', '1 of 1 seed diverged']);
});

test('a single number of more seeds is no range', () => {
  const loss = { question: 'validation_loss', outcome: 'cannot_tell', reason: OPEN } as const;
  expect(oneAnswer({ ...loss, more_seeds: [1, 1] }).help).toBe('1 more seed would tell');
  expect(oneAnswer({ ...loss, more_seeds: [4, 4] }).help).toBe('4 more seeds would tell');
});

test('many arms are counted by outcome, and have a column for every question that some arm has', () => {
  const mean = verdict({ question: 'mean_score', outcome: 'same', estimate: 0.001, interval: [-0.005, 0.007] });
  const own = [verdict({ outcome: 'slower' }), mean, ...VERDICTS.slice(3)];
  const report: Report = {
    ...REPORT,
    answers: [...ANSWERS, { arm: 'x', sentence: 'x.', verdicts: own }],
  };
  const rows = armAnswers(report);
  expect(columns(rows, (row) => row.headlines).map(({ question }) => question)).toEqual([
    'Speed per step',
    'Validation loss',
    'RTE',
    'GLUE, mean',
  ]);
  expect(columns(rows, (row) => row.tasks)).toEqual([{ key: 'score rte', question: 'RTE' }]);
  expect(tally(report.answers, columns(rows, (row) => row.headlines))).toEqual([
    { question: 'Speed per step', counts: '1 faster, 1 slower' },
    { question: 'Validation loss', counts: '1 cannot tell' },
    { question: 'RTE', counts: '2 better' },
    { question: 'GLUE, mean', counts: '1 the same' },
  ]);
  expect(otherArms(report).map(({ arm }) => arm)).toEqual(['x']);
});

test('what cannot be told is a clause of its own in the sentence', () => {
  expect(clauses(SENTENCE).map(({ isOpen }) => isOpen)).toEqual([false, true]);
  expect(clauses(SENTENCE).map(({ text }) => text).join(' ')).toBe(SENTENCE);
  expect(clauses('Whether pld is faster than pre-ln cannot be told: no trial; it.')).toEqual([
    { text: 'Whether pld is faster than pre-ln cannot be told: no trial; it.', isOpen: true },
  ]);
  expect(plainText(fixedText(REPORT))).toBe(
    'Fixed at submission: 4 questions, their margins (speed 2 %, loss 0.02 nats, score 1 point, spread 1.5×), and a ' +
      'chance of at most 5 % that any verdict is wrong.',
  );
});

test('a loss of another objective is not drawn on one scale with the others', () => {
  const report: Report = structuredClone(REPORT);
  report.pretrain[1]!.other_measure = true;
  report.pretrain[1]!.seeds[0]!.validation_loss = 28.1;
  const { rows } = lossTable(report.pretrain, ANSWERS);
  expect(rows.map((row) => row.reasonNotDrawn)).toEqual(['', 'of another objective']);
});

test('a diverged seed counts in the mean as a guess, and the mean without it is drawn', () => {
  const arms = structuredClone(REPORT.pretrain);
  Object.assign(arms[1]!, { loss_without_failures: 3.2, validation_loss: { n: 2, mean: 6.77, sd: 5, interval: null } });
  const [, row] = lossTable(arms, ANSWERS).rows;
  expect(row).toMatchObject({ mean: 6.77, meanWithoutFailures: 3.2, drawnMean: 3.2 });
  expect(guessNote(arms)).toContain('the loss of a guess, 10.33,');
  expect(guessNote(arms.slice(0, 1))).toBe('');
});

test('a difference between two checkpoints says so, and the spread has its own cell', () => {
  const task: GlueReport = structuredClone(RTE);
  const spread = { scope: 'one_checkpoint', n: 3, ratio: 1.35, interval: [0.6, 3], p: 0.41 } as const;
  Object.assign(task.comparisons[0]!, { units: 'runs_of_one_checkpoint', spread, effect_size: 0.42 });
  const table = taskTable(task, ANSWERS);
  expect(table.areOfCheckpoints).toBe(true);
  expect(table.rows[0]).toMatchObject({
    spread: { text: '1.35×', interval: '[0.60, 3.00]' },
    difference: { isOfCheckpoints: true },
  });
  expect(table.rows[0]!.footnote).toContain('effect size +0.42 (Hedges’ g)');
  expect(table.rows[0]!.spread!.title).toContain('these two checkpoints, and not those of the arms');
  expect(taskTable(RTE, ANSWERS).areOfCheckpoints).toBe(false);
});

test('an interval outside of what is possible is not shown', () => {
  const task: GlueReport = structuredClone(RTE);
  task.arms[0]!.interval = [0.57, 1.079];
  task.comparisons[0]!.interval = [-1.2, 1.6];
  const [row] = taskTable(task, ANSWERS).rows;
  expect(row).toMatchObject({ interval: null, isVague: true, difference: { interval: null, isVague: true } });
  expect(taskTable(RTE, ANSWERS).rows[0]).toMatchObject({ interval: [0.53, 0.59], isVague: false });
});

test('a speed that is not worth a number has none in its row either', () => {
  const [arm] = REPORT.speed!.arms;
  expect(speedRow(arm!, 'pre-ln', ANSWERS)).toMatchObject({
    ratio: { text: '1.280×', interval: '[1.200, 1.360]' },
    isTold: true,
    saving: { text: '22.0\u202f%', interval: '[16.7, 26.5]' },
    share: { text: '92\u202f%', interval: '[70, 110]' },
    filled: 0.92,
  });
  const wild = { ...arm!, ratio_interval: [0.01, 60] as [number, number], share_of_limit: 8.1 };
  expect(speedRow(wild, 'pre-ln', [])).toMatchObject({
    ratio: { interval: 'cannot tell' },
    isTold: false,
    saving: { text: 'cannot tell' },
    share: { text: 'cannot tell' },
    filled: null,
    drawn: null,
  });
  const share = { ...arm!, share_of_limit_interval: [-0.4, 2.1] as [number, number] };
  expect(speedRow(share, 'pre-ln', ANSWERS).share.text).toBe('cannot tell');
});

test('the baseline against itself is said in numbers', () => {
  expect(controlText(REPORT.speed!.control!)).toBe('1.001× [0.990, 1.010]');
  expect(controlText({ ratio: 0.6, interval: [0.02, 30], agrees: true })).toBe('cannot tell');
});

test('the only arm of a job has its numbers in place of a comparison', () => {
  const found = ofOneArm(REPORT).map(({ name, value, detail }) => `${name}: ${value}, ${detail}`);
  expect(found.map((text) => text.replaceAll('\u202f', ' '))).toEqual([
    'Time per step: 140 ms, over 32 rounds',
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

/** This module turns the report into the contents of strip tables: the rows, and the content of each cell. */

import { duration, rate, score, signed, words } from '../format';
import type {
  Answer, Comparison, FailedDifference, GlueReport, GlueRow, GlueScore, PretrainArm, PretrainSeed, Question,
  SpreadRatio,
} from '../schema';
import { depthOf, keptBlocks, modelOf, taskName } from '../trial';
import { type Interval, isPossible, isWritable } from './worth';

/** A run that has a value. */
export interface Dot {
  value: number;
  /** Why the run failed, such as a score at or below the majority guess; empty if it did not. */
  failure: string;
  /** Name of the run, for the tooltip and the list of all values. */
  name: string;
  /** Training time of the run; empty if it is not known. */
  time: string;
}

export interface StripRow {
  arm: string;
  /** Tells rows of one arm apart; empty if it has one row. */
  note: string;
  /** True for the rows that are shown before the reader asks for all. */
  isShownAtFirst: boolean;
  dots: Dot[];
  /** The reason why its values are not drawn beside the others, such as another objective; empty if they are drawn. */
  reasonNotDrawn: string;
  /** The text below the list of all values: the time of a run, and the expected best of several runs. */
  footnote: string;
  mean: number | null;
  /** The mean of the runs that did not fail; null if none failed, or all did. */
  meanWithoutFailures: number | null;
  /** Where the mean is drawn; null if it is not. */
  drawnMean: number | null;
  /** Null if there is none, or if it reaches an end of the range in which values can lie. */
  interval: Interval | null;
  /** True if there are values, but so few or so different that their interval reaches an end of it. */
  isVague: boolean;
  sd: number | null;
  n: number;
  /** One for each of the table's `asideNames`. */
  asides: Aside[];
  difference: Difference | null;
  spread: Spread | null;
}

/** A cell beside the statistics: failed or diverged runs, or the training time. */
export interface Aside {
  text: string;
  /** A second, quieter line. */
  detail: string;
  title: string;
  /** True if the text says something bad. */
  isBad: boolean;
}

export interface Difference {
  mean: number;
  /** Null if there is none, or if it is wider than values can differ. */
  interval: Interval | null;
  isVague: boolean;
  p: string;
  title: string;
  /** True if the server has a verdict on it. */
  isTold: boolean;
  /** True if it is between two checkpoints, so that it says nothing about the arms. */
  isOfCheckpoints: boolean;
}

/** The spread over seeds against that of the baseline. */
export interface Spread {
  ratio: number;
  text: string;
  interval: string;
  title: string;
}

export interface StripTableContent {
  title: string;
  subtitle: string;
  asideNames: string[];
  /** The test that the p-values come from. */
  pMeaning: string;
  /** True if every difference is between two checkpoints, and not between arms. */
  areOfCheckpoints: boolean;
  rows: StripRow[];
  /** A value with which all rows are compared, drawn as a dashed line. */
  guideline: { value: number; name: string } | null;
  /** The unit of the axis. */
  unit: string;
  /** Writes a value; null is written as a dash. */
  text: (value: number | null) => string;
  tickText: (value: number) => string;
  differenceText: (value: number | null) => string;
}

export function taskTable(task: GlueReport, answers: Answer[]): StripTableContent {
  const rates = new Set(task.arms.map((arm) => arm.learning_rate));
  const depths = new Set(task.arms.map(depthOf));
  const checkpoints = new Set(task.arms.flatMap((arm) => arm.scores.map((run) => run.pretrain_seed)));
  // The models with a selected rate. Of a model without one, all rates are shown.
  const modelsWithSelection = new Set(task.arms.filter((arm) => arm.selected).map(modelOf));
  const range = rangeOf(task);
  const comparisons = task.arms.map((arm) => comparisonOf(task, arm));
  const deepest = Math.max(...task.arms.map((arm) => arm.blocks));
  return {
    title: taskName(task.task),
    subtitle: task.metrics.length > 1 ? `mean of ${task.metrics.join(' and ')}` : (task.metrics[0] ?? ''),
    asideNames: ['≤ majority'],
    pMeaning: 'Paired t test, Holm’s correction over all rows of the GLUE tables',
    areOfCheckpoints: areOfCheckpoints(comparisons),
    guideline: task.majority_score === null ? null : { value: task.majority_score, name: 'majority' },
    unit: 'score × 100',
    text: (value) => score(value),
    tickText: (value) => plain(value * 100),
    differenceText: (value) => signed(value === null ? null : value * 100, 1),
    rows: task.arms.map((arm, i) => ({
      arm: arm.arm,
      note: [
        depths.size > 1 ? keptBlocks(arm.keep, arm.blocks) : '',
        rates.size > 1 ? `rate ${rate(arm.learning_rate)}${arm.selected ? ', selected' : ''}` : '',
      ]
        .filter(Boolean)
        .join(', '),
      isShownAtFirst: arm.selected || !modelsWithSelection.has(modelOf(arm)),
      reasonNotDrawn: '',
      dots: arm.scores.flatMap((run) => {
        // A run that diverged counts with the score of the majority class.
        const value = run.score ?? task.majority_score;
        if (value === null) return [];
        const failure = run.score === null ? 'diverged' : run.failed ? AT_MAJORITY : '';
        return [{ value, failure, name: runName(run, checkpoints.size > 1), time: hoursText(run.hours) }];
      }),
      footnote: footnote(timeOf(arm), bestOf(arm), checkpointsOf(arm), testsOf(comparisons[i])),
      mean: arm.mean,
      meanWithoutFailures: arm.mean_without_failures ?? null,
      drawnMean: arm.mean,
      ...within(arm.interval, range),
      sd: arm.sd,
      n: arm.n,
      asides: [
        {
          text: `${arm.failed} of ${arm.n}${arm.diverged > 0 ? `, ${arm.diverged} diverged` : ''}`,
          detail: moreFailed(comparisons[i]?.failed),
          title: majorityTitle(arm.failed_interval, arm.diverged),
          isBad: arm.failed > 0,
        },
      ],
      difference: difference(
        comparisons[i],
        range[1] - range[0],
        // The verdict is about the selected rate of the whole model.
        arm.selected && arm.blocks === deepest && isTold(answers, arm.arm, 'score', task.task),
      ),
      spread: spread(comparisons[i]?.spread),
    })),
  };
}

const AT_MAJORITY = 'at or below the majority guess';

/** True if the server has a verdict on a question about an arm. */
function isTold(answers: Answer[], name: string, question: Question, task?: GlueReport['task']): boolean {
  const verdicts = answers.find(({ arm }) => arm === name)?.verdicts ?? [];
  return verdicts.some((one) => one.question === question && one.task === task && one.outcome !== 'cannot_tell');
}

function areOfCheckpoints(comparisons: (Comparison | null | undefined)[]): boolean {
  const known = comparisons.flatMap((comparison) => comparison ?? []);
  return known.length > 0 && known.every(({ units }) => units === 'runs_of_one_checkpoint');
}

function footnote(...parts: string[]): string {
  return parts.filter(Boolean).join(' · ');
}

/** Returns how much of the variance lies between checkpoints, and what the runs are worth; empty for one checkpoint. */
function checkpointsOf({ between_checkpoints: between, effective_n: effective, n }: GlueRow): string {
  if (between === undefined) return '';
  const worth = effective === undefined ? '' : `, so that ${n} runs say as much as ${effective.toFixed(1)} independent`;
  return `${score(between, 0)} % of the variance lies between checkpoints${worth}`;
}

/** Returns the share of failed runs against that of the baseline: `Δ +7 points [−12, +26]`. */
function moreFailed(failed: FailedDifference | undefined): string {
  if (!failed) return '';
  const [low, high] = failed.interval ?? [];
  const interval = low === undefined ? '' : ` [${signed(100 * low, 0)}, ${signed(100 * high!, 0)}]`;
  return `Δ ${signed(100 * failed.difference, 0)} points${interval}`;
}

const SCOPES: Record<SpreadRatio['scope'], string> = {
  within_checkpoints: 'fine-tune runs of one checkpoint, over the checkpoints of both arms',
  between_seeds: 'pre-train seeds that both arms share',
  one_checkpoint: 'the runs of these two checkpoints, and not those of the arms',
};

function spread(of: SpreadRatio | null | undefined): Spread | null {
  if (!of) return null;
  const { ratio, interval, scope, n, p } = of;
  const text = (value: number) => value.toFixed(value < 10 ? 2 : 0);
  return {
    ratio,
    text: `${text(ratio)}×`,
    interval: isWritable(interval) ? `[${text(interval[0])}, ${text(interval[1])}]` : interval ? 'cannot tell' : '',
    title: [
      `Standard deviation divided by that of the baseline: ${SCOPES[scope]}`,
      `over ${n} ${n === 1 ? 'value' : 'values'}${p === null ? '' : `, p ${pValue(p)}`}`,
    ].join('\n'),
  };
}

/** Returns what is known of a comparison beyond its interval and its first p-value. */
function testsOf(comparison: Comparison | null | undefined): string {
  if (!comparison) return '';
  const { effect_size: effect, p_paired_t, p_holm, p_wilcoxon, failed, spread } = comparison;
  const tests = [
    ['paired t', p_paired_t],
    ['Holm', p_holm],
    ['Wilcoxon', p_wilcoxon],
    ['equal spread', spread?.p ?? null],
    ['equal failures, McNemar', failed.p_mcnemar],
  ] as const;
  const parts = [
    effect === null ? '' : `effect size ${signed(effect, 2)} (Hedges’ g)`,
    ...tests.map(([name, p]) => (p === null ? '' : `${name}: p ${pValue(p)}`)),
  ].filter(Boolean);
  return parts.length === 0 ? '' : `against the baseline: ${parts.join(', ')}`;
}

const CORRELATIONS = new Set(['matthews', 'pearson', 'spearman']);

/** The range in which the scores of a task can lie: a correlation can be negative, a share cannot. */
export function rangeOf({ metrics }: GlueReport): Interval {
  return [metrics.some((name) => CORRELATIONS.has(name)) ? -1 : 0, 1];
}

/** The interval, if it ends where values can lie. */
function within(interval: Interval | null, range: [number, number]): Pick<StripRow, 'interval' | 'isVague'> {
  const isVague = interval !== null && !isPossible(interval, range);
  return { interval: isVague ? null : interval, isVague };
}

function hoursText(hours: number | null): string {
  return hours === null ? '' : duration(hours * 3600);
}

/** Returns a clause with the mean training time of a run, and with the shortest and the longest if they differ. */
function timeOf({ hours, scores }: GlueRow): string {
  if (hours === null) return '';
  const each = scores.flatMap((run) => (run.hours === null ? [] : [run.hours]));
  const [least, most] = [hoursText(Math.min(...each)), hoursText(Math.max(...each))];
  const spread = each.length > 1 && least !== most ? `, from ${least} to ${most}` : '';
  return `A run takes ${hoursText(hours)}${spread}`;
}

/** Returns the expected best score of several runs, for each number of runs; empty if there is none. */
function bestOf({ best_of }: GlueRow): string {
  if (best_of.length === 0) return '';
  return `expected best ${best_of.map(({ runs, expected }) => `of ${runs}: ${score(expected)}`).join(', ')}`;
}

/** Returns the name of a fine-tune run. With several checkpoints it includes the seed of the pre-training. */
export function runName(run: Pick<GlueScore, 'seed' | 'pretrain_seed'>, severalCheckpoints: boolean): string {
  return `seed ${run.seed}${severalCheckpoints ? `, pre-train seed ${run.pretrain_seed}` : ''}`;
}

/**
 * Returns the comparison that a row shows. A selected row is compared with the baseline at the baseline's own selected
 * rate, and any other row with the baseline at the same rate.
 */
function comparisonOf(task: GlueReport, row: GlueRow): Comparison | undefined {
  const isOfRow = (comparison: Comparison) =>
    comparison.learning_rate === row.learning_rate && modelOf(comparison) === modelOf(row);
  const selected = row.selected ? task.selected_comparisons.find(isOfRow) : undefined;
  // A selected row is compared like the others if no rate of the baseline is selected.
  return selected ?? task.comparisons.find(isOfRow);
}

export function lossTable(arms: PretrainArm[], answers: Answer[]): StripTableContent {
  return {
    ...pretrainTable(arms, answers, 'validation_loss', 'comparison', [0, Infinity]),
    title: 'Validation loss',
    unit: 'nats',
    text: (value) => (value === null ? '–' : value.toFixed(3)),
    tickText: plain,
    differenceText: (value) => signed(value, 3),
  };
}

/** The accuracy of classifiers of images. */
export function accuracyTable(arms: PretrainArm[], answers: Answer[]): StripTableContent {
  const table = pretrainTable(arms, answers, 'validation_accuracy', 'accuracy_comparison', [0, 1]);
  return {
    ...table,
    title: 'Validation accuracy',
    subtitle: `of classes × 100, ${table.subtitle}`,
    unit: 'accuracy × 100',
    text: (value) => (value === null ? '–' : (100 * value).toFixed(2)),
    tickText: (value) => plain(100 * value),
    differenceText: (value) => signed(value === null ? null : 100 * value, 2),
  };
}

type PretrainTable = Pick<
  StripTableContent,
  'subtitle' | 'asideNames' | 'pMeaning' | 'areOfCheckpoints' | 'guideline' | 'rows'
>;

/** Returns the table of one measure of pre-training, with a row for each arm that has a run. */
function pretrainTable(
  allArms: PretrainArm[],
  answers: Answer[],
  measure: 'validation_loss' | 'validation_accuracy',
  comparison: 'comparison' | 'accuracy_comparison',
  range: [number, number],
): PretrainTable {
  const arms = allArms.filter((arm) => arm.seeds.length > 0);
  const rates = new Set(arms.map((arm) => arm.learning_rate).filter((value) => value !== null));
  // A rate that all arms share is in the heading. Different rates are in the rows.
  const sharedRate = rates.size === 1 ? [...rates][0] : undefined;
  // A loss has no upper end; two losses differ by less than the largest one.
  const widest = Math.min(range[1], Math.max(0, ...arms.map((arm) => arm[measure]?.mean ?? 0)));
  const hasDiverged = arms.some((arm) => arm.diverged > 0);
  return {
    subtitle: `at the end of pre-training${sharedRate === undefined ? '' : `, learning rate ${rate(sharedRate)}`}`,
    asideNames: ['Time', ...(hasDiverged ? ['Diverged'] : [])],
    pMeaning: 'Paired t test',
    areOfCheckpoints: false,
    guideline: null,
    rows: arms.map((arm) => ({
      arm: arm.arm,
      note: sharedRate === undefined && arm.learning_rate !== null ? `rate ${rate(arm.learning_rate)}` : '',
      isShownAtFirst: true,
      reasonNotDrawn: arm.other_measure ? 'of another objective' : '',
      dots: arm.seeds.flatMap((seed) => {
        const value = seed[measure] ?? null;
        const name = `seed ${seed.seed}`;
        return value === null ? [] : [{ value, failure: '', name, time: hoursText(seed.hours) }];
      }),
      footnote: footnote(testsOf(arm[comparison])),
      mean: arm[measure]?.mean ?? null,
      ...withoutFailures(arm, measure),
      ...within(arm[measure]?.interval ?? null, range),
      sd: arm[measure]?.sd ?? null,
      n: arm[measure]?.n ?? 0,
      asides: [timeAside(arm), ...(hasDiverged ? [divergedAside(arm)] : [])],
      difference: difference(arm[comparison], widest, isTold(answers, arm.arm, measure)),
      spread: spread(arm[comparison]?.spread),
    })),
  };
}

/** A run that diverged counts with the loss of a guess, beside which the losses of all other runs would be one dot. */
function withoutFailures(
  arm: PretrainArm,
  measure: 'validation_loss' | 'validation_accuracy',
): Pick<StripRow, 'meanWithoutFailures' | 'drawnMean'> {
  const mean = (measure === 'validation_loss' && arm.loss_without_failures) || null;
  return { meanWithoutFailures: mean, drawnMean: arm.diverged > 0 ? mean : (arm[measure]?.mean ?? null) };
}

/** Returns what a diverged seed counts as; empty if none diverged. */
export function guessNote(arms: PretrainArm[]): string {
  const guess = arms.find((arm) => arm.diverged > 0 && arm.guess_loss !== null)?.guess_loss ?? null;
  return guess === null
    ? ''
    : ` A run that diverged counts in the mean with the loss of a guess, ${guess.toFixed(2)}, and is not drawn.`;
}

/** Returns an explanation of the second line of a time; empty if no arm has a time of the timing device. */
export function referenceNote(arms: PretrainArm[]): string {
  return arms.some((arm) => arm.seeds.some((seed) => seed.reference_hours !== null))
    ? ' Time is the training time of a run. “ref.” is the time that its steps would take on the device of the timing ' +
        'trial. This device is the same for all arms.'
    : '';
}

/** Returns the mean training time of a run, and the number of runs that have no result, not even divergence. */
function timeAside({ seeds, diverged }: PretrainArm): Aside {
  const mean = (hours: (seed: PretrainSeed) => number | null) => {
    const known = seeds.map(hours).filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const time = hoursText(mean((seed) => seed.hours));
  const reference = hoursText(mean((seed) => seed.reference_hours));
  const withoutResult = seeds.filter((seed) => seed.validation_loss === null).length - diverged;
  const kinds = new Set(seeds.flatMap((seed) => (seed.failure === null ? [] : words(seed.failure))));
  return {
    text: [time, withoutResult > 0 ? `${withoutResult} without result` : ''].filter(Boolean).join(', ') || '–',
    detail: reference && `ref. ${reference}`,
    title: [
      'Mean training time of a run, without evaluation and waiting',
      kinds.size > 0 ? `Reasons for runs without a loss: ${[...kinds].join(', ')}` : '',
    ]
      .filter(Boolean)
      .join('\n'),
    isBad: withoutResult > 0,
  };
}

/** Returns how many of the runs with a result diverged. A run that ended for another reason has no result. */
function divergedAside({ seeds, diverged, diverged_interval: interval, comparison }: PretrainArm): Aside {
  const results = seeds.filter((seed) => seed.validation_loss !== null).length + diverged;
  return {
    text: `${diverged} of ${results}`,
    detail: [interval ? `${score(interval[0], 0)}–${score(interval[1], 0)} %` : '', moreFailed(comparison?.failed)]
      .filter(Boolean)
      .join(',\n'),
    title:
      'Runs whose loss diverged or was not finite, the 95 % interval of their share, and how many more they are than ' +
      'those of the baseline',
    isBad: diverged > 0,
  };
}

/** Writes a number without the digits that binary fractions add. */
export function plain(value: number): string {
  return String(Number(value.toPrecision(6))).replace('-', '\u2212');
}

/** Writes a p-value with three digits, such as `0.034`. A value below 0.001 is `< 0.001`, so none is `0.000`. */
export function pValue(p: number | null): string {
  if (p === null) return '';
  return p < 0.001 ? '< 0.001' : p.toFixed(3);
}

/** `widest`: the most by which two values can differ. */
function difference(
  comparison: Comparison | null | undefined,
  widest: number,
  isTold: boolean,
): Difference | null {
  if (!comparison) return null;
  const { n_pairs: pairs } = comparison;
  const tests = testsOf(comparison);
  return {
    mean: comparison.mean_difference,
    ...within(comparison.interval, [-widest, widest]),
    p: pValue(comparison.p_holm ?? comparison.p_paired_t),
    title: [`over ${pairs} ${pairs === 1 ? 'pair' : 'pairs'} of seeds`, ...ratesOf(comparison), tests]
      .filter(Boolean)
      .join('\n'),
    isTold,
    isOfCheckpoints: comparison.units === 'runs_of_one_checkpoint',
  };
}

/** Returns the two learning rates that are compared, if they differ. */
function ratesOf({ learning_rate: ownRate, baseline_learning_rate: baselineRate }: Comparison): string[] {
  if (ownRate === null || baselineRate === null || ownRate === baselineRate) return [];
  return [`at rate ${rate(ownRate)} against ${rate(baselineRate)}`];
}

function majorityTitle(interval: Interval | null, diverged: number): string {
  const parts = ['Runs that score at or below the majority guess, or diverged'];
  if (diverged > 0) parts.push(`${diverged} diverged, which counts as the majority score`);
  if (interval) parts.push(`95 % interval of the share: ${score(interval[0], 0)} to ${score(interval[1], 0)} %`);
  parts.push('Δ: the share of failed runs minus that of the baseline, with its 95 % interval');
  return parts.join('\n');
}

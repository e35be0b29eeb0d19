/** From the report to the rows of a strip table: the content of each cell. */

import { duration, rate, score, signed, words } from '../format';
import type { Comparison, GlueArm, GlueReport, GlueScore, PretrainArm, PretrainSeed, Summary } from '../schema';
import { depthOf, keptBlocks, modelOf, taskName } from '../trial';

/** Both ends of a 95 % interval. */
export type Interval = NonNullable<Summary['interval']>;

export interface Dot {
  value: number;
  failed: boolean;
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
  first: boolean;
  dots: Dot[];
  /** The reason why its values are not drawn beside the others, such as another objective; empty if they are drawn. */
  apart: string;
  /** Shown below the list of all values: the time of a run, and the expected best of several runs. */
  more: string;
  mean: number | null;
  interval: Interval | null;
  sd: number | null;
  n: number;
  /** One for each of the table's `asideNames`. */
  asides: Aside[];
  difference: Difference | null;
}

/** A cell beside the statistics: failures, or the cost. */
export interface Aside {
  text: string;
  /** A second, quieter line. */
  detail: string;
  title: string;
  bad: boolean;
}

export interface Difference {
  mean: number;
  interval: Interval | null;
  p: string;
  title: string;
  /** True if 0 lies outside of the interval. */
  clear: boolean;
}

export interface Strips {
  title: string;
  subtitle: string;
  asideNames: string[];
  /** The test that the p-values come from. */
  pMeaning: string;
  rows: StripRow[];
  /** A value that all rows share, drawn as a dashed line. */
  reference: { value: number; name: string } | null;
  text: (value: number | null) => string;
  tickText: (value: number) => string;
  differenceText: (value: number | null) => string;
}

export function taskTable(task: GlueReport): Strips {
  const rates = new Set(task.arms.map((arm) => arm.learning_rate));
  const depths = new Set(task.arms.map(depthOf));
  const checkpoints = new Set(task.arms.flatMap((arm) => arm.scores.map((run) => run.pretrain_seed)));
  // Where no rate of an arm and choice of blocks is selected, all of its rates are shown.
  const selects = new Set(task.arms.filter((arm) => arm.selected).map(modelOf));
  return {
    title: taskName(task.task),
    subtitle: task.metrics.length > 1 ? `mean of ${task.metrics.join(' and ')}` : (task.metrics[0] ?? ''),
    asideNames: ['Failed'],
    pMeaning: 'Paired t test, Holm’s correction over the tasks',
    reference: task.majority_score === null ? null : { value: task.majority_score, name: 'majority' },
    text: (value) => score(value),
    tickText: (value) => plain(value * 100),
    differenceText: (value) => signed(value === null ? null : value * 100, 1),
    rows: task.arms.map((arm) => ({
      arm: arm.arm,
      note: [
        depths.size > 1 ? keptBlocks(arm.keep, arm.blocks) : '',
        rates.size > 1 ? `rate ${rate(arm.learning_rate)}${arm.selected ? ', selected' : ''}` : '',
      ]
        .filter(Boolean)
        .join(', '),
      first: arm.selected || !selects.has(modelOf(arm)),
      apart: '',
      dots: arm.scores.flatMap((run) => {
        if (run.score === null) return [];
        const name = runName(run, checkpoints.size > 1);
        return [{ value: run.score, failed: run.failed, name, time: hoursText(run.hours) }];
      }),
      more: [timeOf(arm), bestOf(arm)].filter(Boolean).join(' · '),
      mean: arm.mean,
      interval: arm.interval,
      sd: arm.sd,
      n: arm.n,
      asides: [
        {
          text: `${arm.failed} of ${arm.n}`,
          detail: '',
          title: failedTitle(arm.failed_interval, arm.diverged),
          bad: arm.failed > 0,
        },
      ],
      difference: difference(comparisonOf(task, arm)),
    })),
  };
}

function hoursText(hours: number | null): string {
  return hours === null ? '' : duration(hours * 3600);
}

/** Mean training time of a run; the shortest and the longest as well, if they differ. */
function timeOf({ hours, scores }: GlueArm): string {
  if (hours === null) return '';
  const each = scores.flatMap((run) => (run.hours === null ? [] : [run.hours]));
  const [least, most] = [hoursText(Math.min(...each)), hoursText(Math.max(...each))];
  const spread = each.length > 1 && least !== most ? `, from ${least} to ${most}` : '';
  return `A run takes ${hoursText(hours)}${spread}`;
}

function bestOf({ best_of }: GlueArm): string {
  if (best_of.length === 0) return '';
  return `expected best ${best_of.map(({ runs, expected }) => `of ${runs}: ${score(expected)}`).join(', ')}`;
}

/** Name of a fine-tune run. `severalCheckpoints`: the name includes the pre-train seed, because there are several. */
export function runName(run: Pick<GlueScore, 'seed' | 'pretrain_seed'>, severalCheckpoints: boolean): string {
  return `seed ${run.seed}${severalCheckpoints ? `, pre-train seed ${run.pretrain_seed}` : ''}`;
}

/** The comparison of a row: of a selected one with the baseline's selected rate, of any other with the same rate. */
function comparisonOf(task: GlueReport, arm: GlueArm): Comparison | undefined {
  const isOf = (c: Comparison) => c.learning_rate === arm.learning_rate && modelOf(c) === modelOf(arm);
  return (arm.selected ? task.selected_comparisons.find(isOf) : undefined) ?? task.comparisons.find(isOf);
}

export function lossTable(arms: PretrainArm[]): Strips {
  return {
    ...pretrainTable(arms, 'validation_loss', 'comparison'),
    title: 'Validation loss',
    text: (value) => (value === null ? '–' : value.toFixed(3)),
    tickText: plain,
    differenceText: (value) => signed(value, 3),
  };
}

/** The accuracy of classifiers of images. */
export function accuracyTable(arms: PretrainArm[]): Strips {
  const table = pretrainTable(arms, 'validation_accuracy', 'accuracy_comparison');
  return {
    ...table,
    title: 'Validation accuracy',
    subtitle: `of classes × 100, ${table.subtitle}`,
    text: (value) => (value === null ? '–' : (100 * value).toFixed(2)),
    tickText: (value) => plain(100 * value),
    differenceText: (value) => signed(value === null ? null : 100 * value, 2),
  };
}

type PretrainTable = Pick<Strips, 'subtitle' | 'asideNames' | 'pMeaning' | 'reference' | 'rows'>;

/** One measure of pre-training, with a row for each arm that has a seed. */
function pretrainTable(
  every: PretrainArm[],
  measure: 'validation_loss' | 'validation_accuracy',
  comparison: 'comparison' | 'accuracy_comparison',
): PretrainTable {
  const arms = every.filter((arm) => arm.seeds.length > 0);
  const rates = [...new Set(arms.flatMap((arm) => arm.learning_rate ?? []))];
  const [shared] = rates.length === 1 ? rates : [];
  const diverges = arms.some((arm) => arm.diverged > 0);
  return {
    subtitle: `at the end of pre-training${shared === undefined ? '' : `, learning rate ${rate(shared)}`}`,
    asideNames: ['Time', ...(diverges ? ['Diverged'] : [])],
    pMeaning: 'Paired t test',
    reference: null,
    rows: arms.map((arm) => ({
      arm: arm.arm,
      note: shared === undefined && arm.learning_rate !== null ? `rate ${rate(arm.learning_rate)}` : '',
      first: true,
      apart: arm.other_measure ? 'of another objective' : '',
      dots: arm.seeds.flatMap((seed) => {
        const value = seed[measure] ?? null;
        const name = `seed ${seed.seed}`;
        return value === null ? [] : [{ value, failed: seed.failure !== null, name, time: hoursText(seed.hours) }];
      }),
      more: '',
      mean: arm[measure]?.mean ?? null,
      interval: arm[measure]?.interval ?? null,
      sd: arm[measure]?.sd ?? null,
      n: arm[measure]?.n ?? 0,
      asides: [timeAside(arm), ...(diverges ? [divergedAside(arm)] : [])],
      difference: difference(arm[comparison]),
    })),
  };
}

/** Explains the second line of a time; empty if no arm has a time of the timing device. */
export function referenceNote(arms: PretrainArm[]): string {
  return arms.some((arm) => arm.seeds.some((seed) => seed.reference_hours !== null))
    ? ' Time is the training time of a seed; “ref.” is the time of its steps on the device of the timing trial, ' +
        'which all arms share.'
    : '';
}

/** Mean training time of a seed, and the seeds that failed for a reason other than divergence. */
function timeAside({ seeds, diverged }: PretrainArm): Aside {
  const mean = (hours: (seed: PretrainSeed) => number | null) => {
    const known = seeds.flatMap((seed) => hours(seed) ?? []);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const time = hoursText(mean((seed) => seed.hours));
  const reference = hoursText(mean((seed) => seed.reference_hours));
  const failed = seeds.filter((seed) => seed.validation_loss === null).length - diverged;
  const kinds = new Set(seeds.flatMap((seed) => (seed.failure === null ? [] : words(seed.failure))));
  return {
    text: [time, failed > 0 ? `${failed} failed` : ''].filter(Boolean).join(', ') || '–',
    detail: reference && `ref. ${reference}`,
    title: [
      'Mean training time of a seed, without evaluation and waiting',
      kinds.size > 0 ? `Failures: ${[...kinds].join(', ')}` : '',
    ]
      .filter(Boolean)
      .join('\n'),
    bad: failed > 0,
  };
}

/** How many of the seeds with a result diverged. A seed that failed for another reason has no result. */
function divergedAside({ seeds, diverged, diverged_interval: interval }: PretrainArm): Aside {
  const results = seeds.filter((seed) => seed.validation_loss !== null).length + diverged;
  return {
    text: `${diverged} of ${results}`,
    detail: interval ? `${score(interval[0], 0)}–${score(interval[1], 0)} %` : '',
    title: 'Seeds whose loss diverged or was not finite, and the 95 % interval of their share',
    bad: diverged > 0,
  };
}

/** A number without the digits that binary fractions add. */
export function plain(value: number): string {
  return String(Number(value.toPrecision(6))).replace('-', '\u2212');
}

/** Three digits, `0.034`, and never `0.000`. */
export function pValue(p: number | null): string {
  if (p === null) return '';
  return p < 0.001 ? '< 0.001' : p.toFixed(3);
}

function difference(of: Comparison | null | undefined): Difference | null {
  if (!of) return null;
  const p = of.p_holm ?? of.p_paired_t;
  const tests = [
    ['paired t', of.p_paired_t],
    ['Holm over the tasks', of.p_holm],
    ['Wilcoxon', of.p_wilcoxon],
    ['equal spread, Brown-Forsythe', of.p_brown_forsythe],
  ] as const;
  const known = tests.flatMap(([name, value]) => (value === null ? [] : [`${name}: p ${pValue(value)}`]));
  return {
    mean: of.mean_difference,
    interval: of.interval,
    p: pValue(p),
    title: [`over ${of.n_pairs} ${of.n_pairs === 1 ? 'pair' : 'pairs'}`, ...ratesOf(of), ...known].join('\n'),
    clear: of.interval !== null && (of.interval[0] > 0 || of.interval[1] < 0),
  };
}

/** The two rates that are compared, if they differ. */
function ratesOf({ learning_rate: own, baseline_learning_rate: baselines }: Comparison): string[] {
  if (own === null || baselines === null || own === baselines) return [];
  return [`at rate ${rate(own)} against ${rate(baselines)}`];
}

function failedTitle(interval: Interval | null, diverged: number): string {
  const parts = ['At or below the majority guess, or diverged'];
  if (diverged > 0) parts.push(`${diverged} diverged and have no score`);
  if (interval) parts.push(`95 % interval of the rate: ${score(interval[0], 0)} to ${score(interval[1], 0)} %`);
  return parts.join('\n');
}

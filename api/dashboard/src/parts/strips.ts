/** From the report to the rows of a strip table: what stands in each cell. */

import { duration, rate, score, signed, words } from '../format';
import { depthOf, keptBlocks, modelOf, taskName } from '../trial';
import type { Comparison, GlueArm, GlueScore, GlueTask, Interval, PretrainArm } from '../report';

export interface Dot {
  value: number;
  failed: boolean;
  /** Which run it is, for the tooltip and the list of all values. */
  name: string;
}

export interface StripRow {
  arm: string;
  /** What tells rows of one arm apart. */
  note: string;
  /** Whether it is among those that a reader asks for first. */
  first: boolean;
  dots: Dot[];
  /** Why its values are not drawn beside the others': they are of another measure. Empty where they are drawn. */
  apart: string;
  /** What a run takes and what the best of some is expected to be; empty where it stands elsewhere. */
  more: string;
  mean: number | null;
  interval: Interval | null;
  sd: number | null;
  n: number;
  /** The last column but one: what did not work, or what it cost. */
  aside: { text: string; title: string; bad: boolean };
  difference: Difference | null;
}

export interface Difference {
  mean: number;
  interval: Interval | null;
  p: string;
  title: string;
  /** Whether 0 lies outside of the interval. */
  clear: boolean;
}

export interface Strips {
  title: string;
  subtitle: string;
  asideName: string;
  /** Which test the p-values come from. */
  pMeaning: string;
  rows: StripRow[];
  /** A value that all rows share, drawn as a dashed line. */
  reference: { value: number; name: string } | null;
  text: (value: number | null) => string;
  tickText: (value: number) => string;
  differenceText: (value: number | null) => string;
}

export function taskTable(task: GlueTask): Strips {
  const rates = new Set(task.arms.map((arm) => arm.learning_rate));
  const depths = new Set(task.arms.map(depthOf));
  const checkpoints = new Set(task.arms.flatMap((arm) => arm.scores.map((run) => run.pretrain_seed)));
  // An arm and choice of blocks of which no rate is selected has all of them shown.
  const selects = new Set(task.arms.filter((arm) => arm.selected).map(modelOf));
  return {
    title: taskName(task.task),
    subtitle: task.metrics.length > 1 ? `mean of ${task.metrics.join(' and ')}` : (task.metrics[0] ?? ''),
    asideName: 'Failed',
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
        return [{ value: run.score, failed: run.failed, name: runName(run, checkpoints.size > 1) }];
      }),
      more: [timeOf(arm), bestOf(arm)].filter(Boolean).join(' · '),
      mean: arm.mean,
      interval: arm.interval,
      sd: arm.sd,
      n: arm.n,
      aside: {
        text: `${arm.failed} of ${arm.n}`,
        title: failedTitle(arm.failed_interval, arm.diverged),
        bad: arm.failed > 0,
      },
      difference: difference(comparisonOf(task, arm)),
    })),
  };
}

function timeOf({ hours }: GlueArm): string {
  return hours === null ? '' : `A run takes ${duration(hours * 3600)}`;
}

function bestOf({ best_of }: GlueArm): string {
  if (best_of.length === 0) return '';
  return `expected best ${best_of.map(({ runs, expected }) => `of ${runs}: ${score(expected)}`).join(', ')}`;
}

/** `severalCheckpoints`: whether the seed alone does not tell it. */
export function runName(run: Pick<GlueScore, 'seed' | 'pretrain_seed'>, severalCheckpoints: boolean): string {
  return `seed ${run.seed}${severalCheckpoints ? `, pre-train seed ${run.pretrain_seed}` : ''}`;
}

/** A selected row stands against the baseline's selected rate, any other against the same rate. */
function comparisonOf(task: GlueTask, arm: GlueArm): Comparison | undefined {
  const isOf = (c: Comparison) => c.learning_rate === arm.learning_rate && modelOf(c) === modelOf(arm);
  return (arm.selected ? task.selected_comparisons.find(isOf) : undefined) ?? task.comparisons.find(isOf);
}

export function lossTable(arms: PretrainArm[]): Strips {
  return {
    title: 'Validation loss',
    subtitle: 'at the end of pre-training',
    asideName: 'Time',
    pMeaning: 'Paired t test',
    reference: null,
    text: (value) => (value === null ? '–' : value.toFixed(3)),
    tickText: plain,
    differenceText: (value) => signed(value, 3),
    rows: pretrainRows(arms, 'validation_loss', 'comparison'),
  };
}

/** Of classifiers of images. */
export function accuracyTable(arms: PretrainArm[]): Strips {
  return {
    title: 'Validation accuracy',
    subtitle: 'of classes × 100, at the end of pre-training',
    asideName: 'Time',
    pMeaning: 'Paired t test',
    reference: null,
    text: (value) => (value === null ? '–' : (100 * value).toFixed(2)),
    tickText: (value) => plain(100 * value),
    differenceText: (value) => signed(value === null ? null : 100 * value, 2),
    rows: pretrainRows(arms, 'validation_accuracy', 'accuracy_comparison'),
  };
}

/** One measure of pre-training, of each arm that has a seed. */
function pretrainRows(
  arms: PretrainArm[],
  measure: 'validation_loss' | 'validation_accuracy',
  comparison: 'comparison' | 'accuracy_comparison',
): StripRow[] {
  return arms
    .filter((arm) => arm.seeds.length > 0)
    .map((arm) => {
      const hours = arm.seeds.flatMap((seed) => (seed.hours === null ? [] : [seed.hours]));
      const failures = arm.seeds.flatMap((seed) => (seed.failure === null ? [] : [words(seed.failure)]));
      const mean = hours.reduce((sum, value) => sum + value, 0) / hours.length;
      const summary = arm[measure];
      return {
        arm: arm.arm,
        note: '',
        first: true,
        apart: arm.other_measure ? 'of another objective' : '',
        dots: arm.seeds.flatMap((seed) => {
          const value = seed[measure] ?? null;
          return value === null ? [] : [{ value, failed: seed.failure !== null, name: `seed ${seed.seed}` }];
        }),
        more: '',
        mean: summary?.mean ?? null,
        interval: summary?.interval ?? null,
        sd: summary?.sd ?? null,
        n: summary?.n ?? 0,
        aside: {
          text: [
            ...(hours.length > 0 ? [duration(mean * 3600)] : []),
            ...(failures.length > 0 ? [`${failures.length} failed`] : []),
          ].join(', '),
          title:
            failures.length > 0 ? failures.join(', ') : 'Mean training time of a seed, without evaluation and waiting',
          bad: failures.length > 0,
        },
        difference: difference(arm[comparison] ?? undefined),
      };
    });
}

/** Without the digits that binary fractions add. */
export function plain(value: number): string {
  return String(Number(value.toPrecision(6))).replace('-', '\u2212');
}

/** 0.034, and never 0.000. */
export function pValue(p: number | null): string {
  if (p === null) return '';
  return p < 0.001 ? '< 0.001' : p.toFixed(3);
}

function difference(of: Comparison | undefined): Difference | null {
  if (of === undefined) return null;
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

/** Which rates are compared, where they differ. */
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

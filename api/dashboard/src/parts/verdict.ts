/** The questions of every job, answered for each arm: how much faster, and at the same quality? */

import { fixed, percent, plural, score, signed } from '../format';
import type { Comparison, GlueReport, Report } from '../schema';
import type { Key } from '../sort';
import { pValue } from './strips';
import { type Interval, lossWorth, ratioWorth, type Worth } from './worth';

/** `open`: the runs leave the question open. `none`: there is nothing to answer it with. */
export type Kind = 'better' | 'worse' | 'same' | 'open' | 'none';

export interface Answer {
  question: string;
  kind: Kind;
  /** What stands in large letters: a number only if its interval is worth one. */
  value: string;
  words: string;
  /** Phrases of what the answer rests on. */
  evidence: string[];
  /** The place of the answer among those of the other arms: the measured number, or null. */
  order: Key;
}

export interface Verdict {
  arm: string;
  answers: Answer[];
}

/** What a job asks of its arms, and how far it has come. */
export interface Asked {
  arms: string[];
  /** True for each stage that the job has: a job without one does not ask what it would find. */
  times: boolean;
  pretrains: boolean;
  tunes: boolean;
  /** True if no more results come. */
  ended: boolean;
}

/** A difference counts as clear if its corrected p-value is below this. */
const LEVEL = 0.05;
const CANNOT_TELL = 'cannot tell';

/** One verdict for each arm but the baseline. */
export function verdicts(report: Report, asked: Asked): Verdict[] {
  const { times, pretrains, tunes } = asked;
  const questions = [...(times ? [speed] : []), ...(pretrains ? [loss] : []), ...(tunes ? [glue] : [])];
  return asked.arms
    .filter((arm) => arm !== report.baseline)
    .map((arm) => ({ arm, answers: questions.map((answer) => answer(report, arm, asked.ended)) }));
}

/** For each question, how many arms have which answer: "12 faster, 2 slower, 20 cannot tell". */
export function tally(rows: Verdict[]): { question: string; counts: string }[] {
  return (rows[0]?.answers ?? []).map(({ question }, i) => {
    const kinds = rows.map((row) => row.answers[i]!.kind);
    const names = NAMES[question] ?? { better: 'better', worse: 'worse' };
    const words = { better: names.better, worse: names.worse, same: 'the same', open: CANNOT_TELL, none: 'no answer' };
    const counts = (['better', 'worse', 'same', 'open', 'none'] as const).flatMap((kind) => {
      const found = kinds.filter((one) => one === kind).length;
      return found === 0 ? [] : [`${found} ${words[kind]}`];
    });
    return { question, counts: counts.join(', ') };
  });
}

const SPEED = 'Speed per step';
const NAMES: Record<string, { better: string; worse: string }> = { [SPEED]: { better: 'faster', worse: 'slower' } };

function speed(report: Report, name: string, ended: boolean): Answer {
  const arm = report.speed?.arms.find((one) => one.arm === name);
  if (!arm || arm.ratio_to_baseline === null) {
    if (report.speed) return none(SPEED, 'it was not timed');
    return none(SPEED, ended ? 'the timing trial has no result' : 'not measured yet');
  }
  const { ratio_to_baseline: ratio, ratio_interval: interval } = arm;
  const worth = ratioWorth(interval);
  const number = `${fixed(ratio, 2)}×`;
  const turns = plural(arm.seconds_per_step.n, 'turn');
  const [value, words] = said(worth, number, ['faster', 'slower'], (within) => percent(roundedUp(within, 2)));
  const isNumber = value === number;
  return {
    question: SPEED,
    kind: kindOf(worth, 1),
    value,
    words,
    evidence: isNumber
      ? [`95 % ${ends(interval, (value) => fixed(value, 2))}`, turns]
      : [...(ratio > 0.1 && ratio < 10 ? [`measured ${number}`] : []), ratioWords(interval), turns],
    order: ratio,
  };
}

/** The ends of an interval, or that it is too wide for its ends to mean anything. */
function ratioWords(interval: Interval | null): string {
  if (!interval) return 'no interval';
  const [low, high] = interval;
  const isAbsurd = low <= 0 || !Number.isFinite(high) || high / low > 10;
  return isAbsurd ? 'the turns differ too much' : `95 % ${ends(interval, (value) => fixed(value, 2))}`;
}

const LOSS = 'Validation loss';

function loss(report: Report, name: string, ended: boolean): Answer {
  const arm = report.pretrain.find((arm) => arm.arm === name);
  const baseline = report.pretrain.find((arm) => arm.arm === report.baseline);
  if (arm?.other_measure) return none(LOSS, 'another objective: not compared');
  const comparison = arm?.comparison;
  const diverged = arm?.diverged ? `${arm.diverged} of ${plural(arm.seeds.length, 'seed')} diverged` : '';
  if (!comparison) return unpaired(arm, baseline, diverged, ended);
  const { mean_difference: mean, interval, n_pairs: pairs } = comparison;
  const worth = lossWorth(interval, baseline?.validation_loss?.mean ?? null);
  const number = signed(mean, 3);
  // A lower loss is better.
  const [value, words] = said(worth, number, ['worse', 'better'], (within) => fixed(roundedUp(within, 2), 2));
  return {
    question: LOSS,
    kind: kindOf(worth, -1),
    value,
    words,
    evidence: [
      ...(value === number ? [] : [`measured ${number}`]),
      ...(interval ? [lossWords(interval, baseline?.validation_loss?.mean ?? null)] : []),
      plural(pairs, 'pair'),
      ...(comparison.p_paired_t === null ? [] : [`p ${equals(pValue(comparison.p_paired_t))}`]),
      ...(diverged ? [diverged] : []),
    ],
    order: mean,
  };
}

/** The ends of an interval, or that it is wider than the loss that it is a part of. */
function lossWords(interval: Interval, baseline: number | null): string {
  const isAbsurd = baseline !== null && interval[1] - interval[0] > baseline;
  return isAbsurd ? 'the pairs differ too much' : `95 % ${ends(interval, (value) => signed(value, 3))}`;
}

type Arm = Report['pretrain'][number];

/** Why an arm has no pair of runs with the baseline. */
function unpaired(arm: Arm | undefined, baseline: Arm | undefined, diverged: string, ended: boolean): Answer {
  const isLost = (one: Arm | undefined) => one !== undefined && one.diverged > 0 && one.diverged === one.seeds.length;
  if (ended && isLost(arm)) {
    const seeds = plural(arm!.diverged, 'seed');
    const both = isLost(baseline) ? ['so did the baseline'] : [];
    return { ...none(LOSS, arm!.diverged === 1 ? 'its only seed' : `all ${seeds}`, ...both), value: 'diverged' };
  }
  if (ended && isLost(baseline)) return none(LOSS, 'nothing to compare with: the baseline diverged');
  if (diverged) return none(LOSS, diverged);
  if (!arm) return none(LOSS, 'it is not pre-trained');
  if (ended && arm.seeds.length === 0) return none(LOSS, 'no pre-train run has ended');
  return none(LOSS, ended ? 'no seed has a loss in both arms' : 'no pair of seeds has ended yet');
}

const GLUE = 'GLUE';

function glue(report: Report, name: string, ended: boolean): Answer {
  const rows = report.glue.flatMap((task) => deepest(task.arms.filter((row) => row.arm === name)));
  const [runs, guesses] = [sum(rows, (row) => row.n), sum(rows, (row) => row.failed)];
  if (runs === 0) return none(GLUE, ended ? 'no fine-tune run has a result' : 'not fine-tuned yet');
  const means = meansOf(report, name);
  if (guesses === runs) {
    const evidence = [runs === 1 ? 'its only run' : `all ${runs} runs`, 'at or below the majority score'];
    return { ...none(GLUE, ...evidence), value: 'no better than a guess' };
  }
  const compared = report.glue.flatMap((task) => deepest(comparedIn(task, name)));
  const tested = compared.filter((comparison) => comparison.p_holm !== null);
  if (tested.length === 0) return { ...none(GLUE, whyUntested(compared, ended), ...means), kind: 'open' };
  const clear = tested.filter((comparison) => comparison.p_holm! < LEVEL);
  const better = clear.filter((comparison) => comparison.mean_difference > 0).length;
  const worse = clear.length - better;
  const test = 'at p < 0.05 (Holm)';
  const noun = tested.length === 1 ? 'task' : 'tasks';
  if (clear.length === 0) {
    const differs = tested.length === 1 ? 'the task does not differ' : `none of ${tested.length} tasks differs`;
    const evidence = [`${differs} ${test}`, ...means];
    return { question: GLUE, kind: 'open', value: CANNOT_TELL, words: '', evidence, order: 0 };
  }
  return {
    question: GLUE,
    kind: better > worse ? 'better' : better < worse ? 'worse' : 'open',
    value: `${clear.length} of ${tested.length}`,
    words: better === 0 ? `${noun} worse` : worse === 0 ? `${noun} better` : `${better} better, ${worse} worse`,
    evidence: [test, ...means],
    order: better - worse,
  };
}

/** The comparisons of an arm. If no rate was selected, every rate is compared with the same rate of the baseline. */
function comparedIn(task: GlueReport, name: string): Comparison[] {
  const compared = task.selected_comparisons.length > 0 ? task.selected_comparisons : task.comparisons;
  return compared.filter((comparison) => comparison.arm === name);
}

/** The rows of the deepest model, if some were made by leaving blocks out. */
function deepest<Row extends { blocks: number | null }>(rows: Row[]): Row[] {
  const most = Math.max(...rows.map((row) => row.blocks ?? 0));
  return rows.filter((row) => (row.blocks ?? 0) === most);
}

function whyUntested(compared: Comparison[], ended: boolean): string {
  if (compared.length === 0) return ended ? 'no run has a partner in the baseline' : 'no pair of runs has ended yet';
  if (compared.every((comparison) => comparison.n_pairs < 2)) return 'one pair: a test needs two';
  return 'all pairs differ by the same amount';
}

/** The mean over the tasks, beside that of the baseline. */
function meansOf(report: Report, name: string): string[] {
  const of = (arm: string) => deepest(report.glue_averages.filter((average) => average.arm === arm))[0];
  const [own, other] = [of(name), of(report.baseline)];
  return own && other && own.tasks.length === other.tasks.length
    ? [`mean ${score(own.mean)}, baseline ${score(other.mean)}`]
    : [];
}

/** The value and the words of an answer. `ways`: what a positive and a negative difference is called. */
function said(worth: Worth, number: string, ways: [string, string], bound: (within: number) => string) {
  if (worth.kind === 'open') return [CANNOT_TELL, ''] as const;
  if (worth.kind === 'same') return [number, `same within ${bound(worth.within)}`] as const;
  const way = ways[worth.sign === 1 ? 0 : 1];
  return worth.isMeasured ? ([number, way] as const) : ([way, 'by how much cannot be told'] as const);
}

/** `good`: the sign of a difference that is an improvement. */
function kindOf(worth: Worth, good: 1 | -1): Kind {
  if (worth.kind !== 'clear') return worth.kind;
  return worth.sign === good ? 'better' : 'worse';
}

/** A bound must hold after it was rounded. */
function roundedUp(value: number, digits: number): number {
  return Math.max(Math.ceil(value * 10 ** digits - 1e-9), 1) / 10 ** digits;
}

/** `= 0.034`; a text such as `< 0.001` stays. */
function equals(p: string): string {
  return p.startsWith('<') ? p : `= ${p}`;
}

function none(question: string, ...evidence: string[]): Answer {
  return { question, kind: 'none', value: '–', words: '', evidence, order: null };
}

function ends(interval: Interval | null, text: (value: number) => string): string {
  return interval ? `[${text(interval[0])}, ${text(interval[1])}]` : '';
}

function sum<Row>(rows: Row[], value: (row: Row) => number): number {
  return rows.reduce((total, row) => total + value(row), 0);
}

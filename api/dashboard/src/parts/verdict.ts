/** The two questions of every job, answered per arm: how much faster, and at the same quality? */

import { fixed, plural, signed } from '../format';
import type { Report } from '../schema';
import { type Interval, pValue } from './strips';

export interface Answer {
  question: string;
  value: string;
  words: string;
  /** Phrases; no line breaks inside one. */
  evidence: string[];
}

export interface Verdict {
  arm: string;
  answers: Answer[];
}

/** A difference counts as clear if its corrected p-value is below this. */
const LEVEL = 0.05;

/** One verdict for each arm but the baseline. `tuned`: true if the job fine-tunes, so that GLUE is a question. */
export function verdicts(report: Report, arms: string[], tuned: boolean): Verdict[] {
  const questions = [speed, loss, ...(tuned ? [glue] : [])];
  return arms
    .filter((arm) => arm !== report.baseline)
    .map((arm) => ({ arm, answers: questions.map((answer) => answer(report, arm)) }));
}

function speed(report: Report, name: string): Answer {
  const question = 'Speed per step';
  const arm = report.speed?.arms.find((one) => one.arm === name);
  if (!arm || arm.ratio_to_baseline === null) return unknown(question, 'not measured yet');
  const interval = arm.ratio_interval;
  const words = !interval
    ? 'of the baseline’s, one round only'
    : interval[0] > 1
      ? 'faster'
      : interval[1] < 1
        ? 'slower'
        : 'no clear difference';
  return {
    question,
    value: `${fixed(arm.ratio_to_baseline, 2)}×`,
    words,
    evidence: between(interval, (value) => fixed(value, 2), plural(arm.seconds_per_step.n, 'turn')),
  };
}

function loss(report: Report, name: string): Answer {
  const question = 'Validation loss';
  const arm = report.pretrain.find((arm) => arm.arm === name);
  if (arm?.other_measure) return unknown(question, 'of another objective: not compared');
  const comparison = arm?.comparison;
  const diverged = arm?.diverged ? `${plural(arm.diverged, 'seed')} diverged` : '';
  if (!comparison) return unknown(question, diverged || 'no pair of seeds has ended yet');
  const { mean_difference: mean, interval } = comparison;
  return {
    question,
    value: signed(mean, 3),
    words: !interval
      ? 'one pair: cannot tell'
      : interval[1] < 0
        ? 'better'
        : interval[0] > 0
          ? 'worse'
          : 'no clear difference',
    evidence: between(
      interval,
      (value) => signed(value, 3),
      plural(comparison.n_pairs, 'pair'),
      comparison.p_paired_t === null ? '' : `p ${equals(pValue(comparison.p_paired_t))}`,
      diverged,
    ),
  };
}

function glue(report: Report, name: string): Answer {
  const question = 'GLUE';
  const all = report.glue.flatMap((task) => {
    // If no rate was selected, every rate is compared with the same rate of the baseline.
    const compared = task.selected_comparisons.length > 0 ? task.selected_comparisons : task.comparisons;
    const own = compared.filter((comparison) => comparison.arm === name);
    const deepest = Math.max(...own.map((comparison) => comparison.blocks ?? 0));
    return own.filter((comparison) => (comparison.blocks ?? 0) === deepest);
  });
  const tested = all.filter((comparison) => comparison.p_holm !== null);
  if (tested.length === 0)
    return unknown(question, all.length > 0 ? 'too few seeds, or no spread, to test' : 'not fine-tuned yet');
  const clear = tested.filter((comparison) => comparison.p_holm! < LEVEL);
  const better = clear.filter((comparison) => comparison.mean_difference > 0).length;
  const parts = [better > 0 ? `${better} better` : '', clear.length > better ? `${clear.length - better} worse` : ''];
  return {
    question,
    value: `${clear.length} of ${tested.length}`,
    words: clear.length === 0 ? 'no clear difference' : parts.filter(Boolean).join(', '),
    evidence: ['differ at p < 0.05', 'Holm over the tasks'],
  };
}

/** `= 0.034`; a text such as `< 0.001` stays. */
function equals(p: string): string {
  return p.startsWith('<') ? p : `= ${p}`;
}

function unknown(question: string, why: string): Answer {
  return { question, value: '–', words: '', evidence: [why] };
}

function between(interval: Interval | null, text: (value: number) => string, ...rest: string[]): string[] {
  return [interval ? `95 % [${text(interval[0])}, ${text(interval[1])}]` : '', ...rest].filter(Boolean);
}

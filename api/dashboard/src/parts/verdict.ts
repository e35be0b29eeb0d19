/** The verdicts of a report in words: the server decides, and this module says it. */

import { fixed, plural, signed } from '../format';
import type { Margins, Outcome, PretrainArm, Question, Report, Verdict } from '../schema';
import type { Key } from '../sort';
import { taskName } from '../trial';
import { plain } from './strips';
import { type Interval, isNarrow, isPossible, isWritable } from './worth';

/** How an outcome is shown. `open`: it cannot be told. */
export type Kind = 'better' | 'worse' | 'same' | 'open';

export interface Answer {
  /** Tells the answers of an arm apart; a column of the table of many arms. */
  key: string;
  question: string;
  kind: Kind;
  /** What stands in large letters: the number that was found, or the outcome if no number is worth them. */
  value: string;
  /** The outcome, or what it holds within; empty if `value` says it. */
  words: string;
  /** Phrases of what the answer rests on. */
  evidence: string[];
  /** Why it cannot be told; empty if it can, or if an earlier answer of the arm has the same reason. */
  reason: string;
  /** How many more seeds would tell. */
  help: string;
  /** What answers are sorted by: the estimate, or null if it cannot be told. */
  order: Key;
}

export interface ArmAnswers {
  arm: string;
  sentence: string;
  /** Speed, loss or accuracy, and score. */
  headlines: Answer[];
  /** How much runs differ from seed to seed. */
  spreads: Answer[];
  /** The score on each task, if there are several. */
  tasks: Answer[];
}

const CANNOT_TELL = 'cannot tell';

const OUTCOMES: Record<Outcome, { kind: Kind; text: string }> = {
  faster: { kind: 'better', text: 'faster' },
  slower: { kind: 'worse', text: 'slower' },
  better: { kind: 'better', text: 'better' },
  worse: { kind: 'worse', text: 'worse' },
  steadier: { kind: 'better', text: 'steadier' },
  less_steady: { kind: 'worse', text: 'less steady' },
  same: { kind: 'same', text: 'the same' },
  cannot_tell: { kind: 'open', text: CANNOT_TELL },
};

/** How the numbers of a question are written. */
interface Unit {
  name: (verdict: Verdict) => string;
  margin: keyof Margins;
  isRatio: boolean;
  text: (value: number) => string;
  /** What is behind a number in large letters, such as "points". */
  noun: string;
  marginText: (margin: number) => string;
}

const RATIO = { isRatio: true, text: (value: number) => `${fixed(value, 2)}×`, noun: '' };
const POINTS = {
  isRatio: false,
  margin: 'score',
  text: (value: number) => signed(100 * value, 1),
  noun: 'points',
  marginText: (margin: number) => plural(rounded(100 * margin), 'point'),
} as const;
const SPREAD = { ...RATIO, margin: 'spread', marginText: (margin: number) => `${plain(margin)}×` } as const;

const UNITS: Record<Question, Unit> = {
  speed: {
    ...RATIO,
    name: () => 'Speed per step',
    margin: 'speed',
    marginText: (margin) => `${plain(rounded(100 * margin))}\u202f%`,
  },
  validation_loss: {
    name: () => 'Validation loss',
    margin: 'loss',
    isRatio: false,
    text: (value) => signed(value, 3),
    noun: '',
    marginText: (margin) => `${plain(margin)} nats`,
  },
  validation_accuracy: { ...POINTS, name: () => 'Validation accuracy' },
  score: { ...POINTS, name: ({ task }) => (task ? taskName(task) : 'Score') },
  mean_score: { ...POINTS, name: () => 'GLUE, mean' },
  loss_spread: { ...SPREAD, name: () => 'Spread of losses' },
  score_spread: { ...SPREAD, name: () => 'Spread of scores' },
};

/** The answers of each arm, in the order of the job. */
export function armAnswers({ answers, pretrain, baseline }: Report): ArmAnswers[] {
  // Two losses that can be told apart differ by less than the loss itself.
  const loss = pretrain.find((arm) => arm.arm === baseline)?.validation_loss?.mean ?? Infinity;
  return answers.map(({ arm, sentence, verdicts }) => {
    const reasons = new Set<string>();
    const diverged = pretrain.filter((own) => own.arm === arm && own.diverged > 0).map(divergedText);
    const of = (...questions: Question[]) => {
      const asked = questions.flatMap((question) => verdicts.filter((verdict) => verdict.question === question));
      return asked.map((verdict): Answer => {
        const answer = answerOf(verdict, verdict.question === 'validation_loss' ? loss : 1);
        if (verdict.question === 'validation_loss') answer.evidence.push(...diverged);
        const isKnown = reasons.has(answer.reason);
        reasons.add(answer.reason);
        return isKnown ? { ...answer, reason: '' } : answer;
      });
    };
    const hasMean = verdicts.some((verdict) => verdict.question === 'mean_score');
    return {
      arm,
      sentence,
      headlines: of('speed', 'validation_loss', 'validation_accuracy', hasMean ? 'mean_score' : 'score'),
      spreads: of('loss_spread', 'score_spread'),
      tasks: hasMean ? of('score') : [],
    };
  });
}

function divergedText({ diverged, seeds }: PretrainArm): string {
  return `${diverged} of ${plural(seeds.length, 'seed')} diverged`;
}

/** `widest`: the most by which two values of the question can differ. */
function answerOf(verdict: Verdict, widest: number): Answer {
  const { question, task, outcome, estimate, interval, margin, n, reason, more_seeds: more } = verdict;
  const unit = UNITS[question];
  const { kind, text } = OUTCOMES[outcome];
  const isTold = kind !== 'open';
  const isLarge = estimate !== null && isTold && kind !== 'same' && (!unit.isRatio || isNarrow(interval));
  // A speed-up whose interval spans a factor of two is not written; a spread often has no narrower one.
  const isDifference = (ends: Interval | null): ends is Interval => isPossible(ends, [-widest, widest]);
  const isWorth = question === 'speed' ? isNarrow : unit.isRatio ? isWritable : isDifference;
  const end = (value: number) => unit.text(value).replace('×', '');
  const range = isWorth(interval) ? `[${end(interval[0])}, ${end(interval[1])}]` : '';
  const number = estimate === null || (interval && !range) ? '' : unit.text(estimate);
  const wordsOf = () => {
    if (kind === 'same') return `within ${unit.marginText(margin)}`;
    return isLarge ? `${unit.noun} ${text}`.trim() : '';
  };
  const pairs = question === 'speed' ? plural(n, 'round') : plural(n, 'pair');
  return {
    key: task && question === 'score' ? `${question} ${task}` : question,
    question: unit.name(verdict),
    kind,
    value: isLarge ? unit.text(estimate) : text,
    words: wordsOf(),
    evidence: [
      ...(isLarge ? [range && `95 % ${range}`] : [number && `found ${number} ${range}`.trim()]),
      ...(kind === 'same' ? [] : [`margin ${unit.marginText(margin)}`]),
      ...(n > 0 ? [pairs] : []),
    ].filter(Boolean),
    reason: reason ?? '',
    help: more ? `${seeds(more)} would tell` : '',
    order: isTold ? estimate : null,
  };
}

function seeds([few, many]: [number, number]): string {
  return few === many ? `${plural(many, 'more seed')}` : `${few} to ${many} more seeds`;
}

/** Removes what the product with 100 adds to a number. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}

/** The columns of a table of arms: every answer that some arm has, in the order of the answers. */
export function columns(rows: ArmAnswers[], part: (row: ArmAnswers) => Answer[]): { key: string; question: string }[] {
  const found = new Map(rows.flatMap(part).map(({ key, question }) => [key, question]));
  return [...found].map(([key, question]) => ({ key, question }));
}

/** For each column, how many arms have which outcome: "12 faster, 2 slower, 20 cannot tell". */
export function tally(answers: Report['answers'], columns: { key: string; question: string }[]) {
  return columns.map(({ key, question }) => {
    const outcomes = answers.flatMap(({ verdicts }) => verdicts.filter((one) => keyOf(one) === key));
    const counts = Object.entries(OUTCOMES).flatMap(([outcome, { text }]) => {
      const count = outcomes.filter((one) => one.outcome === outcome).length;
      return count === 0 ? [] : [`${count} ${text}`];
    });
    return { question, counts: counts.join(', ') };
  });
}

const keyOf = ({ question, task }: Verdict) => (task ? `${question} ${task}` : question);

/** A sentence in its clauses, of which those that say what cannot be told are quieter. */
export function clauses(sentence: string): { text: string; isOpen: boolean }[] {
  const parts = sentence.split(/(?<=;) (?=whether )/);
  return parts.map((text) => ({ text, isOpen: /^whether /i.test(text) }));
}

/** The arms that the sentence of the job does not speak of. */
export function otherArms({ sentence, answers }: Report): Report['answers'] {
  const told = answers.findIndex((answer) => answer.sentence === sentence);
  return answers.filter((_, i) => i !== told);
}

/** What was fixed before the first trial ran. */
export function fixedText({ rules: { alpha, margins = {} }, preregistration: { questions } }: Report): string {
  const { speed, loss, score, spread } = margins;
  const text = (question: Question, name: string, margin: number | undefined) =>
    margin === undefined ? [] : [`${name} ${UNITS[question].marginText(margin)}`];
  const all = [
    ...text('speed', 'speed', speed),
    ...text('validation_loss', 'loss', loss),
    ...text('mean_score', 'score', score),
    ...text('score_spread', 'spread', spread),
  ];
  const percent = alpha === undefined ? '' : `${plain(rounded(100 * alpha))}\u202f%`;
  const chance = percent && `, and a chance of at most ${percent} that any verdict is wrong`;
  return `Fixed at submission: ${plural(questions, 'question')}, their margins (${all.join(', ')})${chance}.`;
}

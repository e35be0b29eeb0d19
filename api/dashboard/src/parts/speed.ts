/** From the report to the rows of the speed table. */

import { compact, duration, fixed, percent, plural } from '../format';
import type { Answer, ArmSpeed, Control } from '../schema';
import { type Interval, isNarrow } from './worth';

/** A number with what is known of its certainty. */
export interface Estimate {
  text: string;
  /** The ends of its interval, or that there is none to rely on. */
  interval: string;
}

export interface SpeedRow {
  arm: string;
  time: string;
  /** Null for the baseline, and for an arm that is not compared. */
  ratio: Estimate | null;
  /** True if the server has a verdict on the ratio. */
  isTold: boolean;
  saving: Estimate;
  limit: string;
  share: Estimate;
  /** How much of a bar the share fills, from 0 to 1; null if the share is not known. */
  filled: number | null;
  tokens: string;
  /** What is not in a column. */
  title: string;
  /** What is drawn: the ratio, and its interval. */
  drawn: { ratio: number; interval: Interval | null } | null;
  /** Numbers to sort by. */
  keys: Record<'time' | 'ratio' | 'saving' | 'share' | 'tokens', number | null>;
}

const CANNOT_TELL = 'cannot tell';
const NONE: Estimate = { text: '–', interval: '' };

export function speedRow(arm: ArmSpeed, baseline: string, answers: Answer[]): SpeedRow {
  const { ratio_to_baseline: ratio, ratio_interval: interval, step_saving: saving, share_of_limit: share } = arm;
  const isBaseline = arm.arm === baseline;
  // From an interval that is too wide, neither a saving nor a share of the limit can be told.
  const isKnown = interval === null || isNarrow(interval);
  const isShare = isKnown && share !== null && isShareKnown(arm.share_of_limit_interval);
  const unknown: Estimate = { text: CANNOT_TELL, interval: '' };
  return {
    arm: arm.arm,
    time: duration(arm.seconds_per_step),
    ratio:
      isBaseline || ratio === null
        ? null
        : {
            text: `${fixed(ratio, 3)}×`,
            interval: isKnown ? ends(interval, (end) => fixed(end, 3)) || 'no interval' : CANNOT_TELL,
          },
    isTold: isTold(answers, arm.arm),
    saving:
      isBaseline || saving === null
        ? NONE
        : isKnown
          ? { text: percent(saving, 1), interval: ends(arm.step_saving_interval, (end) => fixed(100 * end, 1)) }
          : unknown,
    limit: percent(arm.limit_saving, 1),
    share:
      share === null
        ? NONE
        : isShare
          ? { text: percent(share), interval: ends(arm.share_of_limit_interval, (end) => fixed(100 * end, 0)) }
          : unknown,
    filled: isShare ? Math.min(Math.max(share, 0), 1) : null,
    tokens: compact(arm.tokens_per_second),
    title: firstStep(arm),
    drawn: isBaseline ? { ratio: 1, interval: null } : ratio === null || !isKnown ? null : { ratio, interval },
    keys: {
      time: arm.seconds_per_step,
      ratio: isBaseline ? 1 : ratio,
      saving: isBaseline ? 0 : saving,
      share: isShare ? share : null,
      tokens: arm.tokens_per_second,
    },
  };
}

function isTold(answers: Answer[], name: string): boolean {
  const verdicts = answers.find(({ arm }) => arm === name)?.verdicts ?? [];
  return verdicts.some(({ question, outcome }) => question === 'speed' && outcome !== 'cannot_tell');
}

/** An interval as wide as the limit itself says nothing of the share that was reached. */
function isShareKnown(interval: Interval | null): boolean {
  return interval === null || interval[1] - interval[0] < 1;
}

/** What the trial says of two equal arms: "1.001× [0.990, 1.010]". */
export function controlText({ ratio, interval }: Control): string {
  if (interval && !isNarrow(interval)) return CANNOT_TELL;
  return [`${fixed(ratio, 3)}×`, ends(interval, (end) => fixed(end, 3))].filter(Boolean).join(' ');
}

/** How the arms were timed. */
export function roundsText(rounds: number): string {
  return `${plural(rounds, 'round')} of all arms in random order on one slot`;
}

function firstStep({ first_step: first }: ArmSpeed): string {
  if (!first || (first.interval && !isNarrow(first.interval))) return '';
  const interval = ends(first.interval, (end) => fixed(end, 3));
  return `The first timed step of a turn takes ${fixed(first.ratio, 3)}× as long as the others ${interval}`.trim();
}

function ends(interval: Interval | null, text: (value: number) => string): string {
  return interval ? `[${text(interval[0])}, ${text(interval[1])}]` : '';
}

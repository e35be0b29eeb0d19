/** Names of trials and of their parts. */

import { words } from './format';
import type { JobStatus, KeptBlocks, Seeds, Stage, TrialState, TrialView, WaitReason } from './schema';

export const STAGES: Record<Stage, string> = {
  timing: 'Timing',
  pretrain: 'Pre-train',
  finetune: 'Fine-tune',
  probe: 'Probe',
};

/** True for the states that a trial never leaves. */
const ENDED: Record<TrialState, boolean> = {
  succeeded: true,
  failed: true,
  cancelled: true,
  running: false,
  paused: false,
  queued: false,
  blocked: false,
};

/** The mark that stands before a status: its form, and its colour where the status is not neutral. */
export const MARKS: Record<TrialState | JobStatus, string> = {
  succeeded: 'disc good',
  failed: 'square bad',
  cancelled: 'dash',
  running: 'disc active',
  paused: 'square warn',
  queued: 'ring',
  blocked: 'dotted ring',
  partial: 'square half',
};

/** Every state, in the order in which counts are shown. */
export const STATES = Object.keys(ENDED) as TrialState[];

export function isEnded(trial: Pick<TrialView, 'state'>): boolean {
  return ENDED[trial.state];
}

/** Stage, task, arm and seeds: no two trials of a job at one learning rate share this name. */
export function fullName(trial: Pick<TrialView, 'stage' | 'task' | 'arm' | 'seeds'>): string {
  return [trialName(trial), trial.arm, `seed ${seedText(trial.seeds)}`].filter(Boolean).join(', ');
}

export function trialName(trial: Pick<TrialView, 'stage' | 'task'>): string {
  return trial.task ? `${STAGES[trial.stage]} ${taskName(trial.task)}` : STAGES[trial.stage];
}

/** The task's name as its authors write it. */
export function taskName(task: string): string {
  return task === 'cola' ? 'CoLA' : task.toUpperCase();
}

/** The seed of a trial in which every role has the same one; otherwise the pre-train seed and the fine-tune seed. */
export function seedText(seeds: Seeds): string {
  return seeds.head === seeds.init ? String(seeds.init) : `${seeds.init} → ${seeds.head}`;
}

/** Names the kept blocks: `all 12 blocks`, `first 6 blocks`. `blocks` is their number. */
export function keptBlocks(keep: KeptBlocks, blocks: number): string {
  if (keep === 'all') return `all ${blocks} blocks`;
  return keep === 'every_other' ? `every other block, ${blocks}` : `first ${keep.first} blocks`;
}

type Model = { arm: string; keep: KeptBlocks | null };

/** A key of the choice of kept blocks; equal choices have equal keys. */
export const depthOf = ({ keep }: Pick<Model, 'keep'>) => JSON.stringify(keep);

/** A key of an arm together with its choice of kept blocks. */
export const modelOf = (row: Model) => row.arm + depthOf(row);

/** A clause about a trial that does not run, such as "waits for its pre-train trial, which is queued". */
export interface Waiting {
  before: string;
  /** Name of the trial that this one waits for; empty if it waits for something else. */
  trial: string;
  after: string;
  /** Why this trial needs the other one; empty if it waits for something else, or no longer. */
  need: string;
  /** Time at which the wait ends, to be shown after the clause; null if nobody knows it. */
  until: string | null;
}

const AWAITED: Record<Stage, { trial: string; need: string }> = {
  timing: {
    trial: 'the timing trial',
    need: 'Its budget is in seconds of the timing device: the measured time of a step decides how many steps it gets.',
  },
  pretrain: { trial: 'its pre-train trial', need: 'It starts from the checkpoint of that trial.' },
  finetune: { trial: 'its fine-tune trial', need: 'It starts from the checkpoint of that trial.' },
  probe: { trial: 'its probe trial', need: '' },
};

/** The reason for waiting in words. */
export function waitingWords(reason: WaitReason): Waiting {
  const clause = (before: string, until: string | null = null) => ({ before, trial: '', after: '', need: '', until });
  switch (reason.for) {
    case 'trial': {
      const awaited = { ...AWAITED[reason.stage], until: null };
      if (reason.state === 'failed') return { ...awaited, before: '', after: ' failed', need: '' };
      if (reason.state === 'cancelled') return { ...awaited, before: '', after: ' was cancelled', need: '' };
      return { ...awaited, before: 'waits for ', after: `, which is ${reason.state}` };
    }
    case 'retry': {
      const kind = reason.failure ? ` (${words(reason.failure)})` : '';
      return clause(`attempt ${reason.attempt} ended as ${reason.outcome}${kind}; the next one starts`, reason.at);
    }
    case 'node':
      return clause('no node is connected');
    case 'idle_node':
      return clause('waits for a node on which nothing else runs');
    case 'slot':
      return clause('waits for a free slot');
  }
}

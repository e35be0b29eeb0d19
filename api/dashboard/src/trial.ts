/** What a trial is called. */

import type { Seeds, Trial } from './api';
import type { Keep } from './report';

const STAGES = { timing: 'Timing', pretrain: 'Pre-train', finetune: 'Fine-tune', probe: 'Probe' } as const;

/** Told apart from the others of its job by stage, task, arm and seeds. */
export function fullName(trial: Pick<Trial, 'stage' | 'task' | 'arm' | 'seeds'>): string {
  return [trialName(trial), trial.arm, `seed ${seedText(trial.seeds)}`].filter(Boolean).join(', ');
}

export function trialName(trial: Pick<Trial, 'stage' | 'task'>): string {
  return trial.task ? `${STAGES[trial.stage]} ${taskName(trial.task)}` : STAGES[trial.stage];
}

/** As its authors write it. */
export function taskName(task: string): string {
  return task === 'cola' ? 'CoLA' : task.toUpperCase();
}

/** One number where every role has the same seed; else the pre-train seed and the one that differs from it. */
export function seedText(seeds: Seeds): string {
  return seeds.head === seeds.init ? String(seeds.init) : `${seeds.init} → ${seeds.head}`;
}

/** `all 12 blocks`, `first 6 blocks`. */
export function keptBlocks(keep: Keep, blocks: number): string {
  if (keep === 'all') return `all ${blocks} blocks`;
  return keep === 'every_other' ? `every other block, ${blocks}` : `first ${keep.first} blocks`;
}

type OfModel = { arm: string; keep: Keep | null };

/** Equal for what has the same choice of blocks. */
export const depthOf = ({ keep }: Pick<OfModel, 'keep'>) => JSON.stringify(keep);

/** Equal for what comes from the same arm and choice of blocks. */
export const modelOf = (row: OfModel) => row.arm + depthOf(row);

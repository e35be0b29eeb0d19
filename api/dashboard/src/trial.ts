/** What a trial is called. */

import type { Seeds, Trial } from './api';

const STAGES = { timing: 'Timing', pretrain: 'Pre-train', finetune: 'Fine-tune' } as const;

export function trialName(trial: Pick<Trial, 'stage' | 'task'>): string {
  return trial.task ? `${STAGES[trial.stage]} ${trial.task.toUpperCase()}` : STAGES[trial.stage];
}

/** One number where every role has the same seed; else the pre-train seed and the one that differs from it. */
export function seedText(seeds: Seeds): string {
  return seeds.head === seeds.init ? String(seeds.init) : `${seeds.init} → ${seeds.head}`;
}

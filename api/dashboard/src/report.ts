/** The report of a job: statistics over its trials, computed by the server. Scores and shares are fractions. */

/** 95 %, `[low, high]`. */
export type Interval = [number, number];

/** Which blocks of a checkpoint were kept. */
export type Keep = 'all' | 'every_other' | { first: number };

export interface Summary {
  n: number;
  mean: number;
  sd: number | null;
  interval: Interval | null;
}

/** An arm minus the baseline, over pairs that share their seeds. */
export interface Comparison {
  arm: string;
  learning_rate: number | null;
  /** That of the baseline's runs. */
  baseline_learning_rate: number | null;
  keep: Keep | null;
  /** How many blocks of the arm's were kept. */
  blocks: number | null;
  n_pairs: number;
  mean_difference: number;
  interval: Interval | null;
  p_paired_t: number | null;
  p_holm: number | null;
  p_wilcoxon: number | null;
  p_brown_forsythe: number | null;
}

export interface Device {
  name: string;
  model: string;
  threads: number;
  libtorch: string;
  trainer: string;
}

/** Of an arm's steps, as libtorch's allocator hands it out. */
export interface ArmMemory {
  /** Weights, moments and gradients: what is there between two steps. All others are with it. */
  state_bytes: number;
  peak_bytes: number;
  /** Averaged over the time of each step, then over the steps. */
  mean_bytes: number;
  /** From the fewest open sublayers, two of which are a block's, to the most. */
  by_open: { open_sublayers: number; steps: number; peak_bytes: number }[];
}

export interface ArmSpeed {
  arm: string;
  seconds_per_step: Summary;
  /** Above 1 is faster. */
  ratio_to_baseline: number | null;
  ratio_interval: Interval | null;
  step_saving: number | null;
  encoder_share: number | null;
  closed_form_saving: number | null;
  limit_saving: number | null;
  share_of_limit: number | null;
  tokens_per_second: number;
  by_open: { open_blocks: number; steps: number; mean_seconds: number }[];
  memory: ArmMemory | null;
  /** Sequences; null where it was not looked for, 0 where not even the smallest batch fits. */
  largest_batch: number | null;
}

export interface PretrainSeed {
  seed: number;
  steps: number | null;
  validation_loss: number | null;
  /** Of a classifier of images alone. */
  validation_accuracy?: number | null;
  hours: number | null;
  failure: string | null;
}

export interface PretrainArm {
  arm: string;
  seeds: PretrainSeed[];
  validation_loss: Summary | null;
  /** Whether the objective makes the loss another measure than the baseline's. */
  other_measure?: boolean;
  comparison: Comparison | null;
  validation_accuracy?: Summary | null;
  accuracy_comparison?: Comparison | null;
}

/** An arm against one from which it differs in the factors alone. */
export interface Effect {
  factors: ('norm' | 'layer_drop')[];
  arm: string;
  against: string;
  /** Of `arm` and of `against`. */
  learning_rates: [number, number];
  /** Whether each has the best of its own rates; else both have one. */
  each_at_its_best: boolean;
  /** Of the validation loss. */
  loss: Comparison | null;
  /** Above 1, `arm` is faster. */
  speed_up: number | null;
}

/** Means over the checkpoints of an arm. */
export interface BlockMeans {
  /** From 1. */
  block: number;
  /** What the validation loss rises by without this block. */
  removed_adds: number;
  /** What it rises by with this block and the next in each other's place; null for the last. */
  swapped_adds: number | null;
  /** Of a token's vector before and after the block. */
  cosine: number;
  distance: number;
  /** Of the mean loss, by the block's weights. */
  gradient_norm: number;
}

export interface ProbeArm {
  arm: string;
  /** Checkpoints. */
  n: number;
  /** Of the model as it is, on the sequences that were looked at. */
  validation_loss: number;
  /** What random orders of the blocks add to it. */
  shuffled_adds: number | null;
  /** From the first to the last. */
  blocks: BlockMeans[];
}

export interface GlueScore {
  seed: number;
  pretrain_seed: number;
  /** Null where the run diverged. */
  score: number | null;
  /** On the part of train that was set apart. */
  selection: number | null;
  failed: boolean;
}

export interface GlueArm {
  arm: string;
  keep: Keep;
  /** How many blocks were kept. */
  blocks: number;
  learning_rate: number;
  /** Mean score on the part of train that was set apart. */
  selection: number | null;
  /** Whether this is the rate to report. */
  selected: boolean;
  n: number;
  mean: number | null;
  sd: number | null;
  interval: Interval | null;
  /** Values behind the interval: pre-train seeds where there are several, else runs. */
  independent: number;
  median: number | null;
  min: number | null;
  max: number | null;
  failed: number;
  failed_interval: Interval | null;
  diverged: number;
  /** Mean training time of a run. */
  hours: number | null;
  /** What the best of that many runs is expected to score. */
  best_of: { runs: number; expected: number }[];
  scores: GlueScore[];
}

export interface GlueTask {
  task: string;
  metrics: string[];
  majority_score: number | null;
  arms: GlueArm[];
  /** At equal rates. */
  comparisons: Comparison[];
  /** Each arm at its selected rate. */
  selected_comparisons: Comparison[];
}

/** Mean over tasks at the selected rates. */
export interface GlueAverage {
  arm: string;
  keep: Keep;
  blocks: number;
  tasks: string[];
  mean: number;
}

export interface Report {
  job: string;
  name: string;
  baseline: string;
  complete: boolean;
  speed: { device: Device | null; fit: { fixed: number; per_block: number } | null; arms: ArmSpeed[] } | null;
  pretrain: PretrainArm[];
  /** Left out where the tables have all of them. */
  effects?: Effect[];
  /** One entry per arm that was probed; left out where there is none. */
  probes?: ProbeArm[];
  glue: GlueTask[];
  glue_averages: GlueAverage[];
  notes: string[];
}

/** The report of a job: statistics over its trials, computed by the server. Scores are fractions. */

export type Interval = [number, number];

export interface Estimate {
  mean: number | null;
  /** 95 % t interval; null below two values. */
  interval: Interval | null;
  n: number;
  sd?: number | null;
}

export interface ArmSpeed {
  arm: string;
  seconds_per_step: Estimate;
  ratio_to_baseline: number | null;
  ratio_interval: Interval | null;
  saving: number | null;
  closed_form_saving: number | null;
  share_of_limit: number | null;
  tokens_per_second: number | null;
}

export interface ArmLoss {
  arm: string;
  seeds: { seed: number; validation_loss: number | null; hours: number | null }[];
  validation_loss: Estimate;
}

export interface ArmScores {
  arm: string;
  learning_rate: number | null;
  n: number;
  mean: number | null;
  sd: number | null;
  interval: Interval | null;
  median: number | null;
  min: number | null;
  max: number | null;
  failed: number;
  failed_interval: Interval | null;
  scores: number[];
}

export interface TaskScores {
  task: string;
  metric: string;
  /** Score of the constant guess: at or below it a run failed. */
  majority?: number | null;
  arms: ArmScores[];
}

export interface Report {
  job: string;
  baseline: string;
  speed: { device: string | null; arms: ArmSpeed[] } | null;
  pretrain: ArmLoss[];
  glue: TaskScores[];
  notes: string[];
}

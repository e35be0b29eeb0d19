/**
 * The shapes of the HTTP API, as the server writes them. Scores are fractions, times are RFC 3339, durations seconds.
 * Only types live here, so that `npm run types` (openapi-typescript) can take this file's place.
 */

import type { Keep } from './report';

export type JobStatus = 'queued' | 'running' | 'succeeded' | 'partial' | 'failed' | 'cancelled';
export type TrialState = 'blocked' | 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'paused';
export type Stage = 'timing' | 'pretrain' | 'finetune' | 'probe';

/** RFC 9457. `code` is stable; `problems` name each thing that is wrong with the body. */
export interface ProblemDetails {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  problems?: FieldProblem[];
}

export interface FieldProblem {
  /** RFC 6901 pointer into the body that was sent. */
  pointer: string;
  message: string;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export type TrialCounts = Record<TrialState, number>;

export interface JobSummary {
  id: string;
  name: string;
  status: JobStatus;
  created_at: string;
  finished_at: string | null;
  arms: string[];
  baseline: string;
  trials: TrialCounts;
  /** 0 to 1. */
  progress: number;
  estimated_end: string | null;
}

export interface Job extends JobSummary {
  /** The body that was posted, with its defaults filled in. */
  spec: Record<string, unknown>;
}

export interface Seeds {
  init: number;
  data: number;
  dropout: number;
  gate: number;
  head: number;
}

export interface Failure {
  kind: string;
  message: string;
}

export interface Trial {
  id: string;
  job: string;
  stage: Stage;
  /** Absent for a timing trial, which runs every arm. */
  arm: string | null;
  task: string | null;
  learning_rate: number | null;
  /** Which blocks of its checkpoint a fine-tune trial keeps. */
  keep: Keep | null;
  seeds: Seeds;
  state: TrialState;
  waits_for: string | null;
  pending_reason: string | null;
  step: number;
  total_steps: number | null;
  trained_seconds: number;
  estimated_end: string | null;
  fingerprint: string;
  attempts: number;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  failure: Failure | null;
  report: Record<string, unknown> | null;
  node: string | null;
  slot: number | null;
}

export interface Point {
  name: string;
  step: number;
  value: number;
  trained_seconds: number;
}

export interface Attempt {
  id: string;
  number: number;
  node: string;
  slot: number;
  placed_at: string;
  started_at: string | null;
  ended_at: string | null;
  outcome: string | null;
  failure: Failure | null;
  resumed_from: number | null;
  phase: string | null;
  step: number;
  trained_seconds: number;
}

export interface TrialDetail extends Omit<Trial, 'attempts'> {
  points: Point[];
  attempts: Attempt[];
}

export interface LogLine {
  id: number;
  attempt: string;
  text: string;
  at: string;
}

export interface CurvePoint {
  step: number;
  trained_seconds: number;
  value: number;
}

export interface CurveSeries {
  trial: string;
  /** Absent for a timing trial. */
  arm: string | null;
  seeds: Seeds;
  points: CurvePoint[];
}

export interface Curves {
  name: string;
  series: CurveSeries[];
}

export interface Slot {
  index: number;
  device: string;
  model: string;
  threads: number;
  memory_bytes: number;
  attempt: { id: string; trial: string; job: string } | null;
}

export interface Node {
  id: string;
  name: string;
  live: boolean;
  last_seen: string;
  labels: Record<string, string>;
  slots: Slot[];
}

/** What a job would cost: the answer to a dry run. */
export interface Plan {
  trials: Record<Stage, number>;
  steps: number;
  flops: number;
  arms: ArmPlan[];
}

export interface ArmPlan {
  name: string;
  pretrain_flops: number;
  /** Shares, in closed form: of the encoder's work, and of all training FLOPs. */
  encoder_saving: number;
  flop_saving: number;
}

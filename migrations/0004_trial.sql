-- One recipe with one set of seeds: the unit that is queued, placed, retried and scored.

create type stage as enum ('timing', 'pretrain', 'finetune');
create type trial_state as enum ('blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'paused');
create type failure_kind as enum (
    'invalid_recipe', 'bad_data', 'non_finite_loss', 'out_of_memory', 'disk_full', 'corrupt_checkpoint', 'device_fault',
    'stalled', 'crashed', 'internal'
);

create table trial (
    id               uuid primary key,
    job_id           uuid not null references job on delete cascade,
    -- Place in the job's expansion, from 0.
    ordinal          integer not null,
    stage            stage not null,
    -- Name of the arm; a timing trial runs all of them.
    arm              text,
    task             text,
    learning_rate    double precision,
    -- recipe::TrialSpec: what the trainer is given.
    spec             jsonb not null,
    fingerprint      text not null,
    -- The pre-train trial whose checkpoint this one starts from.
    waits_for        uuid references trial on delete cascade,
    -- Planned training FLOPs: the weight of the trial in the job's progress.
    work             double precision not null,
    -- Optimiser updates; known from the start for pre-training, from the data for fine-tuning.
    total_steps      bigint,
    state            trial_state not null,
    created_at       timestamptz not null default now(),
    -- Queued: not to be placed before this moment (a retry waits).
    ready_at         timestamptz,
    -- First placement.
    started_at       timestamptz,
    finished_at      timestamptz,
    failure_kind     failure_kind,
    failure_message  text,
    -- recipe::Report: the facts that a finished trial leaves.
    report           jsonb,
    constraint trial_ordinal_unique unique (job_id, ordinal),
    constraint trial_arm_unless_timing check ((stage = 'timing') = (arm is null)),
    constraint trial_finetune_columns check (
        (stage = 'finetune') = (task is not null and learning_rate is not null and waits_for is not null)
    ),
    constraint trial_blocked_waits check (state <> 'blocked' or waits_for is not null),
    constraint trial_queued_ready check ((state = 'queued') = (ready_at is not null)),
    constraint trial_running_started check (state <> 'running' or started_at is not null),
    constraint trial_ended_finished check (
        (state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)
    ),
    constraint trial_succeeded_report check ((state = 'succeeded') = (report is not null)),
    constraint trial_failed_failure check (
        (state = 'failed') = (failure_kind is not null)
        and (failure_kind is null) = (failure_message is null)
    )
);

-- The queue, in the order in which it is served: ids of later jobs sort later, and stages in the order of their type.
create index trial_queue on trial (job_id, stage, ordinal) where state = 'queued';
-- Blocked trials, by what they wait for.
create index trial_waiting on trial (waits_for) where state = 'blocked';
-- A job's counts, times and share of work done, from the index alone.
create index trial_by_state on trial (job_id, state) include (work, stage, started_at, finished_at);
-- A job's trials of one stage, arm and state, in order.
create index trial_by_arm on trial (job_id, stage, arm, ordinal);

-- Trials. A trial is one recipe with one set of seeds: the unit that is queued, placed, retried and scored.

-- In the order in which the stages of a job are served.
create type stage as enum ('timing', 'pretrain', 'finetune', 'probe');
create type trial_state as enum ('blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'paused');
create type failure_kind as enum (
    'invalid_recipe', 'bad_data', 'non_finite_loss',
    -- The loss rose further above its lowest value than the recipe allows.
    'diverged',
    'out_of_memory', 'disk_full', 'corrupt_checkpoint', 'device_fault', 'stalled', 'crashed', 'internal'
);

create table trial (
    id               uuid primary key,
    job_id           uuid not null references job on delete cascade,
    -- Place in the job's expansion, from 0.
    ordinal          integer not null,
    stage            stage not null,
    -- Name of the arm. A timing trial has none, since it runs all arms.
    arm              text,
    task             text,
    learning_rate    double precision,
    -- recipe::TrialSpec: the input of the trainer.
    spec             jsonb not null,
    fingerprint      text not null,
    -- The trial that has to succeed first. A fine-tune trial or probe waits for the pre-train trial whose checkpoint it
    -- starts from, unless that is a published one. A pre-train trial waits for the timing trial if its budget is in
    -- seconds of that trial's device.
    waits_for        uuid references trial on delete cascade,
    -- Some trials wait for this one: true from the submission until all of them have moved on.
    awaited          boolean not null,
    -- Planned training FLOPs: the weight of the trial in the job's progress.
    work             double precision not null,
    -- Optimiser updates. Null while a pre-train trial waits for the timing trial, which decides their number; an
    -- estimate until the trainer of a fine-tune trial has read the data.
    total_steps      bigint,
    state            trial_state not null,
    created_at       timestamptz not null default now(),
    -- A queued trial is not placed before this moment, so that a retry can wait.
    ready_at         timestamptz,
    -- The first placement.
    started_at       timestamptz,
    finished_at      timestamptz,
    failure_kind     failure_kind,
    failure_message  text,
    -- recipe::TrialReport: the result of a trial that succeeded.
    report           jsonb,
    constraint trial_ordinal_unique unique (job_id, ordinal),
    constraint trial_arm_unless_timing check ((stage = 'timing') = (arm is null)),
    constraint trial_finetune_columns check (
        (stage = 'finetune') = (task is not null and learning_rate is not null)
    ),
    constraint trial_timing_waits_for_nothing check (waits_for is null or stage <> 'timing'),
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

-- Holds the queue in the order in which it is served: later jobs have later ids, and stages sort in the order of their
-- type.
create index trial_queue on trial (job_id, stage, ordinal) where state = 'queued';
-- Finds the newest speeds that timing trials measured.
create index trial_timed on trial (finished_at) where stage = 'timing' and state = 'succeeded';
-- Finds the trials that have ended while others still wait for them, and those others, batch by batch.
create index trial_awaited on trial (id) where awaited and state in ('succeeded', 'failed', 'cancelled');
create index trial_waiting on trial (waits_for, id) where state = 'blocked';
-- Finds the trials that a cancel ends, batch by batch.
create index trial_idle on trial (job_id, ordinal) where state in ('blocked', 'queued', 'paused');
-- Lists a job's trials of one state, and answers the numbers of /metrics without reading the table.
create index trial_by_state on trial (job_id, state) include (stage);
-- Lists a job's trials of one stage and arm.
create index trial_by_arm on trial (job_id, stage, arm, ordinal);
-- Finds the reports that name an artifact: answers to GLUE's test files (recipe::report::PredictionFile) are stored as
-- artifacts, which the report keeps alive.
create index trial_predictions on trial using gin ((report -> 'predictions') jsonb_path_ops);

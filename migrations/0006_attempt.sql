-- One execution of a trial on a slot, from placement to outcome. The id is the fencing token: each write of an agent
-- names it and counts only while the attempt is open.

create type outcome as enum ('succeeded', 'failed', 'lost', 'preempted', 'cancelled');

create table attempt (
    id                uuid primary key,
    trial_id          uuid not null references trial on delete cascade,
    -- From 1, within the trial.
    number            integer not null,
    node_id           uuid not null references node,
    -- Index of the slot. Not a reference: a node may come back with other slots.
    slot              integer not null,
    -- The agent's instance at placement.
    instance          uuid not null,
    -- When the trial became ready to be placed, for the latency of placement.
    ready_at          timestamptz not null,
    placed_at         timestamptz not null default now(),
    -- The lease: past it the attempt is lost.
    leased_until      timestamptz not null,
    -- The server wants a checkpoint and the slot back.
    interrupt         boolean not null default false,
    -- First event of the trainer, and what it said about its device and where it goes on from.
    started_at        timestamptz,
    device            jsonb,
    resumed_from      bigint,
    -- What it does before its first step ('tokenizing'); null while it trains.
    phase             text,
    step              bigint not null default 0,
    trained_seconds   double precision not null default 0,
    -- When step or phase last moved: liveness is not progress.
    moved_at          timestamptz not null default now(),
    -- Sequence numbers up to which events and log lines are stored.
    events_seen       bigint not null default 0,
    log_seen          bigint not null default 0,
    ended_at          timestamptz,
    outcome           outcome,
    failure_kind      failure_kind,
    failure_message   text,
    constraint attempt_number_unique unique (trial_id, number),
    constraint attempt_ended_outcome check ((ended_at is null) = (outcome is null)),
    constraint attempt_failed_failure check (
        (coalesce(outcome = 'failed', false)) = (failure_kind is not null)
        and (failure_kind is null) = (failure_message is null)
    ),
    constraint attempt_started_device check ((started_at is null) = (device is null))
);

-- The whole exclusion argument: one open attempt per trial, one open attempt per slot.
create unique index attempt_one_open_per_trial on attempt (trial_id) where ended_at is null;
create unique index attempt_one_open_per_slot on attempt (node_id, slot) where ended_at is null;

-- How many stall times an attempt may stand still: before the trainer's first word its inputs are being fetched, which
-- moves no step.
create function stall_patience(started_at timestamptz) returns integer immutable language sql as $$
    select case when started_at is null then 6 else 1 end
$$;

-- Attempts. An attempt is one execution of a trial on a slot, from placement to outcome. Its id is the fencing token:
-- each write of an agent names it, and counts only while the attempt is open.

create type outcome as enum ('succeeded', 'failed', 'lost', 'preempted', 'cancelled');

create table attempt (
    id                uuid primary key,
    trial_id          uuid not null references trial on delete cascade,
    -- Counts from 1 within the trial.
    number            integer not null,
    node_id           uuid not null references node,
    -- Index of the slot. This is not a reference, because a node may come back with other slots.
    slot              integer not null,
    -- The agent's instance at placement.
    instance          uuid not null,
    -- Time at which the trial became ready to be placed; the latency of placement counts from it.
    ready_at          timestamptz not null,
    placed_at         timestamptz not null default now(),
    -- End of the lease. Past it the attempt is lost.
    leased_until      timestamptz not null,
    -- True if the trainer is to write a checkpoint and leave the slot.
    interrupt         boolean not null default false,
    -- Time of the trainer's first event, its device (recipe::event::Device), and the step from which it went on.
    started_at        timestamptz,
    device            jsonb,
    resumed_from      bigint,
    -- The work before the first step, such as 'tokenizing'; null while the trial trains.
    phase             text,
    step              bigint not null default 0,
    trained_seconds   double precision not null default 0,
    -- Time at which step or phase last moved. An attempt that is alive but does not move is ended as stalled.
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

-- These two indexes exclude a double placement: a trial has one open attempt, and so has a slot.
create unique index attempt_one_open_per_trial on attempt (trial_id) where ended_at is null;
create unique index attempt_one_open_per_slot on attempt (node_id, slot) where ended_at is null;

-- Jobs as clients submitted them. A job's status is not stored: it follows from its trials.

create table job (
    id            uuid primary key,
    name          text not null,
    -- scheduler::job::JobSpec: the submission with its defaults filled in.
    spec          jsonb not null,
    created_at    timestamptz not null default now(),
    cancelled_at  timestamptz,
    -- Set by the control loop once no trial of the job is left to run. The control loop looks only at jobs without it.
    ended_at      timestamptz,
    -- Sums over the job's trials. A job may have 100,000 of them, so the statement that saves their states keeps the sums
    -- too (scheduler/src/store/transition.rs).
    trials        bigint not null,
    blocked       bigint not null,
    queued        bigint not null,
    running       bigint not null default 0,
    succeeded     bigint not null default 0,
    failed        bigint not null default 0,
    cancelled     bigint not null default 0,
    paused        bigint not null default 0,
    -- Number of trials that succeeded and waited for no other trial.
    useful        bigint not null default 0,
    -- Planned training FLOPs: of all trials, of those that have ended, and of those that were cancelled.
    work           double precision not null,
    ended_work     double precision not null default 0,
    cancelled_work double precision not null default 0,
    -- The first placement of a trial, and the newest end of one.
    started_at    timestamptz,
    finished_at   timestamptz,
    -- Number of the job's newest event. Taking a number locks this row until the event is committed. A job's events
    -- therefore become visible in the order of their numbers, and a reader that wants the events after number N never
    -- misses one.
    events        bigint not null default 0,
    -- A state that the sums leave out, or count twice, is refused.
    constraint job_counts_every_trial check (
        blocked + queued + running + succeeded + failed + cancelled + paused = trials
        and least(blocked, queued, running, succeeded, failed, cancelled, paused) >= 0
    )
);

create index job_unended on job (id) where ended_at is null;

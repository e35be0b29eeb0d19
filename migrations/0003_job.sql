-- What a client submitted. Its status is not here: it follows from its trials.

create table job (
    id            uuid primary key,
    name          text not null,
    -- The submission as it was understood, with its defaults filled in.
    spec          jsonb not null,
    created_at    timestamptz not null default now(),
    cancelled_at  timestamptz,
    -- When the control loop saw that no trial was left to run; it looks only at jobs without it.
    ended_at      timestamptz,
    -- Number of the job's newest event. Taking a number locks this row until the event is committed, so a job's events
    -- become visible in the order of their numbers and a reader that asks for what follows N never misses one.
    events        bigint not null default 0
);

create index job_unended on job (id) where ended_at is null;

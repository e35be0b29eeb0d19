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
    -- Number of the job's newest event. Taking a number locks this row until the event is committed. A job's events
    -- therefore become visible in the order of their numbers, and a reader that wants the events after number N never
    -- misses one.
    events        bigint not null default 0
);

create index job_unended on job (id) where ended_at is null;

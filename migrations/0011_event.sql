-- Events of a job in their order, for clients that follow it. A trainer's `progress` is not an event here: its
-- numbers are metric points, and its step is a column of the attempt.

create type event_kind as enum (
    -- Reported by a trainer.
    'started', 'evaluated', 'checkpointed', 'finished', 'failed', 'interrupted',
    -- A trial changed its state, a job changed its derived status, a checkpoint was given up.
    'trial', 'job', 'checkpoint_forgotten'
);

create table event (
    job_id      uuid not null references job on delete cascade,
    -- Counts 1, 2, 3 ... within the job without gaps; events become visible in this order.
    number      bigint not null,
    trial_id    uuid references trial on delete cascade,
    attempt_id  uuid references attempt on delete cascade,
    -- The agent's number of the event; null for an event of the server.
    sequence    bigint,
    kind        event_kind not null,
    data        jsonb not null,
    at          timestamptz not null default now(),
    primary key (job_id, number),
    constraint event_once_per_attempt unique (attempt_id, sequence)
);

create index event_job_status on event (job_id, number desc) where kind = 'job';

-- Writes an event under the job's next number. Only the change of a trial's
-- state writes its event otherwise, in the statement that changes the state (scheduler/src/store/transition.rs).
create function append_event(job uuid, trial uuid, attempt uuid, sequence bigint, kind event_kind, data jsonb)
returns bigint language sql as $$
    with next as (update job j set events = events + 1 where j.id = $1 returning j.events)
    insert into event (job_id, number, trial_id, attempt_id, sequence, kind, data)
    select $1, next.events, $2, $3, $4, $5, $6 from next
    returning number
$$;

-- Tells listeners which job has a new event. A notification may be lost, so every listener also polls.
create function event_announced() returns trigger language plpgsql as $$
begin
    perform pg_notify('lamina_event', job_id::text) from (select distinct job_id from new_rows) as jobs;
    return null;
end $$;

create trigger event_announced after insert on event
    referencing new table as new_rows
    for each statement execute function event_announced();

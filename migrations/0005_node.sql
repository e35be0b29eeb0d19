-- Machines with an agent, and the accelerators (or shares of the processor) on them.

create table node (
    id            uuid primary key,
    name          text not null constraint node_name_unique unique,
    -- Drawn by the agent at its start: attempts of an earlier instance are lost.
    instance      uuid not null,
    labels        jsonb not null,
    -- Its agent is going away: nothing new is placed there.
    leaving       boolean not null,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now()
);

create table slot (
    node_id       uuid not null references node on delete cascade,
    -- From 0.
    index         integer not null,
    -- As the trainer is told: 'cpu' or 'cuda:0'.
    device        text not null,
    -- Processor or accelerator model.
    model         text not null,
    threads       integer not null,
    memory_bytes  bigint not null,
    primary key (node_id, index)
);

-- Machines with an agent.

create table node (
    id            uuid primary key,
    name          text not null constraint node_name_unique unique,
    -- Drawn by the agent at its start. Attempts of an earlier instance are lost.
    instance      uuid not null,
    labels        jsonb not null,
    -- True while the agent shuts down: nothing new is placed on the node.
    leaving       boolean not null,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now()
);

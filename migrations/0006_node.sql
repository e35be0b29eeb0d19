-- Machines with an agent.

create table node (
    id            uuid primary key,
    name          text not null,
    -- The token of its agent. The name belongs to this token for as long as the token can be used.
    token_id      uuid not null references token,
    -- Drawn by the agent at its start. Attempts of an earlier instance are lost.
    instance      uuid not null,
    labels        jsonb not null,
    -- True while the agent shuts down: nothing new is placed on the node.
    leaving       boolean not null,
    -- True if an operator wants nothing new on the node.
    draining      boolean not null default false,
    -- Set once an operator has deleted the node. The row stays, because attempts name it.
    deleted_at    timestamptz,
    first_seen_at timestamptz not null default now(),
    last_seen_at  timestamptz not null default now()
);

-- A deleted node's name is free again.
create unique index node_name_unique on node (name) where deleted_at is null;

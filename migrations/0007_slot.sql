-- The accelerators of a node, or the shares of its processor.

create table slot (
    node_id       uuid not null references node on delete cascade,
    -- Counts from 0.
    index         integer not null,
    -- The trainer's --device: 'cpu' or 'cuda:0'.
    device        text not null,
    -- Processor or accelerator model.
    model         text not null,
    threads       integer not null,
    memory_bytes  bigint not null,
    primary key (node_id, index)
);

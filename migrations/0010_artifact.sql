-- The content of the artifact store: files named by their sha256.
create table artifact (
    sha256        text primary key constraint artifact_sha256_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes         bigint not null,
    created_at    timestamptz not null default now(),
    -- The last time that an agent sent the artifact or asked for it. A recently touched artifact is kept, because it
    -- may belong to a checkpoint that is about to be reported.
    touched_at    timestamptz not null default now(),
    -- Set while the artifact is being deleted: it is not served any more, and cannot be sent again until it is gone.
    condemned_at  timestamptz
);

create index artifact_condemned on artifact (sha256) where condemned_at is not null;

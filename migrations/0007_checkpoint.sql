-- Complete pictures of a trial at a step, and the stored files that they consist of.

-- 'corrupt': a trainer could not read it. 'superseded': newer ones are enough.
create type checkpoint_end as enum ('corrupt', 'superseded');

create table checkpoint (
    id               bigint generated always as identity primary key,
    trial_id         uuid not null references trial on delete cascade,
    attempt_id       uuid not null references attempt on delete cascade,
    step             bigint not null,
    trained_seconds  double precision not null,
    -- Hex sha256 of its manifest.json, by which the manifest itself is stored.
    manifest         text not null constraint checkpoint_manifest_hex check (manifest ~ '^[0-9a-f]{64}$'),
    -- Digests of the manifest's files; null until the control loop has read the manifest.
    files            text[],
    created_at       timestamptz not null default now(),
    -- Never used again from this moment; its files may go.
    forgotten_at     timestamptz,
    forgotten_as     checkpoint_end,
    constraint checkpoint_forgotten_reason check ((forgotten_at is null) = (forgotten_as is null))
);

create index checkpoint_of_trial on checkpoint (trial_id, step desc, id desc) where forgotten_at is null;

-- What the artifact store holds, by content.
create table artifact (
    sha256        text primary key constraint artifact_sha256_hex check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes         bigint not null,
    created_at    timestamptz not null default now(),
    -- Last time that an agent sent it or asked whether it is here. What was touched lately is kept: a checkpoint that
    -- is about to be reported may count on it.
    touched_at    timestamptz not null default now(),
    -- Being deleted: no longer here for anyone who asks, and not to be sent again until it is gone.
    condemned_at  timestamptz
);

create index artifact_condemned on artifact (sha256) where condemned_at is not null;

-- Checkpoints. A checkpoint is a complete picture of a trial at a step, from which the trial can go on.

-- 'corrupt': a trainer could not read the checkpoint. 'superseded': newer checkpoints of the trial are enough.
create type checkpoint_end as enum ('corrupt', 'superseded');

create table checkpoint (
    id               bigint generated always as identity primary key,
    trial_id         uuid not null references trial on delete cascade,
    attempt_id       uuid not null references attempt on delete cascade,
    step             bigint not null,
    trained_seconds  double precision not null,
    -- Hex sha256 of the checkpoint's manifest.json, which is stored as an artifact of this name.
    manifest         text not null constraint checkpoint_manifest_hex check (manifest ~ '^[0-9a-f]{64}$'),
    -- Digests of the files in the manifest; null until the control loop has read it.
    files            text[],
    created_at       timestamptz not null default now(),
    -- From this moment the checkpoint is not used again, and its files may be deleted.
    forgotten_at     timestamptz,
    forgotten_as     checkpoint_end,
    constraint checkpoint_forgotten_reason check ((forgotten_at is null) = (forgotten_as is null))
);

create index checkpoint_of_trial on checkpoint (trial_id, step desc, id desc) where forgotten_at is null;

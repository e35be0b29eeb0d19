-- Registered folders and files. A dataset's identity is its digest. Its name stands for the content that was registered
-- last under it; earlier contents stay known for the trials that were made from them.

create type dataset_kind as enum (
    -- Text.
    'corpus',
    -- A vocab.txt.
    'vocabulary',
    -- The GLUE tasks in their official layout.
    'glue',
    -- A published model in Hugging Face's layout. An arm that starts from one is not pre-trained.
    'checkpoint',
    -- Images with their classes, in the files of MNIST (IDX) or CIFAR.
    'images'
);

create table dataset (
    id             bigint generated always as identity primary key,
    name           text not null,
    kind           dataset_kind not null,
    -- Absolute path, on the server, of the folder from which the paths of the files start.
    folder         text not null,
    -- Hex sha256 of the dataset's manifest (scheduler::dataset defines its text).
    digest         text not null constraint dataset_digest_hex check (digest ~ '^[0-9a-f]{64}$'),
    bytes          bigint not null,
    -- scheduler::dataset::DatasetFacts: what planning a job needs to know without reading the files.
    facts          jsonb not null,
    registered_at  timestamptz not null default now(),
    constraint dataset_content_unique unique (name, digest)
);

-- Finds the newest registration of a name.
create index dataset_by_name on dataset (name, registered_at desc, id desc);
create index dataset_by_digest on dataset (digest);

-- Registered folders and files. A dataset's identity is its digest; a name stands for the content it was last
-- registered with, and the earlier contents stay known for the trials that were made from them.

create type dataset_kind as enum ('corpus', 'vocabulary', 'glue');

create table dataset (
    id             bigint generated always as identity primary key,
    name           text not null,
    kind           dataset_kind not null,
    -- Absolute path on the server of the folder that the files' paths start from.
    folder         text not null,
    -- Hex sha256 of the canonical manifest (see scheduler::dataset).
    digest         text not null constraint dataset_digest_hex check (digest ~ '^[0-9a-f]{64}$'),
    bytes          bigint not null,
    -- What a plan needs to know without reading the files: tokens of a vocabulary, training examples of each GLUE task.
    facts          jsonb not null,
    registered_at  timestamptz not null default now(),
    constraint dataset_content_unique unique (name, digest)
);

-- The newest registration of a name.
create index dataset_by_name on dataset (name, registered_at desc, id desc);
create index dataset_by_digest on dataset (digest);

create table dataset_file (
    dataset_id        bigint not null references dataset on delete cascade,
    -- Inside the dataset, with '/'; never absolute, never with '..'.
    path              text not null,
    sha256            text not null,
    bytes             bigint not null,
    -- Modification time in nanoseconds since 1970, as the file system says it: unchanged size and time mean that the
    -- file need not be hashed again.
    modified_ns       bigint not null,
    primary key (dataset_id, path)
);

-- Agents fetch files by content.
create index dataset_file_by_content on dataset_file (sha256);

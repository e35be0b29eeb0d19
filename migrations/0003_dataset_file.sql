-- The files of a dataset.

create table dataset_file (
    dataset_id   bigint not null references dataset on delete cascade,
    -- Path inside the dataset, with '/'; never absolute, never with '..'.
    path         text not null,
    sha256       text not null,
    bytes        bigint not null,
    -- Modification time in nanoseconds since 1970, as the file system reports it. A file of unchanged size and time
    -- need not be hashed again.
    modified_ns  bigint not null,
    primary key (dataset_id, path)
);

-- Agents fetch files by content.
create index dataset_file_by_content on dataset_file (sha256);

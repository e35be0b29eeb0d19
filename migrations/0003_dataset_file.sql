-- The files of a dataset.

create table dataset_file (
    dataset_id   bigint not null references dataset on delete cascade,
    -- Path inside the dataset, with '/'; never absolute, never with '..'.
    path         text not null,
    sha256       text not null,
    bytes        bigint not null,
    -- What the file system said of the file that was hashed. A file that still has all of these, and its size, has the
    -- registered content; any other is hashed again before it is used. Device and inode are kept bit for bit, and the
    -- times of the last write and of the last change are in nanoseconds since 1970.
    device       bigint not null,
    inode        bigint not null,
    modified_ns  bigint not null,
    changed_ns   bigint not null,
    primary key (dataset_id, path)
);

-- Agents fetch files by content.
create index dataset_file_by_content on dataset_file (sha256);

-- Idempotency keys. A submission whose key was used before gets the answer of the first one.

create table idempotency_key (
    token_id     uuid not null references token on delete cascade,
    key          text not null,
    -- sha256 of the body. The same key with another body is refused.
    body_sha256  bytea not null,
    job_id       uuid not null references job on delete cascade,
    created_at   timestamptz not null default now(),
    constraint idempotency_key_unique primary key (token_id, key)
);

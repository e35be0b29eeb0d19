-- Who may call the API. A token is shown once, when it is made; only its sha256 is kept.

create type token_scope as enum ('admin', 'write', 'read', 'agent');

create table token (
    id          uuid primary key,
    -- For people: what the token is for.
    name        text not null,
    scope       token_scope not null,
    -- The token's first characters: enough to look it up and to recognise it in a list, useless without the rest.
    prefix      text not null constraint token_prefix_unique unique,
    sha256      bytea not null constraint token_sha256_length check (octet_length(sha256) = 32),
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);

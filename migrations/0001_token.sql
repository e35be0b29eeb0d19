-- Tokens, with which callers of the API prove who they are. A token is shown once, when it is made; only its sha256 is
-- kept.

create type token_scope as enum ('admin', 'write', 'read', 'agent');

create table token (
    id          uuid primary key,
    -- A name for people: the purpose of the token.
    name        text not null,
    scope       token_scope not null,
    -- The token's first characters. They are enough to look the token up and to recognise it in a list, and useless
    -- without the rest.
    prefix      text not null constraint token_prefix_unique unique,
    sha256      bytea not null constraint token_sha256_length check (octet_length(sha256) = 32),
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);

-- The text that trainers write on their standard error.

create table log_line (
    id          bigint generated always as identity primary key,
    trial_id    uuid not null references trial on delete cascade,
    attempt_id  uuid not null references attempt on delete cascade,
    -- The agent's number of the line.
    sequence    bigint not null,
    text        text not null,
    at          timestamptz not null default now(),
    constraint log_line_once_per_attempt unique (attempt_id, sequence)
);

create index log_line_of_trial on log_line (trial_id, id);

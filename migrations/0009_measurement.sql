-- Numbers at steps, and text.

create table metric_point (
    trial_id         uuid not null references trial on delete cascade,
    -- 'train_loss', 'validation_loss', 'theta' ... (recipe::event::Point).
    name             text not null,
    -- Optimiser updates made so far. One point per name and step: an attempt that goes on from a checkpoint repeats
    -- the steps since then, and replaces their points.
    step             bigint not null,
    value            double precision not null,
    -- Training time up to here, over all attempts.
    trained_seconds  double precision not null,
    primary key (trial_id, name, step)
);

create table log_line (
    id          bigint generated always as identity primary key,
    trial_id    uuid not null references trial on delete cascade,
    attempt_id  uuid not null references attempt on delete cascade,
    -- Number that the agent gave it.
    sequence    bigint not null,
    text        text not null,
    at          timestamptz not null default now(),
    constraint log_line_once_per_attempt unique (attempt_id, sequence)
);

create index log_line_of_trial on log_line (trial_id, id);

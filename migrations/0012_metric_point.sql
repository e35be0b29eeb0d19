-- Metric points: numbers at steps.

create table metric_point (
    trial_id         uuid not null references trial on delete cascade,
    -- 'train_loss', 'validation_loss', 'theta' ... (recipe::event::Point).
    name             text not null,
    -- Optimiser updates so far. There is one point per name and step: an attempt that goes on from a checkpoint repeats
    -- the steps since then and replaces their points.
    step             bigint not null,
    value            double precision not null,
    -- Training time up to this step, over all attempts.
    trained_seconds  double precision not null,
    primary key (trial_id, name, step)
);

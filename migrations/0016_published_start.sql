-- A fine-tune trial waits for the pre-train trial whose checkpoint it starts from; one that starts from a published
-- checkpoint waits for nothing.
alter table trial drop constraint trial_finetune_columns;
alter table trial add constraint trial_finetune_columns check (
    (stage = 'finetune') = (task is not null and learning_rate is not null)
);
-- A pre-train trial may wait for the timing trial, which says how many steps its budget is worth.
alter table trial add constraint trial_timing_waits_for_nothing check (waits_for is null or stage <> 'timing');

-- A fine-tune trial waits for the pre-train trial whose checkpoint it starts from; one that starts from a published
-- checkpoint waits for nothing.
alter table trial drop constraint trial_finetune_columns;
alter table trial add constraint trial_finetune_columns check (
    (stage = 'finetune') = (task is not null and learning_rate is not null)
);
alter table trial add constraint trial_first_stages_wait_for_nothing check (
    waits_for is null or stage not in ('timing', 'pretrain')
);

-- Answers to GLUE's test files are stored as artifacts, and named by the report of the trial that gave them
-- (recipe::report::PredictionFile): the report keeps them alive. This finds the reports that name a digest.

create index trial_predictions on trial using gin ((report -> 'predictions') jsonb_path_ops);

-- A trial that looks into the checkpoint of a pre-train trial.
alter type stage add value 'probe';

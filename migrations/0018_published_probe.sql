-- A probe of a published checkpoint waits for nothing; that of a checkpoint made here still does, as the recipe says.
alter table trial drop constraint trial_probe_waits;

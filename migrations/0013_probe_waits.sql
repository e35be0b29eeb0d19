-- A probe has nothing to look into before its pre-train trial has ended. (A value of a type cannot be used in the
-- transaction that adds it.)
alter table trial add constraint trial_probe_waits check (stage <> 'probe' or waits_for is not null);

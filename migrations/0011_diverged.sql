-- A run whose loss rose further above its lowest than its recipe allows.
alter type failure_kind add value 'diverged' after 'non_finite_loss';

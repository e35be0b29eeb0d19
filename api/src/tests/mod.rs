//! Tests of the HTTP API as a black box, against a real Postgres.

mod agent;
mod agents;
mod answers;
mod artifacts;
mod bounds;
mod checkpoints;
mod dashboard;
mod datasets;
mod events;
mod jobs;
mod lists;
mod metrics;
mod openapi;
mod server;
mod submissions;
mod tokens;
mod trial_checkpoint;

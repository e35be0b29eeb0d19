//! The handlers: one file for each resource.

pub(crate) mod agents;
pub(crate) mod artifacts;
pub(crate) mod checkpoint;
pub(crate) mod datasets;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod nodes;
pub(crate) mod report;
pub(crate) mod submission;
pub(crate) mod tokens;
pub(crate) mod trials;

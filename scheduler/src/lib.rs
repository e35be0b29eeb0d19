//! Which trial runs where: domain, store, placement, control loop, agent, statistics.

pub mod agent;
pub mod artifact;
pub mod attempt;
pub mod control;
pub mod dataset;
pub mod expand;
pub mod id;
pub mod job;
pub mod node;
pub mod place;
pub mod policy;
pub mod protocol;
pub mod report;
pub mod statistics;
pub mod store;
pub mod submission;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod trial;

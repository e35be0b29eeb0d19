//! Which trial runs where: domain, store, placement, control loop, agent, statistics.

pub mod artifact;
pub mod attempt;
pub mod control;
pub mod dataset;
pub mod expand;
pub mod job;
pub mod node;
pub mod place;
pub mod policy;
pub mod store;
pub mod submit;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod trial;

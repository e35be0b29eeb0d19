//! Which trial runs where: domain, store, placement, control loop, agent, statistics.

pub mod id;
pub mod protocol;
pub mod report;
pub mod statistics;

//! The report of a job, computed from made-up facts.

mod common;
mod speed;
mod tables;
mod verdict;

//! Decides which trial runs where, and remembers everything that happens.
//!
//! | module | content |
//! |---|---|
//! | [`job`], [`trial`], [`attempt`], [`node`], [`dataset`], [`token`] | The domain, and its views in the API. A trial's state is an enum whose transitions may refuse. |
//! | [`submit`], [`expand`] | From a submission to its trials and their cost. |
//! | [`place`], [`policy`] | The decisions, as pure functions: which trial on which slot; the consequence of an attempt's end. |
//! | [`control`] | The loop that applies these decisions. |
//! | [`store`] | The only SQL. |
//! | [`artifact`] | Files by their sha256, in a folder or in S3. |
//! | [`work`] | Blocking work, with limits on number and time. |
//! | `summary` | The meaning of an agent's reports. |
//!
//! The agent, its protocol and the report are crates beside this one: `agent`, `protocol`, `report`.

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
mod summary;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod trial;
pub mod work;

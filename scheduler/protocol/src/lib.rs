//! The messages between agents and servers, and the ids and digests in them.
//!
//! | module | content |
//! |---|---|
//! | [`id`] | The ids of jobs, trials, attempts, nodes and tokens, each a type of its own. |
//! | `digest` | [`Digest`], the sha256 that names an artifact. |
//! | `error` | [`error_chain`], which writes an error and its causes in one line. |
//! | `sync` | [`SyncRequest`] and [`SyncResponse`], the two sides of `POST /agents/sync`. |
//!
//! The crate has no I/O. Its feature `sql` lets the scheduler store ids in Postgres; the agent does not need it.

mod digest;
mod error;
pub mod id;
pub mod sync;

pub use digest::{Digest, InvalidDigest};
pub use error::error_chain;
pub use sync::{
    Acknowledgement, Assignment, AttemptEnd, AttemptReport, AttemptState, DatasetFile, DatasetFiles, KeptAttempt,
    NodeFacts, SequencedEvent, SequencedLine, SlotFacts, SyncRequest, SyncResponse,
};

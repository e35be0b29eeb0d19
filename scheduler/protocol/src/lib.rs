//! What agents and servers exchange.
//!
//! | module | content |
//! |---|---|
//! | [`id`] | Ids of jobs, trials, attempts, nodes and tokens, a type each. |
//! | `digest` | [`Digest`], the name of an artifact. |
//! | `sync` | The one call of an agent, `POST /agents/sync`: [`SyncRequest`] and [`SyncResponse`] with their parts. |
//!
//! The crate has no I/O. Its feature `sql` lets the scheduler store ids in Postgres; the agent does without it.

mod digest;
pub mod id;
mod sync;

pub use digest::{Digest, InvalidDigest};
pub use sync::{
    Acknowledgement, Assignment, AttemptReport, AttemptState, DatasetFile, DatasetFiles, EndedAs, Kept, NodeFacts,
    SequencedEvent, SequencedLine, SlotFacts, SyncRequest, SyncResponse,
};

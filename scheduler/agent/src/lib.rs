//! The process on a node that starts trainers, watches them and reports on them.
//!
//! The agent learns what should run from one call that it makes itself ([`protocol`]). It holds nothing in memory that
//! must not be lost: the output of a trainer is on disk before it is sent, and is sent again until the server has it. A
//! trainer ends with its agent, and before its lease ends.
//!
//! | module | content |
//! |---|---|
//! | `config`, `error`, `run` | [`Config`], [`Error`] and [`run()`]: what other crates use to run an agent. |
//! | `sync` | The agent's loop makes one call to the server and carries out the answer. |
//! | `plan`, `lease`, `outcome` | These decide without I/O: what starts and stops, how long it may run, how it ended. |
//! | `attempt` | One attempt is carried out here, from its assignment to its outcome. |
//! | `inputs`, `cache` | The files that a trainer reads are fetched by digest and cached. |
//! | `process`, `output` | A trainer is started and signalled, and its output is read. |
//! | `journal`, `spool` | Events and log lines wait on disk until the server has them. |
//! | `upload` | Checkpoints and predictions are sent to the artifact store before the events that name them. |
//! | `client` | The HTTP client makes the calls to the server. |
//! | `identity` | An agent process draws its id here, and learns that of the process before it. |
//! | `facts` | The name and the hardware of this node are read here. |
//! | `name` | File names from elsewhere are checked before they become paths. |

mod attempt;
mod cache;
mod client;
mod config;
mod error;
mod facts;
#[cfg(test)]
mod fixture;
mod identity;
mod inputs;
mod journal;
mod lease;
mod name;
mod outcome;
mod output;
mod plan;
mod process;
mod run;
mod spool;
mod sync;
mod upload;

pub use config::Config;
pub use error::Error;
pub use identity::instance_in;
pub use run::run;

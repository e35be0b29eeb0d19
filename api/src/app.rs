//! The state of the server that its handlers share.

use std::sync::Arc;

use scheduler::artifact::Artifacts;
use scheduler::policy::Policy;
use scheduler::store::Store;
use tokio_util::sync::CancellationToken;

use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::reports::Reports;
use crate::streams::Streams;
use crate::work::Workers;

/// Cheap to clone: axum gives each handler a copy.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    /// The same store on the connections that are kept for agents and the control loop.
    pub(crate) agents: Store,
    pub(crate) artifacts: Artifacts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: Policy,
    pub(crate) guesses: Guesses,
    pub(crate) reports: Reports,
    /// The streams of events that are open.
    pub(crate) streams: Streams,
    /// Plans jobs, reads long bodies and packs submissions.
    pub(crate) workers: Workers,
    /// Reads long reports of agents, which must not wait for people.
    pub(crate) agent_workers: Workers,
    /// Reads data sets that are being registered.
    pub(crate) scans: Workers,
    /// Cancelled when the server stops; ends the event streams, which would otherwise delay the stop.
    pub(crate) shutdown: CancellationToken,
}

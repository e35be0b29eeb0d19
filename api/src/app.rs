//! The state of the server that its handlers share.

use std::sync::Arc;

use scheduler::artifact::Artifacts;
use scheduler::dataset::Roots;
use scheduler::policy::Policy;
use scheduler::store::Store;
use tokio_util::sync::CancellationToken;

use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::reports::Reports;
use crate::streams::Streams;
use scheduler::work::Workers;

/// What the handlers share. The type is cheap to clone, because axum gives each handler a copy.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    /// The same store on the connections that are kept for agents and the control loop.
    pub(crate) agents: Store,
    pub(crate) artifacts: Artifacts,
    /// The folders whose files may be registered.
    pub(crate) roots: Roots,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: Policy,
    pub(crate) guesses: Guesses,
    pub(crate) reports: Reports,
    /// The streams of events that are open.
    pub(crate) streams: Streams,
    /// These workers plan jobs, read long bodies and pack submissions.
    pub(crate) workers: Workers,
    /// These workers read long reports of agents, which must not wait for people.
    pub(crate) agent_workers: Workers,
    /// These workers read data sets that are being registered.
    pub(crate) scans: Workers,
    /// The server cancels this token when it stops. That ends the event streams, which would otherwise delay the stop.
    pub(crate) shutdown: CancellationToken,
}

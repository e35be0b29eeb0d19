//! The state of the server that its handlers share.

use std::sync::Arc;

use scheduler::artifact::Artifacts;
use scheduler::policy::Policy;
use scheduler::store::Store;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the handlers share. The type is cheap to clone, because axum gives each handler a copy.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) artifacts: Artifacts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: Policy,
    /// The server cancels this token when it stops. That ends the event streams, which would otherwise delay the stop.
    pub(crate) shutdown: CancellationToken,
}

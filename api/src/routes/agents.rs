//! The one call of agents, which is idempotent.

use axum::extract::State;
use protocol::{SyncRequest, SyncResponse};

use crate::app::App;
use crate::body::Json;
use crate::error::Error;

/// An agent reports its slots, its attempts and their new events. The answer names the attempts that should run there.
#[utoipa::path(
    post, path = "/agents/sync", tag = "agents", security(("token" = [])), request_body = SyncRequest,
    responses((status = OK, body = SyncResponse)),
)]
pub(crate) async fn sync(
    State(app): State<App>,
    Json(request): Json<SyncRequest>,
) -> Result<Json<SyncResponse>, Error> {
    Ok(Json(app.store.sync(request, &app.policy).await?))
}

//! The one call of agents, which is idempotent.

use axum::extract::State;
use protocol::{SyncRequest, SyncResponse};
use recipe::problem::Problems;

use crate::app::App;
use crate::body::{AgentJson, Json};
use crate::error::{Error, ProblemDetails};

/// An agent reports its slots, its attempts and their new events. The answer names the attempts that should run there.
#[utoipa::path(
    post, path = "/agents/sync", tag = "agents", security(("token" = [])), request_body = SyncRequest,
    responses(
        (status = OK, body = SyncResponse),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn sync(
    State(app): State<App>,
    AgentJson(request): AgentJson<SyncRequest>,
) -> Result<Json<SyncResponse>, Error> {
    let mut problems = Problems::default();
    request.check(&mut problems);
    if !problems.is_empty() {
        return Err(Error::InvalidReport(problems.into_vec()));
    }
    Ok(Json(app.agents.sync(request, &app.policy).await?))
}

//! Trials: what each does, its numbers, its log.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use recipe::Stage;
use recipe::event::Point;
use scheduler::attempt::AttemptView;
use scheduler::id::{JobId, TrialId};
use scheduler::trial::{TrialFilter, TrialState, TrialView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::extract::{Path, Query};
use crate::page::{self, Cursor, Page};
use crate::router::App;

/// Points of each metric, unless the client asks for another number.
const DEFAULT_POINTS: u32 = 500;
const MOST_POINTS: u32 = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// 1 to 1000; 50 by default.
    limit: Option<i64>,
    cursor: Option<String>,
    #[param(inline)]
    stage: Option<Stage>,
    arm: Option<String>,
    #[param(inline)]
    state: Option<TrialState>,
}

/// A job's trials, in the order of its expansion.
#[utoipa::path(
    get, path = "/jobs/{id}/trials", tag = "trials", security(("token" = [])), params(("id" = JobId, Path), ListQuery),
    responses(
        (status = OK, body = Page<TrialView>, headers(("Link" = String))),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<App>,
    Path(job): Path<JobId>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> Result<Response, Error> {
    let limit = page::limit(query.limit)?;
    let after = page::start(query.cursor.as_deref(), |cursor| match cursor {
        Cursor::Trial(id) => Some(TrialId(id)),
        _ => None,
    })?;
    let filter = TrialFilter { stage: query.stage, arm: query.arm, state: query.state };
    let trials = app.store.trials(job, &filter, after, limit + 1).await?;
    Ok(Page::new(trials, limit, |trial| Cursor::Trial(trial.id.0).encode()).answer(&uri))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PointsQuery {
    /// At most so many points of each metric, 500 by default; the server thins them out.
    points: Option<u32>,
}

/// A trial with its numbers and its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialDetail {
    #[serde(flatten)]
    trial: TrialView,
    points: Vec<Point>,
    attempts_made: Vec<AttemptView>,
}

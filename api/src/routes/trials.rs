//! Trials: their state, metric points and logs.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use protocol::id::{JobId, TrialId};
use recipe::Stage;
use recipe::event::Point;
use scheduler::attempt::AttemptView;
use scheduler::store::{LogLine, Series};
use scheduler::trial::{TrialFilter, TrialState, TrialView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::extract::{Path, Query};
use crate::page::{self, Cursor, Page};

/// Default number of points of each metric.
const DEFAULT_POINTS: i64 = 500;
const DEFAULT_CURVE_POINTS: i64 = 400;
pub(crate) const MOST_POINTS: i64 = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Largest number of trials in the page, 1 to 1000; 50 by default.
    limit: Option<i64>,
    /// `next` of the page before; absent for the first page.
    cursor: Option<String>,
    #[param(inline)]
    stage: Option<Stage>,
    arm: Option<String>,
    #[param(inline)]
    state: Option<TrialState>,
}

/// Lists the trials of a job, in the order in which the job was expanded.
#[utoipa::path(
    get, operation_id = "list_job_trials", path = "/jobs/{id}/trials", tag = "trials", security(("token" = [])), params(("id" = JobId, Path), ListQuery),
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
    let trials = app.store.trials(job, &filter, &app.policy, limit + 1, after).await?;
    if trials.is_empty() {
        app.store.job(job).await?;
    }
    Ok(Page::new(trials, limit, |trial| Cursor::Trial(trial.id.0).encode()).answer(&uri))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PointsQuery {
    /// Largest number of points of each metric, 500 by default. The server drops points evenly to keep to it.
    points: Option<i64>,
}

/// A trial with its attempts and metric points.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialDetail {
    #[serde(flatten)]
    trial: TrialView,
    attempts: Vec<AttemptView>,
    points: Vec<Point>,
}

/// One trial with its attempts and metric points.
#[utoipa::path(
    get, operation_id = "get_trial", path = "/trials/{id}", tag = "trials", security(("token" = [])), params(("id" = TrialId, Path), PointsQuery),
    responses(
        (status = OK, body = TrialDetail),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Path(id): Path<TrialId>,
    Query(query): Query<PointsQuery>,
) -> Result<Json<TrialDetail>, Error> {
    let most = most_points(query.points, DEFAULT_POINTS)?;
    let trial = app.store.trial(id, &app.policy).await?;
    let attempts = app.store.attempts(id).await?;
    let points = app.store.points(id, most).await?;
    Ok(Json(TrialDetail { trial, attempts, points }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CurvesQuery {
    /// Name of the metric, such as `validation_loss`, `train_loss` or `theta`.
    name: String,
    /// Largest number of points of each trial, 400 by default. The server drops points evenly to keep to it.
    points: Option<i64>,
}

/// One metric of all trials of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Curves {
    name: String,
    series: Vec<Series>,
}

/// One metric over the steps, with one series for each trial that has it.
#[utoipa::path(
    get, operation_id = "get_job_curves", path = "/jobs/{id}/curves", tag = "trials", security(("token" = [])), params(("id" = JobId, Path), CurvesQuery),
    responses(
        (status = OK, body = Curves),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn curves(
    State(app): State<App>,
    Path(job): Path<JobId>,
    Query(CurvesQuery { name, points }): Query<CurvesQuery>,
) -> Result<Json<Curves>, Error> {
    let most = most_points(points, DEFAULT_CURVE_POINTS)?;
    let series = app.store.curves(job, &name, most).await?;
    if series.is_empty() {
        // Either no trial has such points yet, or the job does not exist, which is a 404.
        app.store.job(job).await?;
    }
    Ok(Json(Curves { name, series }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Only lines with a larger id: the id of the last line that the client has read, or `next` of the page before.
    after: Option<i64>,
    /// Largest number of lines in the page, 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// The log lines of a trial's attempts, in order. `next` is null if there are no more lines yet. To follow a running
/// trial, ask again with `after` set to the id of the last line.
#[utoipa::path(
    get, operation_id = "get_trial_logs", path = "/trials/{id}/logs", tag = "trials", security(("token" = [])), params(("id" = TrialId, Path), LogsQuery),
    responses(
        (status = OK, body = Page<LogLine>),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn logs(
    State(app): State<App>,
    Path(trial): Path<TrialId>,
    Query(query): Query<LogsQuery>,
) -> Result<Json<Page<LogLine>>, Error> {
    let limit = page::limit(query.limit)?;
    let lines = app.store.logs(trial, query.after.unwrap_or(0), limit + 1).await?;
    if lines.is_empty() {
        app.store.trial(trial, &app.policy).await?;
    }
    Ok(Json(Page::new(lines, limit, |line| line.id.to_string())))
}

fn most_points(requested: Option<i64>, default: i64) -> Result<i64, Error> {
    match requested.unwrap_or(default) {
        points @ 1..=MOST_POINTS => Ok(points),
        points => Err(Error::InvalidParameter(format!("points is {points}; 1 to {MOST_POINTS} are allowed"))),
    }
}

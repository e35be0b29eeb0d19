//! Trials: what each does, its numbers, its log.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use protocol::id::{JobId, TrialId};
use recipe::Stage;
use recipe::event::Point;
use scheduler::attempt::AttemptView;
use scheduler::store::{LogLine, Series};
use scheduler::trial::{TrialFilter, TrialState, TrialView};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::extract::{Path, Query};
use crate::page::{self, Cursor, Page};

/// Points of each metric, unless the client asks for another number.
const DEFAULT_POINTS: i64 = 500;
const DEFAULT_CURVE_POINTS: i64 = 400;
const MOST_POINTS: i64 = 10_000;

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
    /// At most so many points of each metric, 500 by default; the server thins them out.
    points: Option<i64>,
}

/// A trial with its numbers; its attempts are here themselves, not only their number.
#[derive(Debug)]
pub(crate) struct TrialDetail {
    trial: TrialView,
    points: Vec<Point>,
    attempts: Vec<AttemptView>,
}

impl TrialDetail {
    const ATTEMPTS: &str = "attempts";
    const POINTS: &str = "points";
}

impl Serialize for TrialDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = |part: serde_json::Result<Value>| part.map_err(S::Error::custom);
        let mut detail = value(serde_json::to_value(&self.trial))?;
        detail[Self::ATTEMPTS] = value(serde_json::to_value(&self.attempts))?;
        detail[Self::POINTS] = value(serde_json::to_value(&self.points))?;
        detail.serialize(serializer)
    }
}

impl PartialSchema for TrialDetail {
    fn schema() -> RefOr<Schema> {
        match TrialView::schema() {
            RefOr::T(Schema::Object(mut object)) => {
                let list = |items: RefOr<Schema>| ArrayBuilder::new().items(items).build();
                object.properties.insert(Self::ATTEMPTS.into(), list(reference::<AttemptView>()).into());
                object.properties.insert(Self::POINTS.into(), list(reference::<Point>()).into());
                object.required.push(Self::POINTS.into());
                RefOr::T(Schema::Object(object))
            }
            other => other,
        }
    }
}

impl ToSchema for TrialDetail {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in [(AttemptView::name(), AttemptView::schema()), (Point::name(), Point::schema())] {
            schemas.push((name.into_owned(), schema));
        }
        TrialView::schemas(schemas);
        AttemptView::schemas(schemas);
    }
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

/// A trial.
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
    Ok(Json(TrialDetail { trial, points: app.store.points(id, most).await?, attempts }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CurvesQuery {
    /// `validation_loss`, `train_loss`, `theta` ...
    name: String,
    /// At most so many points of each trial, 400 by default; the server thins them out.
    points: Option<i64>,
}

/// One metric of all trials of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Curves {
    name: String,
    series: Vec<Series>,
}

/// One metric over the steps, a series for each trial that has it.
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
        // No such points yet, or no such job?
        app.store.job(job).await?;
    }
    Ok(Json(Curves { name, series }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Id of the last line that was seen, or `next` of the last page.
    after: Option<i64>,
    /// 1 to 1000; 50 by default.
    limit: Option<i64>,
}

/// What a trial's attempts wrote, in order. `next` is null when there is no more for now; going on after the last line's id follows
/// a trial that still runs.
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

fn most_points(asked: Option<i64>, default: i64) -> Result<i64, Error> {
    match asked.unwrap_or(default) {
        points @ 1..=MOST_POINTS => Ok(points),
        points => Err(Error::InvalidParameter(format!("points {points}: 1 to {MOST_POINTS} are allowed"))),
    }
}

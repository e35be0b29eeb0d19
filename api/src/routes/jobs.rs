//! Jobs: submit, list, read, cancel.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::id::JobId;
use report::Power;
use scheduler::expand::{Expansion, PlannedJob};
use scheduler::job::{Job, JobSpec, JobSummary};
use scheduler::store::Submitted;
use scheduler::submit::{self, Inputs};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{self, Fitted, Json};
use crate::error::{Error, ProblemDetails};
use crate::etag;
use crate::extract::{Path, Query};
use crate::idempotency;
use crate::limits;
use crate::page::{self, Cursor, ListQuery, Page};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitQuery {
    /// If true, the job is checked and planned but not stored; the answer is its plan.
    #[serde(default)]
    dry_run: bool,
}

/// Submits a job, or only plans it (`dry_run`).
#[utoipa::path(
    post, operation_id = "submit_job", path = "/jobs", tag = "jobs", security(("token" = [])),
    params(
        SubmitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "A second request with the same key and body gets the job of the first one"),
    ),
    request_body = JobSpec,
    responses(
        (status = CREATED, body = Job, headers(("Location" = String))),
        (status = OK, description = "The plan, with `dry_run`", body = PlannedJob),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    let body = body?;
    let key = idempotency::key(caller.token, &headers, &body)?;
    let parsed = body::parse_long::<JobSpec>(&app.workers, headers, body).await;
    let Fitted { value, unknown } = parsed.map_err(Error::into_invalid_job)?;
    let spec = Arc::new(value.filled_in());
    if !unknown.is_empty() {
        return Err(Error::unknown_fields_of_job(unknown, plan(&app, &spec).await.err()));
    }
    if query.dry_run {
        let Planned { inputs, expansion } = plan(&app, &spec).await?;
        let estimate = submit::estimate(&app.store, &inputs, &spec, &expansion, app.policy.lease).await?;
        let power = Power::new(spec.pretrain.seeds, spec.questions(), spec.rules);
        return Ok(Json(PlannedJob { plan: expansion.plan.clone(), estimate, power }).into_response());
    }
    // A repeated request is answered before any check: its job was accepted, even if the corpus has changed since.
    if let Some(key) = &key
        && let Some(earlier) = app.store.replay(key).await?
    {
        return answer(&app, earlier).await;
    }
    let Planned { expansion, .. } = plan(&app, &spec).await?;
    let submitted = app.store.submit(&spec, &expansion, key.as_ref()).await?;
    answer(&app, submitted).await
}

/// Expands a submission off the threads that answer requests, since this takes long for a large job, and verifies its
/// datasets.
async fn plan(app: &App, spec: &Arc<JobSpec>) -> Result<Planned, Error> {
    let inputs = Arc::new(submit::look_up(&app.store, spec).await?);
    let (looked_up, spec) = (inputs.clone(), spec.clone());
    let expansion = app.workers.run(limits::WORK_TIME, move |_| looked_up.expand(&spec)).await??;
    inputs.verify(&app.roots).await?;
    Ok(Planned { inputs, expansion: Arc::new(expansion) })
}

/// A submission that can be carried out.
struct Planned {
    inputs: Arc<Inputs>,
    expansion: Arc<Expansion>,
}

/// The job as it is now; the same answer for a new job and for a repeated request.
async fn answer(app: &App, submitted: Submitted) -> Result<Response, Error> {
    let id = match submitted {
        Submitted::Created(id) | Submitted::Replayed(id) => id,
        Submitted::KeyReused => return Err(Error::IdempotencyKeyReused),
    };
    let job = app.store.job(id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/jobs/{id}"))], Json(job)).into_response())
}

/// Lists all jobs, newest first.
#[utoipa::path(
    get, operation_id = "list_jobs", path = "/jobs", tag = "jobs", security(("token" = [])), params(ListQuery),
    responses((status = OK, body = Page<JobSummary>, headers(("Link" = String)))),
)]
pub(crate) async fn list(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> Result<Response, Error> {
    let limit = page::limit(query.limit)?;
    let before = page::start(query.cursor.as_deref(), |cursor| match cursor {
        Cursor::Job(id) => Some(JobId(id)),
        _ => None,
    })?;
    let jobs = app.store.jobs(limit + 1, before).await?;
    Ok(Page::new(jobs, limit, |job| Cursor::Job(job.id.0).encode()).answer(&uri))
}

/// One job, with its specification, status, progress and estimated end.
#[utoipa::path(
    get, operation_id = "get_job", path = "/jobs/{id}", tag = "jobs", security(("token" = [])), params(("id" = JobId, Path)),
    responses(
        (status = OK, body = Job, headers(("ETag" = String))),
        (status = NOT_MODIFIED),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(State(app): State<App>, Path(id): Path<JobId>, headers: HeaderMap) -> Result<Response, Error> {
    let job = app.store.job(id).await?;
    let body = serde_json::to_vec(&job).map_err(Error::internal)?;
    Ok(etag::answer(&headers, "application/json", body))
}

/// Cancels the trials of a job that have not ended. A job that has ended does not change.
#[utoipa::path(
    post, operation_id = "cancel_job", path = "/jobs/{id}/cancel", tag = "jobs", security(("token" = [])), params(("id" = JobId, Path)),
    responses(
        (status = OK, body = Job),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel(State(app): State<App>, Path(id): Path<JobId>) -> Result<Json<Job>, Error> {
    Ok(Json(app.store.cancel(id).await?))
}

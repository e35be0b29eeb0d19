//! Jobs: submit, list, look, cancel, curves.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scheduler::id::JobId;
use scheduler::job::{Job, JobSpec, JobSummary};
use scheduler::plan::Plan;
use scheduler::store::curve::Curves;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::body::{self, Json};
use crate::error::{Error, ProblemDetails};
use crate::extract::{Path, Query};
use crate::idempotency::IdempotencyKey;
use crate::page::{self, Cursor, Page};
use crate::router::App;
use crate::etag;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitQuery {
    /// Check the job and answer with its plan; store nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Submits a job, or with `dry_run` plans it.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs", security(("token" = [])),
    params(SubmitQuery, ("Idempotency-Key" = Option<String>, Header, description = "The same key and body get the same job.")),
    request_body = JobSpec,
    responses(
        (status = CREATED, body = Job, headers(("Location" = String))),
        (status = OK, description = "The plan of a dry run.", body = Plan),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn submit(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Error> {
    let body = body?;
    let spec: JobSpec = body::parse(&headers, &body).map_err(as_job)?;
    todo!()
}

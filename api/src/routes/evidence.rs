//! The evidence for the report of a job.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use protocol::id::JobId;

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::evidence::{self, Content};
use crate::extract::Path;
use crate::{etag, limits};

/// Points of each curve of the validation loss, at most.
const POINTS: i64 = 400;

/// The job, what its trials found, its curves and its report in one archive, from which `lamina report --from` computes
/// every number again without a server.
#[utoipa::path(
    get, operation_id = "get_job_evidence", path = "/jobs/{id}/evidence.zip", tag = "jobs", security(("token" = [])), params(("id" = JobId, Path)),
    responses(
        (status = OK, body = [u8], content_type = "application/zip", headers(("ETag" = String))),
        (status = NOT_MODIFIED),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(State(app): State<App>, Path(id): Path<JobId>, headers: HeaderMap) -> Result<Response, Error> {
    let job = app.store.job(id).await?;
    let admitted = app.reports.admit().await?;
    let curves = app.store.curves(id, "validation_loss", POINTS).await?;
    let facts = job.facts(app.store.facts(id).await?);
    let archive = move |_: &_| {
        let content = Content { job: serde_json::to_vec(&job)?, curves: serde_json::to_vec(&curves)? };
        evidence::write(&facts, content)
    };
    let archive = app.workers.run(limits::WORK_TIME, archive).await?.map_err(Error::internal)?;
    drop(admitted);
    let mut response = etag::answer(&headers, "application/zip", archive);
    let disposition = HeaderValue::from_static("attachment; filename=\"evidence.zip\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

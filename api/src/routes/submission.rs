//! The submission of an arm to the GLUE server: one zip archive of the predictions of its trials.

use std::io::{Cursor, Write};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use protocol::Digest;
use protocol::id::JobId;
use recipe::Problem;
use report::submission::{self, Answers, FileError, SubmissionFile};
use scheduler::artifact::{ArtifactError, Artifacts};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::etag;
use crate::extract::{Path, Query};
use crate::limits;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmissionQuery {
    /// Name of the arm whose predictions are submitted.
    arm: String,
    /// Constant answers for tasks that no trial of the arm will answer; by default such a task is an error.
    #[param(inline)]
    fill: Option<Fill>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fill {
    /// The most frequent answer in the training data, on every line.
    Majority,
}

/// The files that the GLUE server expects, from the trials at the arm's selected learning rates.
///
/// For each task, the predictions come from the trial with the best score on the selection part, or on dev if there is
/// no such part. Equal predictions give an equal archive, byte by byte.
#[utoipa::path(
    get, operation_id = "get_job_submission", path = "/jobs/{id}/submission.zip", tag = "jobs", security(("token" = [])),
    params(("id" = JobId, Path), SubmissionQuery),
    responses(
        (status = OK, body = [u8], content_type = "application/zip", headers(("ETag" = String))),
        (status = NOT_MODIFIED),
        (status = NOT_FOUND, description = "No such job or arm", body = ProblemDetails, content_type = "application/problem+json"),
        (status = CONFLICT, description = "Some of the files cannot be made", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Path(id): Path<JobId>,
    Query(query): Query<SubmissionQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let job = app.store.job(id).await?;
    if !job.summary.arms.contains(&query.arm) {
        let known = job.summary.arms.join(", ");
        return Err(Error::NotFound(format!("arm {:?} in this job; its arms are {known}", query.arm)));
    }
    let admitted = app.reports.admit().await?;
    let facts = job.facts(app.store.facts(id).await?);
    let files =
        app.workers.run(limits::WORK_TIME, move |_| submission::files(&facts, &query.arm, query.fill.is_some()));
    let files = files.await?.map_err(incomplete)?;
    drop(admitted);
    let (mut contents, mut errors) = (Vec::with_capacity(files.len()), Vec::new());
    for file in files {
        match content(&file, &app.artifacts).await? {
            Ok(bytes) => contents.push((file.set.answers, bytes)),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(incomplete(errors));
    }
    let archive = app.workers.run(limits::WORK_TIME, move |_| archive(&contents)).await?;
    let mut response = etag::answer(&headers, "application/zip", archive.map_err(Error::internal)?);
    let disposition = HeaderValue::from_static("attachment; filename=\"submission.zip\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// The bytes of a file, or the reason why the server could not read them.
async fn content(file: &SubmissionFile, artifacts: &Artifacts) -> Result<Result<Vec<u8>, FileError>, Error> {
    let Answers::Predicted(predictions) = &file.answers else { return Ok(Ok(file.constant().into_bytes())) };
    let read = match predictions.sha256.parse::<Digest>() {
        Ok(digest) => artifacts.read(&digest).await,
        Err(invalid) => Err(ArtifactError::Name(invalid)),
    };
    match read {
        Ok(bytes) => Ok(file.check(&bytes).map(|()| bytes.to_vec())),
        Err(error @ (ArtifactError::NotFound(_) | ArtifactError::Name(_))) => {
            Ok(Err(file.malformed(error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

fn incomplete(errors: Vec<FileError>) -> Error {
    let problem = |error: FileError| Problem { pointer: format!("/{}", error.file), message: error.kind.to_string() };
    Error::IncompleteSubmission(errors.into_iter().map(problem).collect())
}

/// A zip archive that depends only on the files: every entry has the same time and mode.
fn archive(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

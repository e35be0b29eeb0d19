//! Artifacts: checkpoints and the files of datasets, named by the SHA-256 of their bytes and by nothing else. A name
//! that is not a digest is never read as a path; the answer is 404.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::Digest;

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::etag;
use crate::extract::Path;
use crate::range;

/// Stores the body under the SHA-256 of its bytes, which must match the path. Storing it again changes nothing.
#[utoipa::path(
    put, operation_id = "put_artifact", path = "/artifacts/{sha256}", tag = "artifacts", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 hexadecimal digits in lower case")),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, description = "The name is no sha256", body = ProblemDetails, content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(State(app): State<App>, Path(digest): Path<String>, body: Body) -> Result<StatusCode, Error> {
    app.artifacts.put(&parse(&digest)?, body.into_data_stream()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bytes of an artifact, or the range of them that `Range` names.
#[utoipa::path(
    get, operation_id = "get_artifact", path = "/artifacts/{sha256}", tag = "artifacts", security(("token" = [])),
    params(
        ("sha256" = String, Path, description = "64 hexadecimal digits in lower case"),
        ("Range" = Option<String>, Header, description = "`bytes=first-last`"),
    ),
    responses(
        (status = OK, body = [u8], content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, body = [u8], content_type = "application/octet-stream"),
        (status = NOT_MODIFIED),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
        (status = CONFLICT, description = "The dataset's file has changed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = RANGE_NOT_SATISFIABLE, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let digest = parse(&digest)?;
    let bytes = app.artifacts.head(&digest).await?.ok_or_else(|| absent(&digest))?;
    if etag::is_known(&headers, &tag(&digest)) {
        return Ok((StatusCode::NOT_MODIFIED, description(&digest)?).into_response());
    }
    let header = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range::parse(header, bytes)?;
    let (start, end) = range.as_ref().map_or((0, None), |range| (range.start, Some(range.end)));
    let found = app.artifacts.get(&digest, start, end).await?;
    let length = [(header::CONTENT_LENGTH, HeaderValue::from(found.range.end - found.range.start))];
    let body = Body::from_stream(found.stream);
    let mut response = (description(&digest)?, length, body).into_response();
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content = format!("bytes {}-{}/{}", range.start, range.end - 1, found.bytes);
        response.headers_mut().insert(header::CONTENT_RANGE, HeaderValue::try_from(content).map_err(Error::internal)?);
    }
    Ok(response)
}

/// Tells if an artifact is stored here, and its length in `Content-Length`.
#[utoipa::path(
    head, operation_id = "head_artifact", path = "/artifacts/{sha256}", tag = "artifacts", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 hexadecimal digits in lower case")),
    responses((status = OK), (status = NOT_FOUND)),
)]
pub(crate) async fn head(State(app): State<App>, Path(digest): Path<String>) -> Result<Response, Error> {
    let digest = parse(&digest)?;
    let bytes = app.artifacts.head(&digest).await?.ok_or_else(|| absent(&digest))?;
    Ok((description(&digest)?, [(header::CONTENT_LENGTH, HeaderValue::from(bytes))]).into_response())
}

fn parse(digest: &str) -> Result<Digest, Error> {
    digest
        .parse()
        .map_err(|_| Error::NotFound("artifact of that name; a name is 64 hexadecimal digits in lower case".into()))
}

fn absent(digest: &Digest) -> Error {
    Error::NotFound(format!("artifact {digest}"))
}

fn tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Headers of every answer about an artifact. Its content never changes, so it may be cached for ever.
fn description(digest: &Digest) -> Result<[(header::HeaderName, HeaderValue); 5], Error> {
    Ok([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::ETAG, HeaderValue::try_from(tag(digest)).map_err(Error::internal)?),
    ])
}

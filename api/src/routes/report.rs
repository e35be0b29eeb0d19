//! The report of a job: statistics over its trials.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use protocol::id::JobId;
use report::Report;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::etag;
use crate::extract::{Path, Query};
use crate::format::Format;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// Format of the answer; without it, `Accept` decides, and JSON is the default.
    #[param(inline)]
    format: Option<Format>,
}

/// Speed, loss and spread of a job's arms. While the job runs, the report covers the trials that have ended.
#[utoipa::path(
    get, operation_id = "get_job_report", path = "/jobs/{id}/report", tag = "jobs", security(("token" = [])), params(("id" = JobId, Path), ReportQuery),
    responses(
        (status = OK, headers(("ETag" = String)), content((Report = "application/json"), (String = "text/markdown"), (String = "application/x-tex"), (String = "text/csv"), (String = "text/html"))),
        (status = NOT_MODIFIED),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Path(id): Path<JobId>,
    Query(query): Query<ReportQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let report = app.reports.get(&app.store, id).await?;
    let format = query.format.unwrap_or_else(|| accepted(&headers));
    let body = match format.writer() {
        None => report.json.clone(),
        Some(write) => app.reports.write(&report, write).await?.into(),
    };
    Ok(etag::answer(&headers, format.media_type(), body))
}

/// The first format in `Accept` that this route can write. Quality values are ignored.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = accept.flat_map(|value| value.split(',')).map(|part| part.split(';').next().unwrap_or_default().trim());
    let known = |kind: &str| match kind {
        "*/*" => Some(Format::Json),
        kind => Format::ALL.into_iter().find(|format| format.essence() == kind),
    };
    first.into_iter().find_map(known).unwrap_or(Format::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_first_format_that_the_client_names_is_sent() {
        let format = |accept: &'static str| {
            accepted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(format("text/markdown"), Format::Markdown);
        assert_eq!(format("text/markdown;q=0.9, */*;q=0.1"), Format::Markdown);
        assert_eq!(format("application/json, text/markdown"), Format::Json);
        assert_eq!(format("image/png, text/csv, */*"), Format::Csv);
        assert_eq!(format("*/*"), Format::Json);
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}

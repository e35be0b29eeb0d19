//! The report of a job: statistics over its trials.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use protocol::id::JobId;
use report::Report;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::etag;
use crate::extract::{Path, Query};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReportQuery {
    /// Format of the answer; without it, `Accept` decides, and JSON is the default.
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Json,
    Markdown,
}

/// Speed, loss and spread of a job's arms. While the job runs, the report covers the trials that have ended.
#[utoipa::path(
    get, operation_id = "get_job_report", path = "/jobs/{id}/report", tag = "jobs", security(("token" = [])), params(("id" = JobId, Path), ReportQuery),
    responses(
        (status = OK, headers(("ETag" = String)), content((Report = "application/json"), (String = "text/markdown"))),
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
    let (media_type, body) = match query.format.unwrap_or_else(|| accepted(&headers)) {
        Format::Json => ("application/json", &report.json),
        Format::Markdown => ("text/markdown; charset=utf-8", &report.markdown),
    };
    Ok(etag::answer(&headers, media_type, body.clone()))
}

/// The first format in `Accept` that this route can write. Quality values are ignored.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = accept.flat_map(|value| value.split(',')).map(|part| part.split(';').next().unwrap_or_default().trim());
    match first.into_iter().find(|kind| matches!(*kind, "text/markdown" | "application/json" | "*/*")) {
        Some("text/markdown") => Format::Markdown,
        _ => Format::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn markdown_is_sent_only_if_the_client_asks_for_it_first() {
        let format = |accept: &'static str| {
            accepted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(format("text/markdown"), Format::Markdown);
        assert_eq!(format("text/markdown;q=0.9, */*;q=0.1"), Format::Markdown);
        assert_eq!(format("application/json, text/markdown"), Format::Json);
        assert_eq!(format("*/*"), Format::Json);
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}

//! The report of a job: its statistics, from the facts that its trials left.

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
    /// `json` by default, or what `Accept` prefers.
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    Json,
    Markdown,
}

/// How much faster, at what loss, with which spread; of a job that still runs, what is known so far.
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
    let job = app.store.job(id).await?;
    let trials = app.store.facts(id).await?;
    // Exact tests over many seeds take a while: not on a thread that answers others.
    let report =
        tokio::task::spawn_blocking(move || report::report(&job.facts(trials))).await.map_err(Error::internal)?;
    match query.format.unwrap_or_else(|| accepted(&headers)) {
        Format::Json => {
            let body = serde_json::to_vec(&report).map_err(Error::internal)?;
            Ok(etag::answer(&headers, "application/json", body))
        }
        Format::Markdown => {
            Ok(etag::answer(&headers, "text/markdown; charset=utf-8", report.to_markdown().into_bytes()))
        }
    }
}

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
    fn markdown_is_for_those_who_ask_for_it() {
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

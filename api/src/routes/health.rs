//! Health, metrics and the OpenAPI document. These routes need no token.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::metrics;

/// The address of [`live`], which is answered even if the server has no place for another connection.
pub(crate) const LIVE: &str = "/healthz";

/// Answers as long as the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = OK, body = String)))]
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Answers 200 if the server can work: the database is reachable and its migrations are applied.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = OK, body = String),
    (status = SERVICE_UNAVAILABLE, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn ready(State(app): State<App>) -> Result<&'static str, Error> {
    app.store.ready().await.map_err(Error::not_ready)?;
    Ok("ready\n")
}

/// Metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = OK, body = String)))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Error> {
    let text = app.metrics.scrape(&app.store, app.policy.lease).await.map_err(Error::internal)?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", responses((status = OK, body = Object, content_type = "application/json")),
)]
pub(crate) async fn openapi(Extension(document): Extension<Arc<Value>>) -> Json<Arc<Value>> {
    Json(document)
}

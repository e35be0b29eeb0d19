//! The table of routes: the handler of each address and the scopes that may call it. The OpenAPI document follows from
//! the same lines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, Method};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::{Extension, Router};
use scheduler::token::Scope;
use serde_json::Value;
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::app::App;
use crate::error::Error;
use crate::openapi::{self, Preamble};
use crate::routes::{agents, artifacts, datasets, events, health, jobs, nodes, report, submission, tokens, trials};
use crate::{auth, dashboard, metrics};

/// Largest size of a body in bytes, unless its route sets another limit.
const BODY_LIMIT: usize = 1 << 20;
/// Largest size of the body of a sync in bytes: an agent that was cut off for hours reports many events at once.
const SYNC_LIMIT: usize = 64 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole service.
pub(crate) fn router(app: App) -> Result<Router> {
    let document = document()?;
    let guarded = |(scopes, group): (&'static [Scope], OpenApiRouter<App>)| {
        group.route_layer(from_fn_with_state((app.clone(), scopes), auth::require))
    };
    let (router, _) =
        guarded_routes().map(guarded).into_iter().fold(open_routes(), OpenApiRouter::merge).split_for_parts();
    let router = router
        .fallback(dashboard::fallback)
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(from_fn_with_state(app.metrics.clone(), metrics::measure))
        .layer(Extension(Arc::new(document)))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
                .layer(TraceLayer::new_for_http().make_span_with(span).on_response(log_response).on_failure(()))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID)),
        )
        .with_state(app);
    Ok(router)
}

/// The OpenAPI document of all routes; it needs neither a database nor a server.
pub(crate) fn document() -> Result<Value> {
    let start = OpenApiRouter::with_openapi(Preamble::openapi()).merge(open_routes());
    let routes = guarded_routes().into_iter().map(|(_, group)| group).fold(start, OpenApiRouter::merge);
    openapi::finished(routes.into_openapi())
}

/// Routes that need no token.
fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi))
}

/// One group for each set of scopes, one of which its caller's token must have. A larger scope includes the smaller
/// ones.
fn guarded_routes() -> [(&'static [Scope], OpenApiRouter<App>); 6] {
    let read = OpenApiRouter::new()
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(trials::curves))
        .routes(routes!(report::get))
        .routes(routes!(submission::get))
        .routes(routes!(events::stream))
        .routes(routes!(trials::list))
        .routes(routes!(trials::get))
        .routes(routes!(trials::logs))
        .routes(routes!(nodes::list))
        .routes(routes!(datasets::list));
    let write = OpenApiRouter::new()
        .routes(routes!(jobs::submit))
        .routes(routes!(jobs::cancel))
        .routes(routes!(datasets::register));
    let fetch = OpenApiRouter::new().routes(routes!(artifacts::get, artifacts::head));
    let store = OpenApiRouter::new().routes(routes!(artifacts::put)).layer(DefaultBodyLimit::disable());
    let sync = OpenApiRouter::new().routes(routes!(agents::sync)).layer(DefaultBodyLimit::max(SYNC_LIMIT));
    let admin = OpenApiRouter::new()
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::resume))
        .routes(routes!(nodes::delete))
        .routes(routes!(tokens::list))
        .routes(routes!(tokens::create))
        .routes(routes!(tokens::revoke));
    [
        (&[Scope::Read], read),
        (&[Scope::Write], write),
        (&[Scope::Read, Scope::Agent], fetch),
        (&[Scope::Write, Scope::Agent], store),
        (&[Scope::Agent], sync),
        (&[Scope::Admin], admin),
    ]
}

async fn method_not_allowed(method: Method) -> Error {
    Error::MethodNotAllowed(method)
}

#[derive(Clone)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        Uuid::now_v7().to_string().parse().ok().map(RequestId::new)
    }
}

fn span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    // The query is left out because it may contain values that must not be logged.
    tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
}

fn log_response(response: &Response, latency: Duration, _: &Span) {
    tracing::debug!(status = response.status().as_u16(), milliseconds = latency.as_millis(), "answered");
}

//! The table of routes: the handler of each address and the scopes that may call it. The OpenAPI document follows from
//! the same lines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::Method;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::{Extension, Router};
use scheduler::token::Scope;
use serde_json::Value;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admission::{
    NewRequestId, Parameters, REQUEST_ID, after_panic, check_query, limit_time, without_strange_id,
};
use crate::app::App;
use crate::error::Error;
use crate::openapi::{self, Preamble};
use crate::routes::{
    agents, artifacts, checkpoint, datasets, events, evidence, health, jobs, nodes, report, submission, tokens, trials,
};
use crate::{auth, dashboard, etag, limits, metrics};

/// Largest size of a body in bytes, unless its route sets another limit.
const BODY_LIMIT: usize = 1 << 20;
/// Largest size of the body of a sync in bytes: an agent that was cut off for hours reports many events at once.
const SYNC_LIMIT: usize = 64 << 20;

/// The whole service.
pub(crate) fn router(app: App) -> Result<Router> {
    let document = document()?;
    let parameters = Arc::new(Parameters::of(&document));
    let checked = |group: OpenApiRouter<App>| group.route_layer(from_fn_with_state(parameters.clone(), check_query));
    let guarded = |(scopes, group): (&'static [Scope], OpenApiRouter<App>)| {
        checked(group).route_layer(from_fn_with_state((app.clone(), scopes), auth::require))
    };
    let open = checked(timed(open_routes()));
    let (router, _) = guarded_routes().map(guarded).into_iter().fold(open, OpenApiRouter::merge).split_for_parts();
    let router = router
        .fallback(dashboard::fallback)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(after_panic))
        .route_layer(from_fn_with_state(app.metrics.clone(), metrics::measure))
        .layer(Extension(Arc::new(document)))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(RequestBodyTimeoutLayer::new(limits::IDLE_TIME))
        .layer(CompressionLayer::new().compress_when(is_compressible()))
        .layer(map_response(etag::weakened))
        .layer(
            ServiceBuilder::new()
                .map_request(without_strange_id)
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
fn guarded_routes() -> [(&'static [Scope], OpenApiRouter<App>); 7] {
    let read = OpenApiRouter::new()
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(trials::curves))
        .routes(routes!(report::get))
        .routes(routes!(evidence::get))
        .routes(routes!(submission::get))
        .routes(routes!(events::stream))
        .routes(routes!(trials::list))
        .routes(routes!(trials::get))
        .routes(routes!(trials::logs))
        .routes(routes!(checkpoint::get))
        .routes(routes!(checkpoint::archive))
        .routes(routes!(nodes::list))
        .routes(routes!(datasets::list));
    let write = OpenApiRouter::new().routes(routes!(jobs::submit)).routes(routes!(jobs::cancel));
    let scan = OpenApiRouter::new().routes(routes!(datasets::register));
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
        (&[Scope::Read], timed(read)),
        (&[Scope::Write], timed(write)),
        // A registration may read for long; its workers limit it.
        (&[Scope::Write], scan),
        (&[Scope::Read, Scope::Agent], timed(fetch)),
        // An upload may be long; the pauses within its body are limited.
        (&[Scope::Write, Scope::Agent], store),
        (&[Scope::Agent], timed(sync)),
        (&[Scope::Admin], timed(admin)),
    ]
}

/// A group whose requests have a limit of time.
fn timed(group: OpenApiRouter<App>) -> OpenApiRouter<App> {
    group.route_layer(from_fn_with_state(limits::REQUEST_TIME, limit_time))
}

/// Text that is worth the work. An event stream would arrive late, and what is stored as a file has its own format.
fn is_compressible() -> impl Predicate {
    DefaultPredicate::new()
        .and(NotForContentType::const_new("application/octet-stream"))
        .and(NotForContentType::const_new("application/zip"))
        .and(NotForContentType::const_new("application/x-tar"))
}

async fn method_not_allowed(method: Method) -> Error {
    Error::MethodNotAllowed(method)
}

fn span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    // The query is left out because it may contain values that must not be logged.
    tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
}

fn log_response(response: &Response, latency: Duration, _: &Span) {
    tracing::debug!(status = response.status().as_u16(), milliseconds = latency.as_millis(), "answered");
}

//! What every request has to pass: its id, its query and its time.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use tokio::time::timeout;
use tower_http::request_id::{MakeRequestId, RequestId};
use uuid::Uuid;

use crate::error::Error;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client or a proxy: that of any tracing system, but no text.
const LONGEST_REQUEST_ID: usize = 128;
/// Longest value of a parameter in characters; names and cursors are shorter.
pub(crate) const LONGEST_PARAMETER: usize = 1000;

/// Makes the id of a request that has none.
#[derive(Clone)]
pub(crate) struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        Uuid::now_v7().to_string().parse().ok().map(RequestId::new)
    }
}

/// Drops the id that a request brings unless it is short and printable: it comes back in the answer and in the log.
pub(crate) fn without_strange_id<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    let is_fit = |id: &HeaderValue| {
        (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if !request.headers().get(&REQUEST_ID).is_none_or(is_fit) {
        request.headers_mut().remove(&REQUEST_ID);
    }
    request
}

/// The answer to a request whose handler panicked. The panic itself was logged where it happened.
pub(crate) fn after_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    Error::Panicked.into_response()
}

/// Ends a request that has no answer after `limit`, its body included. The handler is dropped, and with it all that it
/// waits for.
pub(crate) async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Result<Response, Error> {
    timeout(limit, next.run(request)).await.map_err(|_| {
        let seconds = limit.as_secs();
        Error::TimedOut(format!("there is no answer after {seconds} s, in which the whole body must have arrived"))
    })
}

/// The names of the query parameters of each route, from the OpenAPI document: a route refuses every other name, so
/// that a mistyped filter is not taken for no filter.
pub(crate) struct Parameters(BTreeMap<String, BTreeMap<String, Vec<String>>>);

impl Parameters {
    pub(crate) fn of(document: &Value) -> Self {
        let names = |operation: &Value| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let in_query = parameters.filter(|parameter| parameter["in"] == "query");
            in_query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect()
        };
        let operations = |item: &Map<String, Value>| item.iter().map(|(k, v)| (k.clone(), names(v))).collect();
        let paths = document["paths"].as_object().into_iter().flatten();
        Self(paths.filter_map(|(path, item)| Some((path.clone(), operations(item.as_object()?)))).collect())
    }

    /// `None` for a route or method that the document does not have.
    fn names(&self, path: &str, method: &Method) -> Option<&[String]> {
        let operations = self.0.get(path)?;
        let own = operations.get(&method.as_str().to_lowercase());
        // A GET answers HEAD, too.
        own.or_else(|| operations.get("get").filter(|_| method == Method::HEAD)).map(Vec::as_slice)
    }

    fn check(&self, path: &str, method: &Method, query: &[(String, String)]) -> Result<(), Error> {
        let Some(names) = self.names(path, method) else { return Ok(()) };
        for (name, value) in query {
            if !names.contains(name) {
                let known = if names.is_empty() { "none".into() } else { names.join(", ") };
                let name: String = name.chars().take(50).collect();
                return Err(Error::InvalidParameter(format!("there is no parameter {name:?} here: there are {known}")));
            }
            if value.contains('\0') {
                return Err(Error::InvalidParameter(format!("{name} contains the character NUL (%00)")));
            }
            let length = value.chars().count();
            if length > LONGEST_PARAMETER {
                let message = format!("{name} has {length} characters: at most {LONGEST_PARAMETER} are allowed");
                return Err(Error::InvalidParameter(message));
            }
        }
        Ok(())
    }
}

/// Refuses parameters that the route does not have, and values that no parameter may have.
pub(crate) async fn check_query(
    State(parameters): State<Arc<Parameters>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(request.uri())?;
    parameters.check(path.as_str(), request.method(), &query)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::extract::rejection::BytesRejection;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;
    use tower_http::timeout::RequestBodyTimeoutLayer;

    #[tokio::test]
    async fn a_request_without_an_answer_is_ended_and_its_handler_dropped() {
        let (dropped, mut was_dropped) = tokio::sync::oneshot::channel::<()>();
        let slot = Arc::new(std::sync::Mutex::new(Some(dropped)));
        let handler = move || {
            let held = slot.lock().unwrap().take();
            async move {
                let _held = held;
                std::future::pending::<()>().await;
            }
        };
        let router = Router::new().route("/", get(handler));
        let router = router.layer(from_fn_with_state(Duration::from_millis(1), limit_time));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
        assert!(was_dropped.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Closed));
    }

    #[tokio::test]
    async fn a_panic_of_a_handler_is_a_problem_and_no_broken_connection() {
        async fn handler() {
            panic!("on purpose")
        }
        let router = Router::new().route("/", get(handler)).layer(CatchPanicLayer::custom(after_panic));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("purpose"), "the client does not see the cause");
    }

    #[tokio::test]
    async fn a_body_that_stops_to_arrive_is_told_so() {
        async fn handler(body: Result<Bytes, BytesRejection>) -> Result<(), Error> {
            body?;
            Ok(())
        }
        let layer = RequestBodyTimeoutLayer::new(Duration::from_millis(1));
        let router = Router::new().route("/", post(handler)).layer(layer);
        let silent = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        let response = router.oneshot(Request::post("/").body(silent).unwrap()).await.unwrap();
        assert_eq!(response.status(), 408);
    }

    #[test]
    fn an_id_is_kept_only_if_it_is_short_and_printable() {
        let kept = |id: &str| {
            let request = Request::builder().header(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            without_strange_id(request.body(()).unwrap()).headers().contains_key(REQUEST_ID)
        };
        assert!(kept("0198c5ff-2f3e-7000-8000-000000000001") && kept(&"a".repeat(LONGEST_REQUEST_ID)));
        for strange in ["", "a b", "é", "a\tb", &"a".repeat(LONGEST_REQUEST_ID + 1)] {
            assert!(!kept(strange), "{strange:?}");
        }
    }
}

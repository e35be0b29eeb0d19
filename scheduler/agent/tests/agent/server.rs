//! A server as agents see it, which keeps what it hears and can be told to misbehave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{FutureExt, StreamExt};
use protocol::id::AttemptId;
use protocol::{Acknowledgement, Assignment, AttemptEnd, AttemptReport, AttemptState, SyncRequest, SyncResponse};
use recipe::Event;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "lamina_test";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) run: Vec<Assignment>,
    pub(crate) lease_seconds: f64,
    /// Answers nothing but 503.
    pub(crate) away: bool,
    /// Keeps what it hears and then answers 503, as when the answer is lost.
    pub(crate) loses_answers: bool,
    /// Artifacts are answered with 503.
    pub(crate) store_is_away: bool,
    pub(crate) heard: BTreeMap<AttemptId, Heard>,
    pub(crate) artifacts: BTreeMap<String, Vec<u8>>,
    /// From which byte on each artifact was fetched, each time.
    pub(crate) fetched: BTreeMap<String, Vec<usize>>,
    /// The connection breaks after so many bytes of an artifact.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) syncs: usize,
    pub(crate) last_sync: Instant,
    pub(crate) instances: Vec<Uuid>,
    pub(crate) leaving: bool,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) events: Vec<Event>,
    pub(crate) log: Vec<String>,
    pub(crate) ended: Option<AttemptEnd>,
}

impl Heard {
    pub(crate) fn steps(&self) -> Vec<u64> {
        let step = |event: &Event| match event {
            Event::Progress { step, .. } | Event::Checkpointed { step, .. } => Some(*step),
            _ => None,
        };
        self.events.iter().filter_map(step).collect()
    }

    /// The rest of the log line that begins so.
    pub(crate) fn after(&self, beginning: &str) -> Option<&str> {
        self.log.iter().find_map(|line| line.strip_prefix(beginning))
    }
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    world: Arc<watch::Sender<World>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let world = Arc::new(watch::Sender::new(World {
            run: Vec::new(),
            lease_seconds: 60.0,
            away: false,
            loses_answers: false,
            store_is_away: false,
            heard: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            fetched: BTreeMap::new(),
            breaks_after: None,
            syncs: 0,
            last_sync: Instant::now(),
            instances: Vec::new(),
            leaving: false,
        }));
        let router = Router::new()
            .route("/agents/sync", post(sync))
            .route("/artifacts/{digest}", get(artifact).put(store))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .layer(middleware::from_fn_with_state(world.clone(), guard))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, world }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut result = None;
        self.world.send_modify(|world| result = Some(change(world)));
        result.unwrap()
    }

    pub(crate) fn assign(&self, assignment: &Assignment) {
        self.change(|world| world.run.push(assignment.clone()));
    }

    /// Puts something into the artifact store and returns its digest.
    pub(crate) fn keep(&self, content: &[u8]) -> String {
        let digest = sha256(content);
        self.change(|world| world.artifacts.insert(digest.clone(), content.to_vec()));
        digest
    }

    /// Waits for a condition, with a bound.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        let mut world = self.world.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(30), world.wait_for(|world| condition(world))).await;
        if found.is_err() {
            panic!("waited in vain until {what}; the world is {:#?}", self.world.borrow());
        }
    }

    /// Waits for the end of an attempt, and returns all that was heard of it.
    pub(crate) async fn end_of(&self, attempt: AttemptId) -> Heard {
        self.until("the attempt has ended", |world| world.heard.get(&attempt).is_some_and(|h| h.ended.is_some())).await;
        self.heard(attempt)
    }

    pub(crate) fn heard(&self, attempt: AttemptId) -> Heard {
        self.world.borrow().heard.get(&attempt).cloned().unwrap_or_default()
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.borrow())
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

type Shared = State<Arc<watch::Sender<World>>>;

async fn guard(State(world): Shared, request: Request, next: Next) -> Response {
    let of_the_store = request.uri().path().starts_with("/artifacts");
    if world.borrow().away || (of_the_store && world.borrow().store_is_away) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let authorized =
        request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    if authorized { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
}

async fn sync(State(world): Shared, Json(request): Json<SyncRequest>) -> Response {
    let mut answer = None;
    world.send_modify(|world| answer = Some(hear(world, request)));
    if world.borrow().loses_answers {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(answer.unwrap()).into_response()
}

fn hear(world: &mut World, request: SyncRequest) -> SyncResponse {
    world.syncs += 1;
    world.last_sync = Instant::now();
    world.leaving = request.leaving;
    if world.instances.last() != Some(&request.instance) {
        world.instances.push(request.instance);
    }
    let acknowledged = request.attempts.into_iter().map(|report| hear_report(world, report)).collect();
    SyncResponse {
        lease_seconds: world.lease_seconds,
        sync_seconds: 0.2,
        run: world.run.clone(),
        keep: vec![],
        acknowledged,
    }
}

/// As the real server: an attempt is closed by its report or its end, and what it says after that is not heard.
fn hear_report(world: &mut World, report: AttemptReport) -> Acknowledgement {
    let attempt = report.attempt;
    let heard = world.heard.entry(attempt).or_default();
    let is_open = |world: &[Assignment]| world.iter().any(|assignment| assignment.attempt == attempt);
    if is_open(&world.run) {
        for event in report.events {
            let known = heard.events.len() as u64;
            assert!(event.sequence <= known + 1, "a gap: event {} after {known}", event.sequence);
            if event.sequence == known + 1 {
                heard.events.push(event.event);
            }
        }
        for line in report.log {
            let known = heard.log.len() as u64;
            assert!(line.sequence <= known + 1, "a gap: line {} after {known}", line.sequence);
            if line.sequence == known + 1 {
                heard.log.push(line.text);
            }
        }
        if matches!(heard.events.last(), Some(Event::Finished { .. })) {
            heard.ended = Some(AttemptEnd::Succeeded);
        } else if let AttemptState::Ended { outcome } = report.state {
            heard.ended = Some(outcome);
        }
        if heard.ended.is_some() {
            world.run.retain(|assignment| assignment.attempt != attempt);
        }
    }
    let closed = !is_open(&world.run);
    Acknowledgement { attempt, events: heard.events.len() as u64, log: heard.log.len() as u64, closed }
}

/// GET (with `Range: bytes=N-`) and, through axum, HEAD.
async fn artifact(State(world): Shared, Path(digest): Path<String>, headers: HeaderMap) -> Response {
    let Some(content) = world.borrow().artifacts.get(&digest).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers.get(header::RANGE).map(|value| value.to_str().unwrap());
    let from =
        range.map_or(0, |range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
    let mut breaks_after = None;
    world.send_modify(|world| {
        world.fetched.entry(digest).or_default().push(from);
        breaks_after = world.breaks_after.take();
    });
    if from > 0 && from >= content.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let rest = content[from..].to_vec();
    match breaks_after {
        None => (status, rest).into_response(),
        Some(bytes) => {
            let broken = Err(std::io::Error::other("the line breaks"));
            let parts = [Ok(Bytes::from(rest).slice(..bytes)), broken];
            // The break comes one turn later, so that the first part has left.
            let parts = futures::stream::iter(parts).then(|part| tokio::task::yield_now().map(|()| part));
            (status, Body::from_stream(parts)).into_response()
        }
    }
}

async fn store(State(world): Shared, Path(digest): Path<String>, content: Bytes) -> StatusCode {
    if sha256(&content) != digest {
        return StatusCode::BAD_REQUEST;
    }
    world.send_modify(|world| drop(world.artifacts.insert(digest, content.to_vec())));
    StatusCode::CREATED
}

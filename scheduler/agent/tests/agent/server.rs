//! A server for agents that records what they send, and that a test can make misbehave.

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
use recipe::{Event, Failure, TrialReport};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const TOKEN: &str = "lamina_test";

/// The state of the server.
#[derive(Debug)]
pub(crate) struct World {
    /// The attempts that should run.
    pub(crate) run: Vec<Assignment>,
    pub(crate) lease_seconds: f64,
    /// True if every answer is 503.
    pub(crate) away: bool,
    /// True if requests are recorded and then answered with 503, as if the answer were lost.
    pub(crate) loses_answers: bool,
    /// True if requests for artifacts are answered with 503.
    pub(crate) store_is_away: bool,
    pub(crate) heard: BTreeMap<AttemptId, Heard>,
    pub(crate) artifacts: BTreeMap<String, Vec<u8>>,
    /// For each artifact, the first byte of each request for it.
    pub(crate) fetched: BTreeMap<String, Vec<usize>>,
    /// The number of bytes of an artifact after which the connection breaks, once.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) syncs: usize,
    pub(crate) last_sync: Instant,
    pub(crate) instances: Vec<Uuid>,
    pub(crate) leaving: bool,
}

/// Everything that the server has heard of an attempt.
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

    /// The log lines that the script's own commands printed. Those of the prelude and the agent contain `": "`.
    pub(crate) fn printed(&self) -> Vec<&str> {
        self.log.iter().map(String::as_str).filter(|line| !line.contains(": ")).collect()
    }

    /// The failure with which the attempt ended.
    pub(crate) fn failure(&self) -> Failure {
        match &self.ended {
            Some(AttemptEnd::Failed { failure }) => failure.clone(),
            other => panic!("{other:?} is not a failure"),
        }
    }

    /// The names of the predictions in the report, which is the last event.
    pub(crate) fn predictions(&self) -> Vec<&str> {
        let Some(Event::Finished { report: TrialReport::Finetune(report) }) = self.events.last() else {
            panic!("{:?} does not end with a fine-tune report", self.events)
        };
        report.predictions.iter().map(|file| file.name.as_str()).collect()
    }

    /// The rest of the first log line with this beginning.
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

    /// Stores an artifact and returns its digest.
    pub(crate) fn keep(&self, content: &[u8]) -> String {
        let digest = sha256(content);
        self.change(|world| world.artifacts.insert(digest.clone(), content.to_vec()));
        digest
    }

    /// Waits for a condition; panics after 30 seconds.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        let mut world = self.world.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(30), world.wait_for(|world| condition(world))).await;
        if found.is_err() {
            panic!("waited in vain until {what}; the world is {:#?}", self.world.borrow());
        }
    }

    /// Waits for the end of an attempt, and returns what was heard of it.
    pub(crate) async fn end_of(&self, attempt: AttemptId) -> Heard {
        self.until("the attempt has ended", |world| world.heard.get(&attempt).is_some_and(|h| h.ended.is_some())).await;
        self.heard(attempt)
    }

    pub(crate) fn heard(&self, attempt: AttemptId) -> Heard {
        self.world.borrow().heard.get(&attempt).cloned().unwrap_or_default()
    }

    /// True if the artifact store has this content.
    pub(crate) fn stores(&self, content: &[u8]) -> bool {
        self.look(|world| world.artifacts.contains_key(&sha256(content)))
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
    let is_artifact = request.uri().path().starts_with("/artifacts");
    if world.borrow().away || (is_artifact && world.borrow().store_is_away) {
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

/// Like the real server, this closes an attempt when its report or its end arrives, and ignores what comes later.
fn hear_report(world: &mut World, report: AttemptReport) -> Acknowledgement {
    let attempt = report.attempt;
    let heard = world.heard.entry(attempt).or_default();
    let is_open = |world: &[Assignment]| world.iter().any(|assignment| assignment.attempt == attempt);
    if is_open(&world.run) {
        for event in report.events {
            let known = heard.events.len() as u64;
            assert!(event.sequence <= known + 1, "there is a gap between event {} and {known}", event.sequence);
            if event.sequence == known + 1 {
                heard.events.push(event.event);
            }
        }
        for line in report.log {
            let known = heard.log.len() as u64;
            assert!(line.sequence <= known + 1, "there is a gap between line {} and {known}", line.sequence);
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

/// Answers GET, with or without `Range: bytes=N-`, and through axum also HEAD.
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
            // The connection breaks one turn later, so that the first part has been sent.
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

//! A server for tests, without a socket and with its own database.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use scheduler::artifact::Artifacts;
use scheduler::dataset::Roots;
use scheduler::policy::Policy;
use scheduler::testing::TestDatabase;
use scheduler::token::{Scope, Secret};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::openapi::check_answer;
use crate::app::App;
use crate::guesses::Guesses;
use crate::limits;
use crate::metrics::Metrics;
use crate::reports::Reports;
use crate::router::router;
use crate::routes::datasets;
use crate::streams::Streams;

pub(super) struct Server {
    pub(super) app: App,
    pub(super) router: Router,
    pub(super) folder: TempDir,
    admin: String,
    _database: TestDatabase,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Server {
    pub(super) async fn start() -> Self {
        let database = TestDatabase::new().await;
        let store = database.store().await;
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let roots = Roots::open([folder.path().to_owned()]).unwrap();
        let place = folder.path().join("artifacts");
        let app = App {
            artifacts: Artifacts::open(place.to_str().unwrap(), [], store.clone(), roots.clone()).unwrap(),
            roots,
            metrics: Arc::new(Metrics::new().unwrap()),
            policy: Policy::default(),
            scans: datasets::scans(shutdown.clone()),
            guesses: Guesses::default(),
            reports: Reports::new(shutdown.clone()),
            streams: Streams::new(limits::MOST_STREAMS),
            workers: limits::workers(shutdown.clone()),
            agent_workers: limits::agent_workers(shutdown.clone()),
            agents: store.reserved(),
            shutdown,
            store,
        };
        let mut server =
            Self { router: router(app.clone()).unwrap(), app, folder, admin: String::new(), _database: database };
        server.admin = server.token(Scope::Admin).await;
        server
    }

    /// A server with a corpus `wiki`, a vocabulary `bert-base-uncased`, and GLUE with the task RTE.
    pub(super) async fn with_data() -> Self {
        let server = Self::start().await;
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
        let rte = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tb\tnot_entailment\n";
        for (name, kind, files) in [
            ("wiki", "corpus", vec![("wiki.txt", "the the\n\nthe\n")]),
            ("bert-base-uncased", "vocabulary", vec![("vocab.txt", vocabulary)]),
            ("glue", "glue", vec![("RTE/train.tsv", rte), ("RTE/dev.tsv", rte)]),
        ] {
            let folder = server.write(name, &files);
            let registered = server.post("/datasets", &json!({"name": name, "kind": kind, "path": folder})).await;
            assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text());
        }
        server
    }

    /// Writes files to a folder of this name and returns its path.
    pub(super) fn write(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    pub(super) async fn token(&self, scope: Scope) -> String {
        let secret = Secret::from_random(crate::random::bytes().unwrap());
        self.app.store.create_token("test", scope, &secret, None).await.unwrap();
        secret.expose().to_owned()
    }

    pub(super) fn request(&self, method: Method, uri: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(uri).header(header::AUTHORIZATION, format!("Bearer {}", self.admin))
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        let answer = self.send(self.request(Method::GET, uri).body(Body::empty()).unwrap()).await;
        if answer.status == StatusCode::OK && answer.header("content-type") == "application/json" {
            check_answer(uri, &answer.json());
        }
        answer
    }

    pub(super) async fn post(&self, uri: &str, body: &Value) -> Answer {
        self.post_text(uri, &body.to_string()).await
    }

    pub(super) async fn post_text(&self, uri: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, uri).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) async fn count_jobs(&self) -> usize {
        self.get("/jobs?limit=1000").await.json()["items"].as_array().unwrap().len()
    }

    /// Submits a small job and returns its id.
    pub(super) async fn submit(&self, name: &str) -> String {
        let answer = self.post("/jobs", &job(name)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

/// The smallest job, with two arms.
pub(super) fn job(name: &str) -> Value {
    json!({"name": name, "corpus": "wiki", "arms": [{"name": "pre-ln"}, {"name": "pld", "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}]})
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is the problem `code`, in the form that every problem has, and returns it.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:lamina:problem:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

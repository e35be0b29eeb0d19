//! The limits of what a client may send, ask for and hold open.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, header};
use futures::future::join_all;
use scheduler::token::Scope;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use super::server::{Answer, Server, job};
use crate::streams::Streams;

const PATIENCE: Duration = Duration::from_secs(30);

fn pointers(problem: &Value) -> Vec<&str> {
    problem["problems"].as_array().unwrap().iter().map(|p| p["pointer"].as_str().unwrap()).collect()
}

fn sync(change: impl FnOnce(&mut Value)) -> Value {
    let slot = |index| json!({"index": index, "device": "cpu", "model": "m", "threads": 1, "memory_bytes": 1});
    let mut body = json!({
        "node": {"name": "n", "labels": {"rack": "3"}, "slots": [slot(0), slot(1)]},
        "instance": "01890000-0000-7000-8000-000000000001", "attempts": [],
    });
    change(&mut body["node"]);
    body
}

#[tokio::test]
async fn a_text_that_the_database_does_not_store_is_the_mistake_of_the_client() {
    let server = Server::with_data().await;
    let token = server.post("/tokens", &json!({"name": "a\0b", "scope": "read"})).await.problem(422, "invalid_body");
    assert_eq!(pointers(&token), ["/name"]);
    for (field, value) in [
        ("/vocabulary", json!("a\0")),
        ("/corpus", json!("\0")),
        ("/arms", json!([{"name": "a", "checkpoint": "\0"}])),
        ("/glue", json!({"tasks": ["rte"], "dataset": "g\0"})),
    ] {
        let mut body = job("n");
        body[&field[1..]] = value;
        let problem = server.post("/jobs", &body).await.problem(422, "invalid_job");
        assert!(pointers(&problem)[0].starts_with(field), "{problem}");
    }
    let id = server.submit("n").await;
    for (uri, name) in [
        (format!("/jobs/{id}/curves?name=%00"), "name"),
        (format!("/jobs/{id}/trials?arm=%00"), "arm"),
        (format!("/jobs/{id}/submission.zip?arm=%00"), "arm"),
    ] {
        let problem = server.get(&uri).await.problem(400, "invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().starts_with(name), "{problem}");
    }
}

#[tokio::test]
async fn what_no_node_can_have_is_refused_where_it_stands() {
    let server = Server::start().await;
    for (body, at) in [
        (sync(|node| node["name"] = json!("\0")), "/node/name"),
        (sync(|node| node["name"] = json!("n".repeat(1 << 20))), "/node/name"),
        (sync(|node| node["labels"]["rack"] = json!("\0")), "/node/labels/rack"),
        (sync(|node| node["slots"][1]["device"] = json!("\0")), "/node/slots/1/device"),
        (sync(|node| node["slots"][0]["threads"] = json!(1u32 << 31)), "/node/slots/0/threads"),
        (sync(|node| node["slots"][0]["index"] = json!(1u32 << 31)), "/node/slots/0/index"),
        (sync(|node| node["slots"][1]["index"] = json!(0)), "/node/slots/1/index"),
    ] {
        let problem = server.post("/agents/sync", &body).await.problem(422, "invalid_body");
        assert_eq!(pointers(&problem), [at]);
    }
    assert_eq!(server.post("/agents/sync", &sync(|_| ())).await.status, 200);
}

#[tokio::test]
async fn the_body_of_an_agent_is_read_up_to_its_first_misfit_alone() {
    let server = Server::start().await;
    let body = json!({"node": 1, "instance": 2, "attempts": 3});
    let problem = server.post("/agents/sync", &body).await.problem(422, "invalid_body");
    assert_eq!(pointers(&problem).len(), 1, "{problem:#}");
    let problem = server.post("/tokens", &json!({"name": 1, "scope": 2})).await.problem(422, "invalid_body");
    assert_eq!(pointers(&problem), ["/name", "/scope"]);
}

#[tokio::test]
async fn a_job_is_counted_before_it_is_built() {
    let server = Server::with_data().await;
    let rates: Vec<f64> = (1..=1500).map(|rate| f64::from(rate) * 1e-6).collect();
    let keeps: Vec<Value> = (1..=1500).map(|first| json!({"first": first})).collect();
    let mut body = job("n");
    body["glue"] = json!({"tasks": ["rte"], "seeds": 0, "learning_rates": rates, "keep": keeps});
    let problem = server.post("/jobs?dry_run=true", &body).await.problem(422, "invalid_job");
    assert_eq!(pointers(&problem), ["/glue/keep", "/glue/learning_rates", ""]);

    let mut body = job("n");
    body["timing"] = json!({"rounds": 1_000_000_000, "steps_per_turn": u32::MAX, "warmup_steps": u32::MAX});
    let problem = server.post("/jobs", &body).await.problem(422, "invalid_job");
    let expected = ["/timing/rounds", "/timing/steps_per_turn", "/timing/warmup_steps", "/timing/rounds"];
    assert_eq!(pointers(&problem), expected);

    // The job has two arms, and the baseline is timed twice: 90,000 and 120,000 steps.
    body["timing"] = json!({"rounds": 10_000, "steps_per_turn": 2, "warmup_steps": 1});
    assert_eq!(server.post("/jobs?dry_run=true", &body).await.status, 200);
    body["timing"]["steps_per_turn"] = json!(3);
    let problem = server.post("/jobs", &body).await.problem(422, "invalid_job");
    assert_eq!(pointers(&problem), ["/timing/rounds"]);
    assert!(problem["problems"][0]["message"].as_str().unwrap().contains("120000 steps"), "{problem}");

    let mut body = job("n");
    body["arms"] = (0..101).map(|arm| json!({"name": arm.to_string()})).collect();
    let problem = server.post("/jobs", &body).await.problem(422, "invalid_job");
    assert_eq!(pointers(&problem), ["/arms"]);
    assert_eq!(server.count_jobs().await, 0);
}

#[tokio::test]
async fn many_problems_are_answered_by_the_first_ones_and_their_number() {
    let server = Server::with_data().await;
    let mut body = job("n");
    let stages: Vec<Value> = (0..400).map(|_| json!({"blocks": 5000, "until": 2.0})).collect();
    body["arms"] = json!([{"name": "x".repeat(4000), "growth": {"stages": stages}}]);
    let answer = server.post("/jobs", &body).await;
    let problem = answer.problem(422, "invalid_job");
    let problems = problem["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 101);
    assert!(problems[100]["message"].as_str().unwrap().ends_with("more problems, which are not listed"), "{problem}");
    assert!(answer.body.len() < 200_000, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn every_route_refuses_a_parameter_that_it_does_not_have() {
    let server = Server::start().await;
    let document = crate::router::document().unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let uri = path.replace("{id}", "01890000-0000-7000-8000-000000000001").replace("{sha256}", &"0".repeat(64));
            let method: Method = method.to_uppercase().parse().unwrap();
            let is_head = method == Method::HEAD;
            let request = server.request(method, &format!("{uri}?bogus=1")).body(Body::empty()).unwrap();
            let answer = server.send(request).await;
            assert_eq!(answer.status, 400, "{uri}: {}", answer.text());
            if !is_head {
                let problem = answer.problem(400, "invalid_parameter");
                assert!(problem["detail"].as_str().unwrap().contains("\"bogus\""), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn a_strange_request_id_is_replaced() {
    let server = Server::start().await;
    let answered = async |id: &str| {
        let request = server.request(Method::GET, "/healthz").header("x-request-id", id).body(Body::empty()).unwrap();
        server.send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(answered("trace-1").await, "trace-1");
    let replaced = answered(&"a".repeat(8000)).await;
    assert_eq!(replaced.len(), 36, "{replaced}");
}

#[tokio::test]
async fn a_secret_is_kept_by_no_cache_and_a_scope_that_is_missing_is_named() {
    let server = Server::start().await;
    let created = server.post("/tokens", &json!({"name": "n", "scope": "read"})).await;
    assert_eq!((created.status.as_u16(), created.header("cache-control")), (201, "no-store"));
    let token = format!("Bearer {}", created.json()["token"].as_str().unwrap());
    let request = Request::get("/tokens").header(header::AUTHORIZATION, token).body(Body::empty()).unwrap();
    let refused = server.send(request).await;
    refused.problem(403, "forbidden");
    let challenge = "Bearer realm=\"lamina\", error=\"insufficient_scope\", scope=\"admin\"";
    assert_eq!(refused.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn wrong_tokens_are_limited_by_address_and_a_right_one_is_always_accepted() {
    let server = Server::start().await;
    let right = server.token(Scope::Read).await;
    let wrong = format!("lamina_{}", "0".repeat(64));
    let from = async |address: &str, token: &str| -> Answer {
        let mut request =
            Request::get("/jobs").header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap();
        let address: IpAddr = address.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 1)));
        server.send(request).await
    };
    let mut guesses = 0;
    let limited = loop {
        let answer = from("192.0.2.1", &wrong).await;
        if answer.status != 401 {
            break answer;
        }
        guesses += 1;
        assert!(guesses < 1000, "nothing limits wrong tokens");
    };
    limited.problem(429, "too_many_requests");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() <= 61);
    assert_eq!(from("192.0.2.1", &right).await.status, 200);
    assert_eq!(from("192.0.2.2", &wrong).await.status, 401);
}

#[tokio::test]
async fn a_report_is_computed_once_for_all_who_ask_until_something_happens() {
    let server = Server::with_data().await;
    let id = server.submit("n").await.parse().unwrap();
    let (reports, store) = (&server.app.reports, &server.app.store);
    let asked = join_all((0..8).map(|_| reports.get(store, id))).await;
    let asked: Vec<_> = asked.into_iter().map(Result::unwrap).collect();
    assert!(asked.iter().all(|report| Arc::ptr_eq(report, &asked[0])), "one computation");
    assert!(Arc::ptr_eq(&reports.get(store, id).await.unwrap(), &asked[0]), "kept");
    server.app.store.cancel(id).await.unwrap();
    assert!(!Arc::ptr_eq(&reports.get(store, id).await.unwrap(), &asked[0]), "the job has new events");
}

#[tokio::test]
async fn more_streams_than_the_server_holds_are_told_to_come_back() {
    let mut server = Server::with_data().await;
    server.app.streams = Streams::new(1);
    server.router = crate::router::router(server.app.clone()).unwrap();
    let id = server.submit("n").await;
    let request = || server.request(Method::GET, &format!("/jobs/{id}/events")).body(Body::empty()).unwrap();
    let open = server.router.clone().oneshot(request()).await.unwrap();
    assert_eq!(open.status(), 200);
    let refused = server.send(request()).await;
    refused.problem(503, "busy");
    assert!(!refused.header("retry-after").is_empty());
    drop(open);
    let again = server.router.clone().oneshot(request()).await.unwrap();
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn all_streams_of_a_job_share_one_look_at_it() {
    let server = Server::with_data().await;
    let id = server.submit("n").await.parse().unwrap();
    let app = &server.app;
    let follow = || app.streams.follow(&app.store, id, &app.shutdown).unwrap();
    let (mut one, mut other) = (follow(), follow());
    assert_eq!(app.streams.watched(), 1);
    let looks = async {
        let one = one.looks.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let other = other.looks.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(Arc::ptr_eq(&one, &other));
    };
    timeout(PATIENCE, looks).await.expect("nobody looks at the job");
    drop((one, other));
    let unwatched = async {
        while app.streams.watched() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, unwatched).await.expect("the job is still looked at");
}

#[test]
fn the_document_states_how_many_steps_a_timing_trial_may_have() {
    let document = crate::router::document().unwrap();
    let rounds = &document["components"]["schemas"]["TimingSpec"]["properties"]["rounds"];
    assert_eq!(recipe::Timing::MOST_STEPS, 100_000);
    assert!(rounds["description"].as_str().unwrap().contains("100,000 steps together"), "{rounds}");
}

#[test]
fn every_list_and_text_of_a_request_has_a_bound_in_the_document() {
    let document = crate::router::document().unwrap();
    let schemas = &document["components"]["schemas"];
    for schema in ["JobSpec", "ArmSpec", "GlueSpec", "Growth", "SyncRequest", "NodeFacts", "SlotFacts", "NewToken"] {
        for (name, property) in schemas[schema]["properties"].as_object().unwrap() {
            let is = |kind: &str| property["type"] == kind || property["type"] == json!([kind, "null"]);
            let bound = if is("array") { "maxItems" } else { "maxLength" };
            if is("array") || (is("string") && property["format"].is_null()) {
                assert!(property[bound].is_u64(), "{schema}/{name} has no {bound}: {property}");
            }
        }
    }
}

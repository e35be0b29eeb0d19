//! Jobs that are refused: the answer points at each problem, and nothing is stored.

use std::fs;

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};

use super::server::{Server, job};

/// The small job with another value at `pointer`.
fn with(pointer: &str, value: Value) -> Value {
    let mut job = job("changed");
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = job.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        _ => parent[field] = value,
    }
    job
}

/// Submits `body` and checks that it is refused with this code and pointer, and that no job is stored.
async fn refused(server: &Server, body: &str, status: u16, code: &str, pointer: Option<&str>) {
    let problem = server.post_text("/jobs", body).await.problem(status, code);
    let pointers: Vec<&str> =
        problem["problems"].as_array().into_iter().flatten().map(|p| p["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, pointer.into_iter().collect::<Vec<_>>(), "{body}: {problem}");
    assert_eq!(server.count_jobs().await, 0, "{body} made a job");
}

#[tokio::test]
async fn malformed_json_is_refused() {
    let server = Server::with_data().await;
    for body in ["", "{", "{\"name\": \"n\",}", "[1,", "{\"name\": \"n\", \"arms\": []} x"] {
        refused(&server, body, 400, "malformed_json", None).await;
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_with_a_pointer_to_it() {
    let server = Server::with_data().await;
    for pointer in ["/epochs", "/arms/1/layer_drop/theta", "/arms/0/color"] {
        let body = with(pointer, json!(1));
        refused(&server, &body.to_string(), 422, "unknown_field", Some(pointer)).await;
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_job_is_told_at_once_with_the_nearest_names() {
    let server = Server::with_data().await;
    let mut job = with("/pretrain", json!({"step": 5}));
    job["corpus"] = json!("wkii");
    job["baseline"] = json!("pre_ln");
    job["arms"][0]["color"] = json!("red");
    let problem = server.post("/jobs", &job).await.problem(422, "invalid_job");
    let problems = problem["problems"].as_array().unwrap();
    for (pointer, hint) in [
        ("/pretrain/step", "did you mean \"steps\"?"),
        ("/arms/0/color", "unknown field"),
        ("/corpus", "registered: \"wiki\"; did you mean \"wiki\"?"),
        ("/baseline", "did you mean \"pre-ln\"?"),
    ] {
        let found = problems.iter().find(|problem| problem["pointer"] == pointer);
        let message = found.unwrap_or_else(|| panic!("nothing at {pointer}: {problem:#}"))["message"].as_str();
        assert!(message.unwrap().contains(hint), "{problem:#}");
    }
    job["pretrain"] = json!({"steps": "5", "batch": []});
    job["glue"]["tasks"] = json!(["rte", [], 7]);
    let problem = server.post("/jobs", &job).await.problem(422, "invalid_job");
    let pointers: Vec<_> = problem["problems"].as_array().unwrap().iter().map(|problem| &problem["pointer"]).collect();
    for pointer in ["/pretrain/steps", "/pretrain/batch", "/glue/tasks/1", "/glue/tasks/2", "/arms/0/color"] {
        assert!(pointers.iter().any(|found| *found == pointer), "nothing at {pointer}: {problem:#}");
    }
}

#[tokio::test]
async fn an_invalid_value_is_refused_with_a_pointer_to_it() {
    let server = Server::with_data().await;
    for (pointer, value) in [
        ("/arms/1/layer_drop/theta_limit", json!(0)),
        ("/arms/1/layer_drop/theta_limit", json!(2)),
        ("/arms/1/layer_drop/theta_limit", json!("half")),
        ("/pretrain", json!({"steps": 0})),
        ("/pretrain", json!({"steps": -1})),
        ("/pretrain", json!({"seeds": 0})),
        ("/glue", json!({"tasks": ["sudoku"]})),
        ("/baseline", json!("nobody")),
        ("/arms/1/name", json!("pre-ln")),
        ("/arms", json!([])),
        ("/model", json!("gigantic")),
        ("/name", json!("")),
        ("/name", json!(7)),
    ] {
        let at = match (pointer, value.as_object().and_then(|fields| fields.keys().next())) {
            ("/glue", _) => "/glue/tasks/0".to_owned(),
            (pointer, Some(field)) => format!("{pointer}/{field}"),
            (pointer, None) => pointer.to_owned(),
        };
        refused(&server, &with(pointer, value).to_string(), 422, "invalid_job", Some(&at)).await;
    }
}

#[tokio::test]
async fn all_problems_of_a_job_are_in_one_answer() {
    let server = Server::with_data().await;
    let mut body = with("/pretrain", json!({"steps": 0}));
    body["baseline"] = json!("nobody");
    let problem = server.post("/jobs", &body).await.problem(422, "invalid_job");
    let mut pointers: Vec<&str> =
        problem["problems"].as_array().unwrap().iter().map(|p| p["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/baseline", "/pretrain/steps"]);
}

#[tokio::test]
async fn data_that_is_not_registered_is_refused() {
    let server = Server::with_data().await;
    for (pointer, value, at) in [
        ("/corpus", json!("books"), "/corpus"),
        ("/corpus", json!("glue"), "/corpus"),
        ("/vocabulary", json!("cased"), "/vocabulary"),
        ("/glue", json!({"tasks": ["rte"], "dataset": "other"}), "/glue/dataset"),
    ] {
        refused(&server, &with(pointer, value).to_string(), 422, "dataset_not_registered", Some(at)).await;
    }
}

#[tokio::test]
async fn a_corpus_that_changed_is_refused_until_it_is_registered_again() {
    let server = Server::with_data().await;
    fs::write(server.folder.path().join("wiki/wiki.txt"), "something else\n").unwrap();
    refused(&server, &job("n").to_string(), 409, "dataset_changed", Some("/corpus")).await;

    let again = json!({"name": "wiki", "kind": "corpus", "path": server.folder.path().join("wiki")});
    assert_eq!(server.post("/datasets", &again).await.status, 201);
    server.submit("n").await;
}

#[tokio::test]
async fn a_body_of_another_type_or_too_long_is_refused() {
    let server = Server::with_data().await;
    let typed = |kind: &str| {
        server.request(Method::POST, "/jobs").header(header::CONTENT_TYPE, kind).body(Body::from(job("n").to_string()))
    };
    server.send(typed("text/plain").unwrap()).await.problem(415, "unsupported_media_type");
    server.send(typed("application/x-www-form-urlencoded").unwrap()).await.problem(415, "unsupported_media_type");
    let long = format!("{{\"name\": \"{}\"}}", "n".repeat(2 << 20));
    refused(&server, &long, 413, "payload_too_large", None).await;
}

#[tokio::test]
async fn a_mistyped_query_submits_no_job() {
    let server = Server::with_data().await;
    for query in ["dryrun=true", "dry_run=perhaps"] {
        server.post(&format!("/jobs?{query}"), &job("n")).await.problem(400, "invalid_parameter");
    }
    assert_eq!(server.count_jobs().await, 0);
}

#[tokio::test]
async fn an_invalid_dataset_is_refused_with_a_pointer() {
    let server = Server::start().await;
    let empty = server.write("empty", &[("readme.md", "no text")]);
    let broken = server.write("broken", &[("RTE/dev.tsv", "x\n")]);
    // The header states one image of 1 x 4 pixels, but the file has three pixels.
    let cut = "\0\0\u{8}\u{3}\0\0\0\u{1}\0\0\0\u{1}\0\0\0\u{4}abc";
    let images = server.write("images", &[("train-images-idx3-ubyte", cut), ("train-labels-idx1-ubyte", "")]);
    for (body, pointer) in [
        (json!({"name": "a", "kind": "corpus", "path": "relative"}), "/path"),
        (json!({"name": "a", "kind": "corpus", "path": "/nowhere/at/all"}), "/path"),
        (json!({"name": "a", "kind": "corpus", "path": empty}), "/path"),
        (json!({"name": "a", "kind": "glue", "path": broken}), "/path"),
        (json!({"name": "a", "kind": "images", "path": empty}), "/path"),
        (json!({"name": "a", "kind": "images", "path": images}), "/path"),
        (json!({"name": "a b/c", "kind": "corpus", "path": empty}), "/name"),
        (json!({"name": "a", "kind": "pictures", "path": empty}), "/kind"),
    ] {
        let problem = server.post("/datasets", &body).await.problem(422, "invalid_body");
        assert_eq!(problem["problems"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(server.get("/datasets").await.json()["items"], json!([]));
}

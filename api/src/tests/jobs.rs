//! Jobs: submit, read, cancel.

use std::io::Read;

use axum::body::Body;
use axum::http::{Method, header};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use uuid::Uuid;

use super::agent::Agent;
use super::server::{Answer, Server, job};

#[tokio::test]
async fn a_submitted_job_is_stored_with_its_defaults() {
    let server = Server::with_data().await;
    let made = server.post("/jobs", &job("first")).await;
    assert_eq!(made.status, 201);
    let body = made.json();
    assert_eq!(made.header("location"), format!("/jobs/{}", body["id"].as_str().unwrap()));
    assert_eq!((&body["status"], &body["baseline"]), (&json!("queued"), &json!("pre-ln")));
    assert_eq!(body["spec"]["pretrain"]["steps"], 2000);
    // One timing trial and one pre-train trial per arm.
    assert_eq!(body["trials"]["queued"], 3);
    assert_eq!(server.get(made.header("location")).await.json(), body);
}

#[tokio::test]
async fn a_dry_run_answers_with_a_plan_and_stores_nothing() {
    let server = Server::with_data().await;
    let plan = server.post("/jobs?dry_run=true", &job("n")).await;
    assert_eq!(plan.status, 200);
    let plan = plan.json();
    assert_eq!(plan["trials"], json!({"timing": 1, "pretrain": 2, "finetune": 0, "probe": 0}));
    assert!(plan["flops"].as_f64().unwrap() > 0.0 && plan["steps"].as_u64().unwrap() >= 4000, "{plan}");
    assert!(plan["arms"][1]["encoder_saving"].as_f64().unwrap() > 0.2);
    let estimate = &plan["estimate"];
    assert_eq!(estimate["basis"], json!({"kind": "nominal", "flops_per_second": 1e11}), "nothing has been timed yet");
    assert_eq!(estimate["warnings"][0]["pointer"], "", "no agent runs: {estimate:#}");
    server.post("/jobs?dry_run=true", &json!({"name": "n", "arms": []})).await.problem(422, "invalid_job");
    assert_eq!(server.count_jobs().await, 0);
}

#[tokio::test]
async fn a_plan_knows_the_speed_of_earlier_jobs_and_warns_of_an_arm_that_does_not_fit() {
    let server = Server::with_data().await;
    let agent = Agent::new(&server);
    agent.sync(json!([])).await;
    assert_eq!(server.post("/jobs", &job("timed")).await.status, 201);
    let assigned = agent.assigned().await;
    let timing = assigned.iter().find(|trial| trial["spec"]["recipe"]["stage"] == "timing").unwrap();
    let arms: Vec<Value> = timing["spec"]["recipe"]["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| {
            json!({
                "name": arm["name"], "blocks": 12, "tokens_per_step": 512,
                "turns": [{"place": 0, "seconds": [0.5, 0.5], "open_blocks": [12.0, 12.0]}],
                "memory": {"state_bytes": 1 << 28, "peak_bytes": 1 << 29, "mean_bytes": 1 << 28, "by_open": []},
            })
        })
        .collect();
    agent.carry_out(timing, vec![], json!({"stage": "timing", "arms": arms})).await;

    let plan = server.post("/jobs?dry_run=true", &job("next")).await.json();
    let estimate = &plan["estimate"];
    assert_eq!((&estimate["basis"]["kind"], &estimate["basis"]["device"]), (&json!("timed"), &json!("m")));
    let speed = estimate["basis"]["flops_per_second"].as_f64().unwrap();
    let hours = plan["flops"].as_f64().unwrap() / speed / 3600.0;
    assert!((estimate["slot_hours"].as_f64().unwrap() / hours - 1.0).abs() < 1e-9, "{estimate:#}");
    assert_eq!(estimate["memory"][0]["peak_bytes"], 1 << 29);
    assert_eq!((&estimate["memory"][0]["measured"], &estimate["slots"]), (&json!(true), &json!(2)));
    assert_eq!(estimate["warnings"], json!([]));

    let mut large = job("too large");
    large["pretrain"]["batch"] = json!(4 * large["pretrain"]["batch"].as_u64().unwrap_or(32));
    let plan = server.post("/jobs?dry_run=true", &large).await.json();
    let warnings = plan["estimate"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{plan:#}");
    assert_eq!(warnings[0]["pointer"], "/arms/0");
    assert!(warnings[0]["message"].as_str().unwrap().contains("the largest slot has 1.1 GB"), "{plan:#}");
}

async fn post_with_key(server: &Server, key: &str, body: &Value) -> Answer {
    let request = server
        .request(Method::POST, "/jobs")
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_string()));
    server.send(request.unwrap()).await
}

#[tokio::test]
async fn requests_with_the_same_idempotency_key_make_one_job() {
    let server = Server::with_data().await;
    let first = post_with_key(&server, "k1", &job("n")).await;
    let again = post_with_key(&server, "k1", &job("n")).await;
    assert_eq!((first.status, again.status), (201.try_into().unwrap(), 201.try_into().unwrap()));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(first.header("location"), again.header("location"));
    post_with_key(&server, "k1", &job("another")).await.problem(422, "idempotency_key_reused");
    post_with_key(&server, "", &job("n")).await.problem(400, "invalid_parameter");
    assert_eq!(server.count_jobs().await, 1);

    assert_ne!(post_with_key(&server, "k2", &job("n")).await.json()["id"], first.json()["id"]);
    assert_eq!(server.count_jobs().await, 2);
}

#[tokio::test]
async fn a_repeated_request_gets_its_job_even_if_the_corpus_has_changed() {
    let server = Server::with_data().await;
    let first = post_with_key(&server, "k", &job("n")).await;
    std::fs::write(server.folder.path().join("wiki/wiki.txt"), "something else\n").unwrap();
    assert_eq!(post_with_key(&server, "k", &job("n")).await.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn simultaneous_requests_with_one_key_make_one_job() {
    let server = Server::with_data().await;
    let body = job("n");
    let answers = futures::future::join_all((0..8).map(|_| post_with_key(&server, "k", &body))).await;
    for answer in &answers {
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.json()["id"], answers[0].json()["id"]);
    }
    assert_eq!(server.count_jobs().await, 1);
}

#[tokio::test]
async fn a_cancelled_job_stays_cancelled() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    for _ in 0..2 {
        let cancelled =
            server.send(server.request(Method::POST, &format!("/jobs/{id}/cancel")).body(Body::empty()).unwrap()).await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text());
        let body = cancelled.json();
        assert_eq!((&body["status"], &body["trials"]["cancelled"]), (&json!("cancelled"), &json!(3)));
    }
}

#[tokio::test]
async fn an_answer_is_compressed_for_a_client_that_accepts_it() {
    let server = Server::with_data().await;
    let uri = format!("/jobs/{}", server.submit("n").await);
    let get = |encoding: &'static str, tag: String| {
        let request = server.request(Method::GET, &uri).header(header::ACCEPT_ENCODING, encoding);
        server.send(request.header(header::IF_NONE_MATCH, tag).body(Body::empty()).unwrap())
    };
    let plain = get("identity", String::new()).await;
    assert_eq!((plain.status.as_u16(), plain.header("content-encoding")), (200, ""));
    let packed = get("gzip", String::new()).await;
    assert_eq!((packed.status.as_u16(), packed.header("content-encoding")), (200, "gzip"));
    let mut unpacked = Vec::new();
    GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    assert!(packed.body.len() < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    let varies = packed.headers.get_all(header::VARY).iter().any(|vary| vary == "accept-encoding");
    assert!(varies, "{:?}", packed.headers);
    let tag = packed.header("etag").to_owned();
    assert_eq!(tag, format!("W/{}", plain.header("etag")));
    assert_eq!(get("gzip", tag).await.status, 304);
}

#[tokio::test]
async fn a_client_with_a_current_etag_gets_304_without_a_body() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    let again = |uri: String, tag: String| {
        server.send(server.request(Method::GET, &uri).header(header::IF_NONE_MATCH, tag).body(Body::empty()).unwrap())
    };
    for uri in [format!("/jobs/{id}"), format!("/jobs/{id}/report"), format!("/jobs/{id}/report?format=markdown")] {
        let first = server.get(&uri).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let tag = first.header("etag").to_owned();
        let second = again(uri.clone(), tag.clone()).await;
        assert_eq!((second.status.as_u16(), second.header("etag"), second.body.len()), (304, tag.as_str(), 0), "{uri}");
        assert_eq!(again(uri, "\"other\"".into()).await.status, 200);
    }
    let uri = format!("/jobs/{id}");
    let before = server.get(&uri).await.header("etag").to_owned();
    server.send(server.request(Method::POST, &format!("{uri}/cancel")).body(Body::empty()).unwrap()).await;
    assert_eq!(again(uri, before).await.status, 200);
}

#[tokio::test]
async fn the_report_comes_in_every_format() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    let json = server.get(&format!("/jobs/{id}/report")).await;
    assert_eq!((json.header("content-type"), &json.json()["complete"]), ("application/json", &json!(false)));
    let markdown = server.get(&format!("/jobs/{id}/report?format=markdown")).await;
    assert_eq!(markdown.header("content-type"), "text/markdown; charset=utf-8");
    let request = server.request(Method::GET, &format!("/jobs/{id}/report")).header(header::ACCEPT, "text/markdown");
    assert_eq!(server.send(request.body(Body::empty()).unwrap()).await.text(), markdown.text());
    for (format, media_type, start) in [
        ("latex", "application/x-tex; charset=utf-8", "% n\n"),
        ("csv", "text/csv; charset=utf-8; header=present", "Table,"),
        ("html", "text/html; charset=utf-8", "<!doctype html>"),
    ] {
        let document = server.get(&format!("/jobs/{id}/report?format={format}")).await;
        assert_eq!(document.header("content-type"), media_type);
        assert!(document.text().starts_with(start), "{}", document.text());
    }
    server.get(&format!("/jobs/{id}/report?format=pdf")).await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_plan_counts_the_questions_that_the_report_answers() {
    let server = Server::with_data().await;
    for (seeds, rounds, has_glue) in [(1, 4, true), (1, 8, false), (2, 8, true), (3, 2, true), (3, 8, false)] {
        let mut job = job("n");
        job["pretrain"]["seeds"] = json!(seeds);
        job["timing"] = json!({"rounds": rounds});
        if has_glue {
            job["glue"] = json!({"tasks": ["rte"], "seeds": 2});
        }
        let plan = server.post("/jobs?dry_run=true", &job).await.json();
        let id = server.post("/jobs", &job).await.json()["id"].as_str().unwrap().to_owned();
        let report = server.get(&format!("/jobs/{id}/report")).await.json();
        let (planned, asked) = (&plan["power"]["questions"], &report["preregistration"]["questions"]);
        assert_eq!(planned, asked, "{job}\n{report:#}");
        assert_eq!(plan["power"]["difference"].is_null(), seeds == 1, "{plan}");
    }
}

#[tokio::test]
async fn the_evidence_of_a_job_gives_its_report_again() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    let archive = server.get(&format!("/jobs/{id}/evidence.zip")).await;
    assert_eq!(archive.header("content-type"), "application/zip");
    let again = serde_json::to_value(crate::evidence::recompute(&archive.body).unwrap()).unwrap();
    assert_eq!(again, server.get(&format!("/jobs/{id}/report")).await.json());
}

#[tokio::test]
async fn unknown_ids_and_paths_are_not_found() {
    let server = Server::start().await;
    let id = Uuid::nil();
    for path in ["", "/trials", "/curves?name=theta", "/report", "/evidence.zip", "/events"] {
        server.get(&format!("/jobs/{id}{path}")).await.problem(404, "not_found");
        server.get(&format!("/jobs/no-uuid{path}")).await.problem(404, "not_found");
    }
    for path in [format!("/trials/{id}"), format!("/trials/{id}/logs"), "/nothing".into(), "/jobs/".into()] {
        server.get(&path).await.problem(404, "not_found");
    }
    server
        .send(server.request(Method::POST, &format!("/jobs/{id}/cancel")).body(Body::empty()).unwrap())
        .await
        .problem(404, "not_found");
    server
        .send(server.request(Method::DELETE, "/jobs").body(Body::empty()).unwrap())
        .await
        .problem(405, "method_not_allowed");
}

//! Tests that kill real processes: no result is lost, and none is counted twice.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Service, until};

const LIMIT: Duration = Duration::from_secs(120);

/// A service with a job on generated data that runs long enough to be disturbed.
async fn with_job() -> (Service, String) {
    let service = Service::start().await;
    service.register_generated_data().await;
    let id = service
        .submit(&json!({
            "name": "to be killed", "corpus": "corpus", "vocabulary": {"train": 400}, "timing": null,
            "model": {"blocks": 4, "hidden": 64, "heads": 2, "intermediate": 128},
            "pretrain": {"steps": 400, "batch": 8, "length": 64},
            "arms": [{"name": "pre-ln"}, {"name": "pld", "layer_drop": {"theta_limit": 0.5}}],
            "glue": {"tasks": ["rte"], "seeds": 1, "epochs": 1, "length": 48}
        }))
        .await;
    (service, id)
}

/// Waits until a trial's newest attempt has trained more than `step` steps, and returns the trial.
async fn training_past(service: &Service, job: &str, step: u64) -> Value {
    until("a trial trains", LIMIT, || async {
        let page = service.try_get(&format!("/jobs/{job}/trials?state=running")).await?;
        let trials = page["items"].as_array()?.clone();
        trials.into_iter().find(|trial| trial["step"].as_u64().is_some_and(|at| at > step))
    })
    .await
}

/// Asserts that every trial has succeeded in exactly one attempt, and that no metric has two points at one step.
async fn assert_whole(service: &Service, job: &str) {
    service.succeeded(job, Duration::from_secs(400)).await;
    for trial in service.trials(job).await {
        let id = trial["id"].as_str().unwrap();
        let detail = service.get(&format!("/trials/{id}?points=10000")).await;
        let attempts = detail["attempts"].as_array().expect("the attempts of a trial");
        let succeeded = attempts.iter().filter(|attempt| attempt["outcome"] == "succeeded").count();
        assert_eq!(succeeded, 1, "{attempts:#?}");
        let points = detail["points"].as_array().expect("metric points");
        assert!(!points.is_empty());
        let places: HashSet<(&str, u64)> =
            points.iter().map(|p| (p["name"].as_str().unwrap(), p["step"].as_u64().unwrap())).collect();
        assert_eq!(places.len(), points.len(), "a metric has two points at one step");
    }
}

async fn kill_one(service: &Service, part: &str) {
    let victim = until(&format!("{part} runs"), LIMIT, || async { service.processes(part).into_iter().next() }).await;
    victim.signal(libc::SIGKILL);
    until(&format!("{part} is dead"), LIMIT, || async { (!victim.is_alive()).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_kill_of_trainer_agent_server_and_postgres_in_turn() {
    let (service, job) = with_job().await;
    for part in ["lamina-trainer run", "lamina agent", "lamina serve", "postgres -D"] {
        training_past(&service, &job, 0).await;
        kill_one(&service, part).await;
        until("the service is back", LIMIT, || service.try_get("/jobs")).await;
    }
    assert_whole(&service, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agent_loses_its_lease_and_its_late_writes_are_refused() {
    let (service, job) = with_job().await;
    let trial = training_past(&service, &job, 0).await;
    let path = format!("/trials/{}", trial["id"].as_str().unwrap());
    let stopped = [service.processes("lamina agent"), service.processes("lamina-trainer run")].concat();
    stopped.iter().for_each(|process| process.signal(libc::SIGSTOP));
    until("the attempt is lost", LIMIT, || async {
        let detail = service.try_get(&path).await?;
        detail["attempts"].as_array()?.iter().any(|attempt| attempt["outcome"] == "lost").then_some(())
    })
    .await;
    stopped.iter().for_each(|process| process.signal(libc::SIGCONT));
    assert_whole(&service, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_starts_again_and_finishes_its_job() {
    let (service, job) = with_job().await;
    training_past(&service, &job, 0).await;
    let children = service.processes("");
    let home = service.stop(libc::SIGKILL).await;
    until("no child is left", LIMIT, || async { children.iter().all(|child| !child.is_alive()).then_some(()) }).await;
    let service = Service::start_in(home).await;
    assert_whole(&service, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_every_process_and_a_second_start_finishes_the_job() {
    let (service, job) = with_job().await;
    training_past(&service, &job, 0).await;
    let children = service.processes("");
    let home = service.stop(libc::SIGINT).await;
    assert!(children.iter().all(|child| !child.is_alive()), "a child outlived lamina up");
    let service = Service::start_in(home).await;
    assert_whole(&service, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_frees_its_slot_at_once() {
    let (service, job) = with_job().await;
    training_past(&service, &job, 0).await;
    let (status, answer) = service.post(&format!("/jobs/{job}/cancel"), &json!({})).await;
    assert!(status.is_success(), "{answer:#}");
    let ended = service.ended(&job, LIMIT).await;
    assert_eq!(ended["status"], "cancelled");
    until("the slot is free", LIMIT, || async {
        let nodes = service.try_get("/nodes").await?;
        nodes["items"][0]["slots"][0]["attempt"].is_null().then_some(())
    })
    .await;
    until("the trainer is gone", LIMIT, || async { service.processes("lamina-trainer run").is_empty().then_some(()) })
        .await;
}

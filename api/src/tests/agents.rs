//! A job that an agent carries out, seen through every route.

use serde_json::{Value, json};

use super::agent::Agent;
use super::server::{Server, job};

fn timing() -> Value {
    let arm = |name: &str, seconds: f64| {
        let turn = |place: u32| json!({"place": place, "seconds": [seconds, seconds], "open_blocks": [12.0, 12.0]});
        json!({"name": name, "blocks": 12, "turns": [turn(0), turn(1)], "tokens_per_step": 4096})
    };
    json!({"stage": "timing", "arms": [arm("pre-ln", 0.5), arm("pld", 0.4), arm("pre-ln (again)", 0.5)]})
}

fn progress(step: u64) -> Value {
    let points = [("theta", 0.75), ("open_blocks", 11.0), ("step_seconds", 0.25), ("train_loss", 7.5)];
    let points =
        points.map(|(name, value)| json!({"name": name, "step": step, "value": value, "trained_seconds": 9.0}));
    json!({"event": "progress", "step": step, "total_steps": 2000, "trained_seconds": 9.0, "points": points})
}

fn evaluated(step: u64) -> Value {
    let point = json!({"name": "validation_loss", "step": step, "value": 6.5, "trained_seconds": 9.0});
    json!({"event": "evaluated", "step": step, "trained_seconds": 9.0, "points": [point]})
}

#[tokio::test]
async fn reported_results_appear_in_every_route_and_metric() {
    let server = Server::with_data().await;
    let agent = Agent::new(&server);
    agent.sync(json!([])).await;
    let id = server.post("/jobs", &job("n")).await.json()["id"].as_str().unwrap().to_owned();

    let assigned = agent.assigned().await;
    assert_eq!(assigned.len(), 1, "a timing trial has the node to itself: {assigned:?}");
    let nodes = server.get("/nodes").await.json();
    assert_eq!(
        (&nodes["items"][0]["live"], &nodes["items"][0]["slots"][0]["attempt"]["job"]),
        (&json!(true), &json!(id))
    );
    agent.carry_out(&assigned[0], vec![], timing()).await;

    let assigned = agent.assigned().await;
    assert_eq!(assigned.len(), 2);
    for assignment in &assigned {
        let report = json!({
            "stage": "pretrain", "steps": 2000, "trained_seconds": 9.0, "tokens": 1, "validation_loss": 6.5,
            "digest": "0".repeat(64), "checkpoint": "0".repeat(64),
        });
        agent.carry_out(assignment, vec![progress(2000), evaluated(2000)], report).await;
    }
    agent.control.round().await.unwrap();

    let ended = server.get(&format!("/jobs/{id}")).await.json();
    assert_eq!((&ended["status"], &ended["progress"]), (&json!("succeeded"), &json!(1.0)), "{ended}");

    let trial = server.get(&format!("/trials/{}?points=1", assigned[0]["trial"].as_str().unwrap())).await.json();
    assert_eq!(trial["attempts"][0]["outcome"], "succeeded", "{trial}");
    assert_eq!(trial["points"].as_array().unwrap().len(), 5);
    let logs = server.get(&format!("/trials/{}/logs", assigned[0]["trial"].as_str().unwrap())).await.json();
    assert_eq!((&logs["items"][0]["text"], &logs["next"]), (&json!("hello"), &json!(null)));
    let curves = server.get(&format!("/jobs/{id}/curves?name=validation_loss")).await.json();
    assert_eq!(curves["series"].as_array().unwrap().len(), 2);
    assert_eq!(curves["series"][0]["points"][0]["value"], 6.5);
    assert_eq!(server.get(&format!("/jobs/{id}/report")).await.json()["complete"], true);

    let events = server.get(&format!("/jobs/{id}/events")).await.text();
    for kind in ["job", "trial", "started", "evaluated", "finished"] {
        assert!(events.contains(&format!("event: {kind}\n")), "{kind} is not in\n{events}");
    }

    let metrics = server.get("/metrics").await.text();
    for line in [
        "lamina_trials{stage=\"pretrain\",state=\"succeeded\"} 2",
        "lamina_attempts_total{outcome=\"succeeded\"} 3",
        "lamina_nodes{live=\"true\"} 1",
        "lamina_slots 2",
        "lamina_slots_busy 0",
        "lamina_placement_latency_seconds_count 3",
        "lamina_start_latency_seconds_count 3",
        "lamina_steps_total{stage=\"pretrain\"} 4000",
        "lamina_tokens_total{stage=\"pretrain\"} 16384000",
        "lamina_theta{JOB,stage=\"pretrain\",arm=\"pld\"} 0.75",
        "lamina_open_blocks{JOB,stage=\"pretrain\",arm=\"pld\"} 11",
        "lamina_step_seconds{JOB,stage=\"pretrain\",arm=\"pre-ln\"} 0.25",
        "lamina_validation_loss{JOB,stage=\"pretrain\",arm=\"pre-ln\"} 6.5",
        "lamina_timed_step_seconds{JOB,arm=\"pld\"} 0.4",
        "lamina_speedup_ratio{JOB,arm=\"pre-ln\"} 1",
        "lamina_speedup_ratio{JOB,arm=\"pld\"} 1.25",
    ] {
        let line = line.replace("JOB", &format!("job_name=\"n\",job_id=\"{id}\""));
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn events_of_a_closed_attempt_are_ignored() {
    let server = Server::with_data().await;
    let agent = Agent::new(&server);
    agent.sync(json!([])).await;
    let id = server.submit("n").await;
    let assigned = agent.assigned().await;
    server.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    agent.carry_out(&assigned[0], vec![progress(5)], timing()).await;
    let trial = server.get(&format!("/trials/{}", assigned[0]["trial"].as_str().unwrap())).await.json();
    assert_eq!((&trial["state"], &trial["points"], &trial["report"]), (&json!("cancelled"), &json!([]), &json!(null)));
}

//! The metrics for Prometheus.

use super::server::Server;

async fn scrape(server: &Server) -> Vec<String> {
    let answer = server.get("/metrics").await;
    assert!(
        answer.header("content-type").starts_with("text/plain; version=0.0.4"),
        "{}",
        answer.header("content-type")
    );
    answer.text().lines().map(str::to_owned).collect()
}

#[track_caller]
fn has(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted} is not in\n{}", lines.join("\n"));
}

#[tokio::test]
async fn an_empty_service_has_every_series_that_alerts_need() {
    let lines = scrape(&Server::start().await).await;
    for wanted in [
        "lamina_build_info{version=",
        "lamina_database_up 1",
        "lamina_trials{stage=\"pretrain\",state=\"queued\"} 0",
        "lamina_attempts_total{outcome=\"lost\"} 0",
        "lamina_failures_total{kind=\"out_of_memory\"} 0",
        "lamina_slots 0",
        "lamina_slots_busy 0",
        "lamina_nodes{live=\"true\"} 0",
        "lamina_placement_latency_seconds_bucket{le=\"+Inf\"} 0",
        "lamina_start_latency_seconds_count 0",
        "process_resident_memory_bytes ",
    ] {
        has(&lines, wanted);
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_address() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    server.get(&format!("/jobs/{id}")).await;
    server.get("/jobs/no-such").await;
    let lines = scrape(&server).await;
    has(&lines, "lamina_http_request_duration_seconds_count{method=\"GET\",path=\"/jobs/{id}\",status=\"200\"} 1");
    has(&lines, "lamina_http_request_duration_seconds_count{method=\"GET\",path=\"/jobs/{id}\",status=\"404\"} 1");
    has(&lines, "lamina_trials{stage=\"pretrain\",state=\"queued\"} 2");
    assert!(!lines.iter().any(|line| line.contains(&id)), "a job's id is in a label");
}

#[tokio::test]
async fn every_metric_name_follows_the_conventions_of_prometheus() {
    let lines = scrape(&Server::start().await).await;
    for line in lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("lamina_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(!["_ms", "_milliseconds", "_minutes", "_percent"].iter().any(|unit| name.contains(unit)), "{name}");
    }
}

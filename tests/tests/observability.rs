//! Tests of deploy/prometheus and deploy/grafana with a real Prometheus that scrapes a real service.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Background, Service, free_port, installed, until};

/// The value of Grafana's `$__rate_interval` when Prometheus scrapes once a second.
const RATE_INTERVAL: &str = "10s";

/// Panels that show nothing unless there is a problem.
const EMPTY_WHEN_WELL: [&str; 1] = ["Alerts firing"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deploy().join("grafana/dashboards/lamina.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The panels of a dashboard without its rows, which only group them.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn every_panel_has_a_place_of_its_own_a_description_and_a_unit() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "lamina");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} stands out of the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} covers another panel");
        }
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title} has no description");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title} has no unit");
        for part in panel["targets"].as_array().unwrap().iter().chain([panel]) {
            assert_eq!(part["datasource"], json!({"type": "prometheus", "uid": "${datasource}"}), "{title}");
        }
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let fixed = expr.contains('[') && !expr.contains("[$__rate_interval]");
            assert!(!fixed, "{title}: a window that does not follow the zoom: {expr}");
        }
    }
}

#[test]
fn configuration_and_rules_pass_promtool() {
    if !installed("promtool", "Debian: apt-get install prometheus", "configuration_and_rules_pass_promtool") {
        return;
    }
    let folder = deploy().join("prometheus");
    let mut tests: Vec<PathBuf> =
        fs::read_dir(folder.join("tests")).unwrap().map(|file| file.unwrap().path()).collect();
    tests.sort();
    assert!(!tests.is_empty());
    let promtool = |words: &[&str], files: &[PathBuf]| {
        let output = Command::new("promtool").args(words).args(files).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "promtool {words:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    };
    promtool(&["check", "config"], &[folder.join("prometheus.yml")]);
    promtool(&["test", "rules"], &tests);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_rule_has_data_after_a_job() {
    if !installed("prometheus", "Debian: apt-get install prometheus", "every_panel_and_rule_has_data_after_a_job") {
        return;
    }
    let service = Service::start().await;
    let prometheus = Prometheus::start(&service).await;
    // The arms of both jobs have the same names.
    let jobs = [run_a_job(&service).await, run_a_job(&service).await];

    let dashboard = dashboard();
    let mut tells_jobs_apart = 0;
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let expr = expr.replace("$__rate_interval", RATE_INTERVAL).replace("$job", ".*");
            if expr.contains("job_id") {
                tells_jobs_apart += 1;
                for job in &jobs {
                    let one = expr.replace(".*", job);
                    // Runs of equal score have no interval.
                    let may_be_empty = expr.contains("_score_low") || expr.contains("_score_high");
                    let samples = match may_be_empty {
                        true => prometheus.query(&one).await,
                        false => prometheus.numbers(title, &one).await,
                    };
                    assert!(samples.iter().all(|sample| sample["metric"]["job_id"] == **job), "{title} mixes jobs");
                }
            } else if arm_metric(&expr) {
                panic!("{title} shows numbers of a job without saying of which: {expr}");
            } else if EMPTY_WHEN_WELL.contains(&title) {
                prometheus.query(&expr).await;
            } else {
                prometheus.numbers(title, &expr).await;
            }
        }
    }
    assert!(tells_jobs_apart > 10, "{tells_jobs_apart} expressions tell jobs apart");
    let rules = prometheus.rules().await;
    let (records, alerts): (Vec<&Value>, Vec<&Value>) = rules.iter().partition(|rule| rule["type"] == "recording");
    assert!(!records.is_empty() && !alerts.is_empty());
    for rule in &rules {
        let name = rule["name"].as_str().unwrap();
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        prometheus.query(rule["query"].as_str().unwrap()).await;
    }
    for record in records {
        prometheus.numbers("a recording rule", record["name"].as_str().unwrap()).await;
    }
    for alert in alerts {
        assert_ne!(alert["state"], "firing", "{} fires although all is well", alert["name"]);
    }
}

/// True for an expression over a metric that has a value for each arm of a job.
fn arm_metric(expr: &str) -> bool {
    let names = ["loss", "theta", "open_blocks", "step_seconds", "speedup", "finetune"];
    names.iter().any(|name| expr.contains(name) && expr.contains("lamina_"))
}

/// Runs a small job with the stages timing, pretrain and finetune and an arm that closes blocks.
async fn run_a_job(service: &Service) -> String {
    service.register_generated_data().await;
    let job = service
        .submit(&json!({
            "name": "observed", "corpus": "corpus", "vocabulary": {"train": 400},
            "model": {"blocks": 2, "hidden": 32, "heads": 2, "intermediate": 64},
            "pretrain": {"steps": 30, "batch": 4, "length": 32, "learning_rate": {"peak": 1e-3}},
            "arms": [{"name": "pre-ln"}, {"name": "pld", "layer_drop": {"theta_limit": 0.5}}],
            "timing": {"rounds": 6, "steps_per_turn": 2, "warmup_steps": 1},
            "glue": {"tasks": ["rte"], "seeds": 2, "epochs": 1, "length": 32}
        }))
        .await;
    service.succeeded(&job, Duration::from_secs(300)).await;
    job
}

/// A Prometheus with the configuration of deploy/prometheus, except for the addresses and shorter intervals.
struct Prometheus {
    _process: Background,
    _folder: TempDir,
    url: String,
    client: Client,
}

impl Prometheus {
    async fn start(service: &Service) -> Prometheus {
        let folder = TempDir::new().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let target = service.url().strip_prefix("http://").expect("a plain URL");
        let mut config = fs::read_to_string(deploy().join("prometheus/prometheus.yml")).unwrap();
        let rules = deploy().join("prometheus/rules").canonicalize().unwrap();
        for (old, new) in [
            ("127.0.0.1:8642", target),
            ("127.0.0.1:9090", &address),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ("rules/*.yml", rules.join("*.yml").to_str().unwrap()),
        ] {
            assert!(config.contains(old), "prometheus.yml no longer holds {old:?}");
            config = config.replace(old, new);
        }
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Background::start("Prometheus", &mut command, folder.path().join("log"));
        let url = format!("http://{address}");
        let prometheus = Prometheus { _process: process, _folder: folder, url, client: Client::new() };
        until("Prometheus is ready", Duration::from_secs(30), || async {
            let answer = prometheus.client.get(format!("{}/-/ready", prometheus.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        prometheus
    }

    /// The data of the answer to `GET path`, which must be a success.
    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&format!("{}{path}", self.url), parameters).unwrap();
        let answer: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer:#}");
        answer["data"].clone()
    }

    /// The samples that `expr` has now. Panics if the expression is wrong.
    async fn query(&self, expr: &str) -> Vec<Value> {
        self.get("/api/v1/query", &[("query", expr)]).await["result"].as_array().unwrap().clone()
    }

    /// Waits until `expr` has a sample, and returns all that it has.
    async fn numbers(&self, whose: &str, expr: &str) -> Vec<Value> {
        until(&format!("{whose} has a number: {expr}"), Duration::from_secs(60), || async {
            Some(self.query(expr).await).filter(|samples| !samples.is_empty())
        })
        .await
    }

    /// Waits until all rules have been evaluated, and returns them.
    async fn rules(&self) -> Vec<Value> {
        until("every rule has been evaluated", Duration::from_secs(30), || async {
            let groups = self.get("/api/v1/rules", &[]).await;
            let rules =
                groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
            let rules: Vec<Value> = rules.cloned().collect();
            rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
        })
        .await
    }
}

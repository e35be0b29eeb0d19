//! Registration of data sets: what may be read, what is refused, and when it ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use scheduler::dataset::Roots;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::server::{Answer, Server, job};
use crate::app::App;
use crate::router::router;

const RTE: &str = "index\tsentence1\tsentence2\tlabel\n";

async fn register(server: &Server, kind: &str, path: &Path) -> Answer {
    server.post("/datasets", &json!({"name": "n", "kind": kind, "path": path})).await
}

/// The message about a path, without the path.
async fn refusal(server: &Server, kind: &str, path: &Path) -> String {
    let problem = register(server, kind, path).await.problem(422, "invalid_body");
    assert_eq!(problem["problems"][0]["pointer"], "/path", "{problem}");
    let message = problem["problems"][0]["message"].as_str().unwrap();
    message.strip_prefix(&format!("{}: ", path.display())).unwrap_or(message).to_owned()
}

/// A client learns nothing of files outside the roots: not whether they are there, nor what they are, nor who may read
/// them. Devices and pipes do not hold the server up.
#[tokio::test]
async fn every_path_that_may_not_be_read_gets_the_same_answer() {
    let server = Server::start().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.txt"), "s\n").unwrap();
    let inside = server.write("data", &[("a.txt", "x\n")]);
    let link = |name: &str, target: &Path| {
        symlink(target, inside.join(name)).unwrap();
        inside.join(name)
    };
    let pipe = inside.join("pipe.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let missing = refusal(&server, "corpus", &inside.join("missing.txt")).await;
    assert!(missing.contains("--data-root"), "{missing}");
    for path in [
        outside.path().join("secret.txt"),
        outside.path().join("missing.txt"),
        "/dev/zero".into(),
        "/dev/ptmx".into(),
        "/etc/shadow".into(),
        "/nowhere/at/all".into(),
        inside.join("../../..").join("etc/passwd"),
        link("secret.txt", &outside.path().join("secret.txt")),
        link("gone.txt", &outside.path().join("missing.txt")),
        link("zero.txt", Path::new("/dev/zero")),
        pipe,
    ] {
        for kind in ["corpus", "vocabulary"] {
            assert_eq!(refusal(&server, kind, &path).await, missing, "{}", path.display());
        }
    }
    // A folder with such a link is refused, whatever the link leads to.
    assert!(refusal(&server, "corpus", &inside).await.ends_with(&missing));
}

#[tokio::test]
async fn a_server_without_a_data_root_says_how_to_give_one() {
    let mut server = Server::start().await;
    let folder = server.write("data", &[("a.txt", "x\n")]);
    server.router = router(App { roots: Roots::open([]).unwrap(), ..server.app.clone() }).unwrap();
    let message = refusal(&server, "corpus", &folder).await;
    assert!(message.contains("no data root") && message.contains("--data-root DIR"), "{message}");
}

/// A file of a data set that is exchanged for a link after it was registered is not followed out of the root.
#[tokio::test]
async fn a_file_that_became_a_link_is_not_served() {
    let server = Server::with_data().await;
    let file = server.folder.path().join("wiki/wiki.txt");
    let content = fs::read(&file).unwrap();
    let uri = format!("/artifacts/{}", hex::encode(Sha256::digest(&content)));
    assert_eq!(server.get(&uri).await.body, content);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("same.txt"), &content).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(outside.path().join("same.txt"), &file).unwrap();
    server.get(&uri).await.problem(409, "dataset_changed");
    let head = server.request(Method::HEAD, &uri).body(Body::empty()).unwrap();
    assert_eq!(server.send(head).await.status, 409);
    // The same content beneath the root, in another file, is served again.
    fs::remove_file(&file).unwrap();
    fs::write(&file, &content).unwrap();
    assert_eq!(server.get(&uri).await.body, content);
}

#[tokio::test]
async fn more_registrations_than_wait_are_told_to_come_again() {
    let server = Server::start().await;
    let folder = server.write("data", &[("a.txt", "x\n")]);
    let mut held = Vec::new();
    for _ in 0..10 {
        let (release, released) = mpsc::channel::<()>();
        let scans = server.app.scans.clone();
        let work = async move { scans.run(Duration::from_secs(60), move |_| released.recv()).await };
        let mut work = Box::pin(work);
        assert!(futures::poll!(&mut work).is_pending(), "it runs or waits now");
        held.push((release, work));
    }
    let answer = register(&server, "corpus", &folder).await;
    let problem = answer.problem(503, "busy");
    assert!(problem["detail"].as_str().unwrap().contains("try again later"), "{problem}");
    assert_eq!(answer.header("retry-after"), "10");
    for (release, work) in held {
        release.send(()).unwrap();
        work.await.unwrap().unwrap();
    }
    assert_eq!(register(&server, "corpus", &folder).await.status, 201);
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_what_is_read() {
    let server = Server::start().await;
    let folder = server.write("data", &[("a.txt", "x\n")]);
    // Work that never looks at its flag, as a read of a lost network disk.
    let (_release, released) = mpsc::channel::<()>();
    let scans = server.app.scans.clone();
    let work = tokio::spawn(async move { scans.run(Duration::from_secs(600), move |_| released.recv()).await });
    tokio::task::yield_now().await;
    server.app.shutdown.cancel();
    assert!(tokio::time::timeout(Duration::from_secs(10), work).await.unwrap().unwrap().is_err());
    register(&server, "corpus", &folder).await.problem(503, "not_ready");
}

/// What a trainer would refuse after the pre-training is refused before anything is trained.
#[tokio::test]
async fn glue_files_that_cannot_be_trained_on_are_refused() {
    let server = Server::start().await;
    let one = format!("{RTE}0\ta b\tc\tentailment\n");
    let two = format!("{one}1\tx\ty\tnot_entailment\n");
    for (name, train, why) in [
        ("one", one.clone(), "RTE/train.tsv, line 2: it ends after 1 example, but training needs at least 2"),
        ("zero", RTE.to_owned(), "RTE/train.tsv: there are no examples in it"),
        ("blank", format!("{two}\n"), "RTE/train.tsv, line 4: 1 columns, but 4 are expected"),
        ("blankheader", format!("\n{RTE}"), "RTE/train.tsv, line 1: no column \"sentence1\""),
    ] {
        let folder = server.write(name, &[("RTE/train.tsv", &train), ("RTE/dev.tsv", &one)]);
        let message = refusal(&server, "glue", &folder).await;
        assert!(message.contains(why) && message.contains("the task rte cannot be trained on"), "{message}");
    }
    let good = server.write("good", &[("RTE/train.tsv", &two), ("RTE/dev.tsv", &one)]);
    let registered = register(&server, "glue", &good).await;
    assert_eq!(registered.json()["facts"]["examples"], json!({"rte": 2}));
}

/// As the official vocabulary of Chinese BERT: a token is U+2028, and one is there twice.
#[tokio::test]
async fn a_vocabulary_is_accepted_as_it_was_published() {
    let server = Server::with_data().await;
    let text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nthe\n\u{2028}\n##s\na\n";
    let folder = server.write("chinese", &[("vocab.txt", text)]);
    let registered = register(&server, "vocabulary", &folder).await;
    assert_eq!(registered.json()["facts"]["tokens"], 10, "{}", registered.text());
    let mut spec: Value = job("n");
    spec["vocabulary"] = json!("n");
    assert_eq!(server.post("/jobs", &spec).await.status, 201);
    let lacking = server.write("lacking", &[("vocab.txt", "[PAD]\n[CLS]\n[SEP]\nthe\n")]);
    assert!(
        refusal(&server, "vocabulary", &lacking).await.contains("vocab.txt: the vocabulary has no [UNK], no [MASK]")
    );
}

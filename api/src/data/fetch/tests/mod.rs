//! The command against a mirror.

mod download;
mod server;

use super::*;
use server::Server;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    let line = ["fetch"].iter().chain(line);
    <Line as clap::Parser>::try_parse_from(line).unwrap().arguments
}

/// Runs the command against a mirror, with a lock file of its own because the archives are not the official ones.
async fn fetch(out: &Path, mirror: &str, words: &[&str]) -> Result<()> {
    let lock = out.with_extension("lock");
    let paths = ["--out", out.to_str().unwrap(), "--lock", lock.to_str().unwrap(), "--base-url", mirror];
    run(arguments(&[words, &paths].concat())).await
}

const WIKITEXT: &str = " \n = A = \n \n One @-@ two . \n \n = B = \n \n Three . \n";

fn mirror() -> Server {
    let header = "index\tsentence1\tsentence2\tlabel\n";
    let corpus = unpack::zipped(&[("wikitext-103-raw/wiki.train.raw", WIKITEXT), ("../evil", "evil")]);
    Server::start([
        ("bert-base-uncased/vocab.txt", b"[PAD]\n[UNK]\n".to_vec()),
        ("wikitext/wikitext-103-raw-v1.zip", corpus),
        ("wikitext/wikitext-2-raw-v1.zip", unpack::zipped(&[("other", "")])),
        ("glue/data/RTE.zip", unpack::zipped(&[("RTE/train.tsv", header), ("RTE/dev.tsv", header)])),
        ("glue/data/WNLI.zip", unpack::zipped(&[("WNLI/train.tsv", header), ("WNLI/../../evil", "evil")])),
    ])
}

fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_first_job_gets_its_vocabulary_corpus_and_tasks_and_a_second_run_does_nothing() {
    let (server, folder) = (mirror(), tempfile::tempdir().unwrap());
    let out = folder.path().join("data");
    fetch(&out, server.url(), &["--tasks", "rte"]).await.unwrap();
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
    assert_eq!(read("corpus/wikitext-103.txt"), "One-two .\n\nThree .\n");
    assert_eq!(read("vocab/bert-base-uncased-vocab.txt"), "[PAD]\n[UNK]\n");
    assert_eq!(entries(&out.join("glue")), ["RTE"]);
    assert_eq!(entries(&out.join(".download")), ["lock"], "archives are removed");
    assert_eq!(entries(folder.path()), ["data", "data.lock"], "nothing leaves the folder");
    let requests = server.ranges().len();
    fetch(&out, server.url(), &["--tasks", "rte"]).await.unwrap();
    assert_eq!(server.ranges().len(), requests);
}

#[tokio::test]
async fn the_corpus_of_an_interrupted_run_is_made_anew() {
    let (server, folder) = (mirror(), tempfile::tempdir().unwrap());
    let out = folder.path().join("data");
    fs::create_dir_all(out.join("corpus")).unwrap();
    fs::write(out.join("corpus/.wikitext-103.txt.partial"), "half of a ").unwrap();
    fetch(&out, server.url(), &["wikitext-103"]).await.unwrap();
    assert_eq!(entries(&out.join("corpus")), ["wikitext-103.txt"]);
    assert_eq!(fs::read_to_string(out.join("corpus/wikitext-103.txt")).unwrap(), "One-two .\n\nThree .\n");
}

#[tokio::test]
async fn what_fails_is_named_and_the_rest_is_fetched() {
    let (server, folder) = (mirror(), tempfile::tempdir().unwrap());
    let out = folder.path().join("data");
    let words = ["wikitext-2", "wikitext-103", "glue", "--tasks", "wnli,cola"];
    let error = fetch(&out, server.url(), &words).await.unwrap_err().to_string();
    assert!(error.starts_with("not fetched: wikitext-2, cola, wnli."), "{error}");
    assert!(!error.contains("Without network"), "{error}");
    assert_eq!(entries(&out.join("corpus")), ["wikitext-103.txt"]);
    assert!(!out.join("evil").exists() && !out.join("glue/WNLI").exists());
}

#[tokio::test]
async fn content_that_is_not_the_official_one_is_refused_before_it_is_unpacked() {
    let (server, folder) = (mirror(), tempfile::tempdir().unwrap());
    let out = folder.path().to_str().unwrap();
    let error = run(arguments(&["--out", out, "--base-url", server.url(), "--tasks", "rte"])).await.unwrap_err();
    assert!(error.to_string().starts_with("not fetched: bert-base-uncased, wikitext-103, rte."), "{error}");
    assert_eq!(entries(folder.path()), [".download"]);
    assert_eq!(entries(&folder.path().join(".download")), ["lock"]);
}

#[tokio::test]
async fn the_error_on_a_machine_without_network_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mirror = format!("http://127.0.0.1:{port}");
    let error = fetch(&folder.path().join("data"), &mirror, &[]).await.unwrap_err().to_string();
    for part in ["Without network", "copy its folder", "--base-url", "lamina data generate"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_before_anything_is_downloaded() {
    let (server, folder) = (mirror(), tempfile::tempdir().unwrap());
    let out = folder.path().join("data");
    fs::write(&out, "a file").unwrap();
    let error = fetch(&out, server.url(), &[]).await.unwrap_err().to_string();
    assert!(error.contains("cannot make") && error.contains("--out"), "{error}");
    let generated = folder.path().join("generated");
    fs::create_dir(&generated).unwrap();
    fs::write(generated.join(generate::MARK), "").unwrap();
    let error = fetch(&generated, server.url(), &[]).await.unwrap_err().to_string();
    assert!(error.contains("generated; name another folder"), "{error}");
    let busy = folder.path().join("busy");
    fs::create_dir_all(busy.join(".download")).unwrap();
    let running = File::create(busy.join(".download/lock")).unwrap();
    running.lock().unwrap();
    let error = fetch(&busy, server.url(), &[]).await.unwrap_err().to_string();
    assert!(error.starts_with("another `lamina data fetch`"), "{error}");
    assert_eq!(server.ranges().len(), 0);
}

#[test]
fn the_list_has_licence_size_digest_and_place_of_everything() {
    let list = list(&select(&arguments(&["--list"])).unwrap());
    for source in &SOURCES {
        for part in [source.label(), source.licence, &source.target()] {
            assert!(list.contains(part), "{part}");
        }
        assert!(source.files.iter().all(|file| list.contains(file.sha256)));
    }
}

#[test]
fn tasks_without_glue_are_refused() {
    assert!(select(&arguments(&["wikitext-2", "--tasks", "rte"])).is_err());
    assert_eq!(select(&arguments(&["glue", "--tasks", "rte"])).unwrap().len(), 1);
}

#[test]
fn reading_a_written_lock_file_gives_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("glue.lock.json");
    assert_eq!(Lock::read(&path).unwrap(), Lock::default());
    let lock = Lock(BTreeMap::from([("a/b.zip".into(), Pin { sha256: "00".repeat(32), bytes: 7 })]));
    lock.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), lock);
    fs::write(&path, "[]").unwrap();
    assert!(Lock::read(&path).unwrap_err().to_string().contains("is not a lock file"));
}

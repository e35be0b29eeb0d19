//! Downloads that break off, change, or come from several addresses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::download::{DownloadError, Downloader, Pin};
use super::super::partial::with_ending;
use super::super::sources::Remote;
use super::server::Server;

const REMOTE: Remote = Remote { path: "a.zip", urls: &["http://localhost/never"], sha256: "", bytes: 0 };

fn downloader(base: &str) -> Downloader {
    let mut downloader = Downloader::new(Some(base)).unwrap();
    downloader.first_delay = Duration::from_millis(1);
    downloader
}

fn content() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

fn pin(content: &[u8]) -> Pin {
    Pin { sha256: hex::encode(Sha256::digest(content)), bytes: content.len() as u64 }
}

/// A folder with an incomplete download of `a.zip` from `base`.
fn with_part(bytes: &[u8], base: &str, version: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    fs::write(with_ending(&file, ".part"), bytes).unwrap();
    fs::write(with_ending(&file, ".version"), format!("{base}/a.zip\n{version}")).unwrap();
    (folder, file)
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    let server = Server::start([("a.zip", content())]).breaking_after(150_000);
    let found = downloader(server.url()).fetch(&REMOTE, &file, None).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), content());
    assert_eq!(found, pin(&content()));
    assert_eq!(server.ranges(), [None, Some(150_000), Some(300_000)]);
    assert_eq!(names(folder.path()), ["a.zip"], "nothing is left beside the file");
}

#[tokio::test]
async fn a_download_of_an_earlier_run_is_resumed() {
    let server = Server::start([("a.zip", content())]);
    let (_folder, file) = with_part(&content()[..1000], server.url(), "\"one\"");
    downloader(server.url()).fetch(&REMOTE, &file, Some(&pin(&content()))).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), content());
    assert_eq!(server.ranges(), [Some(1000)]);
}

#[tokio::test]
async fn a_complete_part_needs_no_request() {
    let server = Server::start([("a.zip", content())]);
    let (_folder, file) = with_part(&content(), server.url(), "\"one\"");
    downloader(server.url()).fetch(&REMOTE, &file, Some(&pin(&content()))).await.unwrap();
    assert_eq!((fs::read(&file).unwrap(), server.ranges().len()), (content(), 0));
}

#[tokio::test]
async fn a_server_without_ranges_sends_the_whole_file() {
    let server = Server::start([("a.zip", content())]).without_ranges();
    let (_folder, file) = with_part(&content()[..1000], server.url(), "\"one\"");
    downloader(server.url()).fetch(&REMOTE, &file, Some(&pin(&content()))).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), content());
}

#[tokio::test]
async fn a_part_of_an_older_version_or_of_another_address_is_not_resumed() {
    let server = Server::start([("a.zip", content())]);
    for (base, version) in [(server.url(), "\"zero\""), ("http://elsewhere", "\"one\"")] {
        let (_folder, file) = with_part(b"other bytes", base, version);
        downloader(server.url()).fetch(&REMOTE, &file, None).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), content());
    }
}

#[tokio::test]
async fn a_part_that_is_longer_than_the_file_is_fetched_anew() {
    let server = Server::start([("a.zip", b"content".to_vec())]);
    let (_folder, file) = with_part(b"longer content", server.url(), "\"one\"");
    downloader(server.url()).fetch(&REMOTE, &file, None).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[tokio::test]
async fn a_changed_file_is_refused_and_not_kept() {
    let server = Server::start([("a.zip", b"content".to_vec())]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    for (pin, expected) in
        [(Pin { sha256: "00".repeat(32), bytes: 7 }, "is pinned"), (pin(b"others"), "the file has changed")]
    {
        let error = downloader(server.url()).fetch(&REMOTE, &file, Some(&pin)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(names(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_file_with_another_digest_is_fetched_again() {
    let server = Server::start([("a.zip", b"content".to_vec())]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    fs::write(&file, "damage").unwrap();
    downloader(server.url()).fetch(&REMOTE, &file, Some(&pin(b"content"))).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[tokio::test]
async fn a_download_ends_after_five_attempts_without_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start([("a.zip", content())]).breaking_after(0);
    let error = downloader(server.url()).fetch(&REMOTE, &folder.path().join("a.zip"), None).await.unwrap_err();
    assert!(error.to_string().contains("gave up after 5 attempts"), "{error}");
    assert_eq!(server.ranges().len(), 5);
}

#[tokio::test]
async fn the_next_address_is_tried_after_one_that_fails() {
    let server = Server::start([("a.zip", b"content".to_vec())]);
    let urls = [format!("{}/missing.zip", server.url()), format!("{}/a.zip", server.url())];
    // The table has addresses that live as long as the program.
    let urls: Vec<&'static str> = urls.into_iter().map(|url| &*url.leak()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    let remote = Remote { urls: urls.leak(), ..REMOTE };
    let mut downloader = Downloader::new(None).unwrap();
    downloader.fetch(&remote, &file, Some(&pin(b"content"))).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.zip");
    // A port that was free a moment ago has nobody who listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut downloader = downloader(&format!("http://127.0.0.1:{port}"));
    for _ in 0..2 {
        let error = downloader.fetch(&REMOTE, &file, None).await.unwrap_err();
        assert!(matches!(error, DownloadError::Unreachable(_)), "{error}");
    }
    assert_eq!(downloader.unreachable.len(), 1);
}

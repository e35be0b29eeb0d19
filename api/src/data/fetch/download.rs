//! The download of a file by HTTP, which resumes after an interruption.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::terminal::mention;

/// A download fails after this many attempts in a row without a new byte.
const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// A connection that is silent for this long counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

/// The digest and size that a file must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// Digest in hexadecimal.
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

pub(super) struct Downloader {
    client: Client,
    base: String,
    first_delay: Duration,
}

/// An incomplete download: `NAME.part` with the bytes so far, and `NAME.version` with the version of the file that they
/// belong to.
struct Partial {
    path: PathBuf,
    version: PathBuf,
}

/// The error of an attempt.
enum AttemptError {
    /// Another attempt may succeed.
    Transient(anyhow::Error),
    Final(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for AttemptError {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Downloader {
    pub(super) fn new(base: &str) -> Result<Self> {
        let client = Client::builder().connect_timeout(Duration::from_secs(20)).read_timeout(SILENCE).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), first_delay: FIRST_DELAY })
    }

    /// Downloads `source` to `file`, unless the file exists, and returns its digest.
    ///
    /// # Errors
    /// If the digest is not the pinned one (the file is then removed), if the server refuses, or if several attempts in
    /// a row end without a new byte.
    pub(super) async fn fetch(&self, source: &str, file: &Path, pin: Option<&Pin>) -> Result<Pin> {
        if !file.is_file() {
            let partial = Partial { path: with_ending(file, ".part"), version: with_ending(file, ".version") };
            self.complete(&format!("{}/{source}", self.base), &partial).await?;
            fs::rename(&partial.path, file)?;
        }
        let found = digest(file)?;
        match pin {
            Some(pin) if *pin != found => {
                fs::remove_file(file)?;
                bail!(
                    "{source} has sha256 {} ({} bytes), but {} ({} bytes) is pinned; the download was removed. \
                     If the new content is right, pin it in a lock file of your own (--lock)",
                    found.sha256,
                    found.bytes,
                    pin.sha256,
                    pin.bytes
                )
            }
            _ => Ok(found),
        }
    }

    async fn complete(&self, url: &str, partial: &Partial) -> Result<()> {
        let (mut failures, mut delay) = (0, self.first_delay);
        loop {
            let before = partial.bytes();
            let error = match self.attempt(url, partial).await {
                Ok(()) => return partial.remove_version(),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Transient(error)) => error,
            };
            if partial.bytes() > before {
                (failures, delay) = (0, self.first_delay);
            } else {
                failures += 1;
            }
            if failures == ATTEMPTS {
                return Err(error.context(format!("gave up after {ATTEMPTS} attempts in a row without a new byte")));
            }
            mention(format_args!("{error:#}; resuming at byte {}", partial.bytes()));
            sleep(delay).await;
            delay *= 2;
        }
    }

    async fn attempt(&self, url: &str, partial: &Partial) -> Result<(), AttemptError> {
        let (have, version) = (partial.bytes(), partial.read_version());
        let mut request = self.client.get(url);
        if let Some(version) = version.filter(|_| have > 0) {
            // With If-Range, the server sends the rest of this version or the whole of a newer one.
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, version);
        }
        let transient = |error: reqwest::Error| AttemptError::Transient(anyhow::Error::new(error));
        let response = request.send().await.map_err(transient)?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&response).context("the server sent a part of the file without Content-Range")?
            }
            status if status.is_success() => 0,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(AttemptError::Transient(anyhow::anyhow!("{url}: {status}")));
            }
            status => return Err(AttemptError::Final(anyhow::anyhow!("{url}: {status}"))),
        };
        if start > have {
            let message = anyhow::anyhow!("{url}: the request was for byte {have}, the answer starts at byte {start}");
            return Err(AttemptError::Final(message));
        }
        partial.write_version(&response)?;
        let rest = header(&response, CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let mut file =
            tokio::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&partial.path).await?;
        file.set_len(start).await?;
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(start)).await?;

        let bar = bar(url, rest.map(|rest| start + rest), start);
        let mut stream = response.bytes_stream();
        let mut received = 0;
        let ended = loop {
            match stream.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(transient(error)),
                Some(Ok(chunk)) => {
                    file.write_all(&chunk).await?;
                    received += chunk.len() as u64;
                    bar.inc(chunk.len() as u64);
                }
            }
        };
        bar.finish_and_clear();
        file.sync_all().await?;
        ended?;
        match rest {
            Some(rest) if rest != received => {
                Err(AttemptError::Transient(anyhow::anyhow!("{url}: ended after {received} of {rest} bytes")))
            }
            _ => Ok(()),
        }
    }
}

impl Partial {
    fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    fn read_version(&self) -> Option<String> {
        fs::read_to_string(&self.version).ok()
    }

    /// Stores the version of the file. Without a version, the download cannot be resumed.
    fn write_version(&self, response: &Response) -> Result<()> {
        // A weak tag does not promise equal bytes.
        let tag = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
        match tag.or_else(|| header(response, LAST_MODIFIED)) {
            Some(version) => Ok(fs::write(&self.version, version)?),
            None => self.remove_version(),
        }
    }

    fn remove_version(&self) -> Result<()> {
        match fs::remove_file(&self.version) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The first byte in `Content-Range`: 5 for `bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    header(response, CONTENT_RANGE)?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn bar(url: &str, total: Option<u64>, start: u64) -> ProgressBar {
    let name = url.rsplit('/').next().unwrap_or(url).to_owned();
    let template = "{prefix:<28} {bar:32.cyan/black.bright} {bytes:>10} of {total_bytes:<10} {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_style(style.progress_chars("━╸─"));
    bar.set_position(start);
    bar.with_prefix(name)
}

fn digest(file: &Path) -> Result<Pin> {
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut fs::File::open(file)?, &mut hasher)?;
    ensure!(bytes > 0, "{} is empty", file.display());
    Ok(Pin { sha256: hex::encode(hasher.finalize()), bytes })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Starts a server of one file, version "one", that closes each connection after `piece` bytes of the file. Returns
    /// a downloader for it and the number of its requests. The server uses a bare socket because an HTTP library would
    /// not end in the middle of a body.
    fn serve(content: &[u8], piece: usize) -> (Downloader, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut downloader = Downloader::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        downloader.first_delay = Duration::from_millis(1);
        let requests = Arc::new(AtomicUsize::new(0));
        let (content, counter) = (content.to_vec(), requests.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                answer(&connection.unwrap(), &content, piece);
            }
        });
        (downloader, requests)
    }

    fn answer(mut connection: &TcpStream, content: &[u8], piece: usize) {
        let lines = BufReader::new(connection).lines().map(|line| line.unwrap().to_lowercase());
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let wanted = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let same = head.iter().any(|line| line == "if-range: \"one\"");
        let (start, all) = (wanted.filter(|_| same).unwrap_or(0), content.len());
        let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
        let range = format!("bytes {start}-{}/{all}", all - 1);
        let length = all - start;
        let head =
            format!("HTTP/1.1 {status}\r\nETag: \"one\"\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&content[start..all.min(start.saturating_add(piece))]).unwrap();
    }

    fn content() -> Vec<u8> {
        (0..100_000u32).flat_map(u32::to_le_bytes).collect()
    }

    #[tokio::test]
    async fn an_interrupted_download_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.zip");
        let (downloader, requests) = serve(&content(), 150_000);
        let pin = downloader.fetch("a.zip", &file, None).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), content());
        assert_eq!(pin, Pin { sha256: hex::encode(Sha256::digest(content())), bytes: 400_000 });
        assert_eq!(requests.load(Ordering::SeqCst), 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[tokio::test]
    async fn a_part_of_an_older_version_is_not_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.zip");
        fs::write(folder.path().join("a.zip.part"), b"other bytes").unwrap();
        fs::write(folder.path().join("a.zip.version"), "\"zero\"").unwrap();
        let (downloader, _) = serve(&content(), usize::MAX);
        downloader.fetch("a.zip", &file, None).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), content());
    }

    #[tokio::test]
    async fn a_wrong_digest_is_refused_and_the_file_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.zip");
        let (downloader, _) = serve(b"content", 100);
        let pin = Pin { sha256: "00".repeat(32), bytes: 7 };
        let error = downloader.fetch("a.zip", &file, Some(&pin)).await.unwrap_err().to_string();
        assert!(error.contains("is pinned"), "{error}");
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_download_ends_after_five_attempts_without_a_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (downloader, requests) = serve(&content(), 0);
        let error = downloader.fetch("a.zip", &folder.path().join("a.zip"), None).await.unwrap_err();
        assert!(format!("{error:#}").contains("gave up after 5 attempts"), "{error:#}");
        assert_eq!(requests.load(Ordering::SeqCst), 5);
    }
}

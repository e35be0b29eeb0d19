//! A file by HTTP: what has arrived is kept, and the rest is asked for.

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

/// Attempts in a row that bring nothing new.
const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// A connection on which nothing comes for this long is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// Hex.
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

pub(super) struct Downloader {
    client: Client,
    base: String,
    first_delay: Duration,
}

/// A download that is under way: `NAME.part` and, beside it, the version of the file that it is a part of.
struct Partial {
    path: PathBuf,
    version: PathBuf,
}

/// How an attempt went wrong.
enum Trouble {
    /// Another attempt may go better.
    Passing(anyhow::Error),
    Final(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Downloader {
    pub(super) fn new(base: &str) -> Result<Self> {
        let client = Client::builder().connect_timeout(Duration::from_secs(20)).read_timeout(SILENCE).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), first_delay: FIRST_DELAY })
    }

    /// Brings `source` to `file`, unless it is there already, and answers with its digest.
    ///
    /// # Errors
    /// When the digest is not the pinned one (the file is then removed), when the server refuses, or when it keeps
    /// breaking off without sending anything new.
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
                    "{source} has sha256 {} ({} bytes), and {} ({} bytes) is pinned; it was removed. \
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
        let (mut fruitless, mut delay) = (0, self.first_delay);
        loop {
            let before = partial.bytes();
            let trouble = match self.attempt(url, partial).await {
                Ok(()) => return partial.forget_version(),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) => error,
            };
            if partial.bytes() > before {
                (fruitless, delay) = (0, self.first_delay);
            } else {
                fruitless += 1;
            }
            if fruitless == ATTEMPTS {
                return Err(trouble.context(format!("gave up after {ATTEMPTS} attempts")));
            }
            eprintln!("{trouble:#}; going on from byte {}", partial.bytes());
            sleep(delay).await;
            delay *= 2;
        }
    }

    async fn attempt(&self, url: &str, partial: &Partial) -> Result<(), Trouble> {
        let (have, version) = (partial.bytes(), partial.read_version());
        let mut request = self.client.get(url);
        if let Some(version) = version.filter(|_| have > 0) {
            // If-Range: the rest of this version, or the whole of a newer one.
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, version);
        }
        let passing = |error: reqwest::Error| Trouble::Passing(anyhow::Error::new(error));
        let response = request.send().await.map_err(passing)?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&response).context("the server sent a part without saying which")?
            }
            status if status.is_success() => 0,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Trouble::Passing(anyhow::anyhow!("{url}: {status}")));
            }
            status => return Err(Trouble::Final(anyhow::anyhow!("{url}: {status}"))),
        };
        if start > have {
            return Err(Trouble::Final(anyhow::anyhow!("{url}: asked for byte {have}, got byte {start}")));
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
                Some(Err(error)) => break Err(passing(error)),
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
                Err(Trouble::Passing(anyhow::anyhow!("{url}: broke off after {received} of {rest} bytes")))
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

    /// Notes of which version the bytes are a part. Without one they cannot be gone on from.
    fn write_version(&self, response: &Response) -> Result<()> {
        // A weak tag promises an equal meaning, not equal bytes.
        let tag = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
        match tag.or_else(|| header(response, LAST_MODIFIED)) {
            Some(version) => Ok(fs::write(&self.version, version)?),
            None => self.forget_version(),
        }
    }

    fn forget_version(&self) -> Result<()> {
        match fs::remove_file(&self.version) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// 5 of `bytes 5-9/10`.
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

    /// A server of one file, version "one", that hangs up after `piece` bytes of it, and the number of its requests.
    /// Written on a bare socket: a proper one cannot be brought to break off in the middle of a body.
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
        let asked = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let same = head.iter().any(|line| line == "if-range: \"one\"");
        let (start, all) = (asked.filter(|_| same).unwrap_or(0), content.len());
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
    async fn an_interrupted_transfer_goes_on_where_it_broke_off() {
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
    async fn a_part_of_an_older_version_is_not_gone_on_from() {
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
    async fn a_server_that_sends_nothing_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (downloader, requests) = serve(&content(), 0);
        let error = downloader.fetch("a.zip", &folder.path().join("a.zip"), None).await.unwrap_err();
        assert!(format!("{error:#}").contains("gave up after 5 attempts"), "{error:#}");
        assert_eq!(requests.load(Ordering::SeqCst), 5);
    }
}

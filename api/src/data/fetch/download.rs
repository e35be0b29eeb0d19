//! The download of a file by HTTP, which resumes after an interruption and goes on to the next address of the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::partial::{Partial, header};
use super::sources::Remote;
use super::space;
use crate::terminal::mention;

/// A download fails after this many attempts in a row without a new byte.
const ATTEMPTS: u32 = 5;
/// A host that has not answered at all is asked this many times.
const CONNECTION_ATTEMPTS: u32 = 2;
const FIRST_DELAY: Duration = Duration::from_millis(500);
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);
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
    /// The base URL that takes the place of the public addresses.
    mirror: Option<String>,
    pub(super) first_delay: Duration,
    /// Hosts that could not be reached. They are not asked again: on a machine without network each one may take as long
    /// as a connection is waited for.
    pub(super) unreachable: BTreeSet<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// There is no network, or none of the file's hosts can be reached from here.
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// The error of an attempt.
enum AttemptError {
    /// The host has not answered.
    Unreachable(anyhow::Error),
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
    /// A downloader from `mirror`, or from the public addresses.
    pub(super) fn new(mirror: Option<&str>) -> Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECTION_PATIENCE)
            .read_timeout(SILENCE)
            // Some hosts refuse a client without a name.
            .user_agent(concat!("lamina/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mirror = mirror.map(|base| base.trim_end_matches('/').to_owned());
        Ok(Self { client, mirror, first_delay: FIRST_DELAY, unreachable: BTreeSet::new() })
    }

    /// Downloads `remote` to `file`, unless the file exists, and returns its digest. `file` exists only as a whole and
    /// with the pinned digest.
    ///
    /// # Errors
    /// If no address of the file gives the pinned content; each one's reason is named.
    pub(super) async fn fetch(
        &mut self,
        remote: &Remote,
        file: &Path,
        pin: Option<&Pin>,
    ) -> Result<Pin, DownloadError> {
        if file.is_file() {
            let found = digest(file)?;
            if pin.is_none_or(|pin| *pin == found) {
                return Ok(found);
            }
            mention(format_args!("{} is not the pinned file; it is fetched again", file.display()));
            fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        let urls: Vec<String> = match &self.mirror {
            Some(base) => vec![format!("{base}/{}", remote.path)],
            None => remote.urls.iter().map(|url| (*url).to_owned()).collect(),
        };
        let (mut reasons, mut is_reached) = (Vec::new(), false);
        for url in urls {
            match self.fetch_from(&url, file, pin).await {
                Ok(found) => return Ok(found),
                Err(DownloadError::Unreachable(reason)) => reasons.push(reason),
                Err(DownloadError::Failed(error)) => {
                    is_reached = true;
                    reasons.push(format!("{error:#}"));
                }
            }
        }
        let reasons = reasons.join("; ");
        Err(if is_reached { anyhow::anyhow!(reasons).into() } else { DownloadError::Unreachable(reasons) })
    }

    async fn fetch_from(&mut self, url: &str, file: &Path, pin: Option<&Pin>) -> Result<Pin, DownloadError> {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        if self.unreachable.contains(&host) {
            return Err(DownloadError::Unreachable(format!("{host} cannot be reached")));
        }
        let partial = Partial::of(file);
        let completed = self.complete(url, &partial, pin).await;
        if matches!(completed, Err(DownloadError::Unreachable(_))) {
            self.unreachable.insert(host);
        }
        completed?;
        let found = digest(&partial.path)?;
        if let Some(pin) = pin.filter(|pin| **pin != found) {
            partial.remove()?;
            return Err(anyhow::anyhow!(
                "{url} has sha256 {} ({} bytes), but {} ({} bytes) is pinned; the download was removed. If the new \
                 content is right, pin it in a lock file of your own (--lock)",
                found.sha256,
                found.bytes,
                pin.sha256,
                pin.bytes
            )
            .into());
        }
        partial.remove_version()?;
        fs::rename(&partial.path, file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(found)
    }

    async fn complete(&self, url: &str, partial: &Partial, pin: Option<&Pin>) -> Result<(), DownloadError> {
        let (mut failures, mut delay, mut has_answered) = (0, self.first_delay, false);
        loop {
            let before = partial.bytes();
            if pin.is_some_and(|pin| pin.bytes == before) {
                // The last run ended between the last byte and the look at the digest.
                return Ok(());
            }
            let (error, is_unreachable) = match self.attempt(url, partial, pin).await {
                Ok(()) => return Ok(()),
                Err(AttemptError::Final(error)) => return Err(error.into()),
                Err(AttemptError::Transient(error)) => (error, false),
                Err(AttemptError::Unreachable(error)) => (error, true),
            };
            has_answered |= !is_unreachable;
            if partial.bytes() > before {
                (failures, delay) = (0, self.first_delay);
            } else {
                failures += 1;
            }
            if !has_answered && failures == CONNECTION_ATTEMPTS {
                return Err(DownloadError::Unreachable(format!("{error:#}")));
            }
            if failures == ATTEMPTS {
                let error = error.context(format!("gave up after {ATTEMPTS} attempts in a row without a new byte"));
                return Err(error.into());
            }
            if has_answered {
                mention(format_args!("{error:#}; resuming at byte {}", partial.bytes()));
            }
            sleep(delay).await;
            delay *= 2;
        }
    }

    async fn attempt(&self, url: &str, partial: &Partial, pin: Option<&Pin>) -> Result<(), AttemptError> {
        let (have, version) = (partial.bytes(), partial.read_version(url));
        let mut request = self.client.get(url);
        if let Some(version) = version.filter(|_| have > 0) {
            // With If-Range, the server sends the rest of this version or the whole of a newer one.
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, version);
        }
        let transient = |error: reqwest::Error| AttemptError::Transient(anyhow::Error::new(error));
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => AttemptError::Unreachable(anyhow::Error::new(error)),
            false => transient(error),
        })?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                range_start(&response).context("the server sent a part of the file without Content-Range")?
            }
            status if status.is_success() => 0,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // There are more bytes here than the file has now.
                partial.remove()?;
                return Err(AttemptError::Transient(anyhow::anyhow!("{url}: the file has become shorter")));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(AttemptError::Transient(anyhow::anyhow!("{url}: {status}")));
            }
            status => return Err(AttemptError::Final(anyhow::anyhow!("{url}: {status}"))),
        };
        if start > have {
            let message = anyhow::anyhow!("{url}: the request was for byte {have}, the answer starts at byte {start}");
            return Err(AttemptError::Final(message));
        }
        let rest = header(&response, CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if let (Some(pin), Some(rest)) = (pin, rest)
            && start + rest != pin.bytes
        {
            // Another file needs no download to be known as one.
            partial.remove()?;
            let message = "the file has changed: it has";
            return Err(anyhow::anyhow!("{url}: {message} {} bytes, and {} are pinned", start + rest, pin.bytes).into());
        }
        if let (Some(rest), Some(folder)) = (rest, partial.path.parent()) {
            space::ensure(folder, rest, "the download")?;
        }
        partial.write_version(url, &response)?;
        let cannot_write = || format!("cannot write {}; what is there is kept", partial.path.display());
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&partial.path)
            .await
            .with_context(cannot_write)?;
        file.set_len(start).await?;
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(start)).await?;

        let bar = bar(url, rest.map(|rest| start + rest), start);
        let mut stream = response.bytes_stream();
        let most = pin.map_or(u64::MAX, |pin| pin.bytes.saturating_sub(start));
        let mut received = 0;
        let ended = loop {
            match stream.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(transient(error)),
                Some(Ok(chunk)) => {
                    received += chunk.len() as u64;
                    if received > most {
                        partial.remove()?;
                        return Err(
                            anyhow::anyhow!("{url}: the file has changed: it is longer than the pinned one").into()
                        );
                    }
                    file.write_all(&chunk).await.with_context(cannot_write)?;
                    bar.inc(chunk.len() as u64);
                }
            }
        };
        bar.finish_and_clear();
        file.sync_all().await.with_context(cannot_write)?;
        ended?;
        match rest {
            Some(rest) if rest != received => {
                Err(AttemptError::Transient(anyhow::anyhow!("{url}: ended after {received} of {rest} bytes")))
            }
            _ => Ok(()),
        }
    }
}

/// The first byte in `Content-Range`: 5 for `bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    header(response, CONTENT_RANGE)?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
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
    let cannot_read = || format!("cannot read {}", file.display());
    let mut content = fs::File::open(file).with_context(cannot_read)?;
    let bytes = std::io::copy(&mut content, &mut hasher).with_context(cannot_read)?;
    ensure!(bytes > 0, "{} is empty", file.display());
    Ok(Pin { sha256: hex::encode(hasher.finalize()), bytes })
}

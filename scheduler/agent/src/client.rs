//! The server, as an agent sees it: sync, and artifacts by digest.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RANGE};
use reqwest::{Body, Response, StatusCode};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use protocol::Digest;
use protocol::{SyncRequest, SyncResponse};

/// Without a byte for so long, what is being fetched is begun again.
const SILENCE: Duration = Duration::from_secs(30);
/// A sync that takes longer is given up and made anew; it is a few megabytes at most.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Sends files, and so has no limit on silence: that would count from the request, not from its last byte. A server
    /// that is gone is noticed by TCP.
    sender: reqwest::Client,
    server: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No answer, or not all of it.
    #[error("the server did not answer")]
    Away(#[from] reqwest::Error),
    #[error("the server answered {status}: {detail}")]
    Refused { status: StatusCode, code: String, detail: String },
    #[error("cannot read {path}")]
    File { path: String, source: std::io::Error },
}

impl ClientError {
    /// Whether the same request can come out otherwise later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Away(error) => !error.is_builder(),
            // A token can be put right while the lease lasts, and is no fault of the file that was asked for.
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || self.is_about_the_token()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Self::File { .. } => false,
        }
    }

    pub(crate) fn is_about_the_token(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }
}

/// What matters of an RFC 9457 problem.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    title: String,
    detail: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error("the token holds characters that no token has")]
    Token(#[from] reqwest::header::InvalidHeaderValue),
    #[error("cannot set up HTTP")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// `server`: base URL.
    pub(crate) fn new(server: &str, token: &str) -> Result<Self, SetUpError> {
        Self::with_silence(server, token, SILENCE)
    }

    fn with_silence(server: &str, token: &str, silence: Duration) -> Result<Self, SetUpError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("lamina-agent/", env!("CARGO_PKG_VERSION")))
                .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer.clone())]))
                .connect_timeout(Duration::from_secs(5))
        };
        Ok(Self {
            http: builder().read_timeout(silence).build()?,
            sender: builder().build()?,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) async fn sync(&self, request: &SyncRequest) -> Result<SyncResponse, ClientError> {
        let url = format!("{}/agents/sync", self.server);
        let response = self.http.post(url).timeout(SYNC_LIMIT).json(request).send().await?;
        Ok(accepted(response).await?.json().await?)
    }

    /// An artifact from byte `from` on; the status is 206 if the answer begins there, and 200 if at the first byte.
    pub(crate) async fn get(&self, digest: &Digest, from: u64) -> Result<Response, ClientError> {
        let mut request = self.http.get(self.artifact(digest));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        accepted(request.send().await?).await
    }

    /// Brings a file to the artifact store, unless it is there.
    pub(crate) async fn put(&self, digest: &Digest, path: &Path) -> Result<(), ClientError> {
        let head = self.http.head(self.artifact(digest)).send().await?;
        if head.status() != StatusCode::NOT_FOUND {
            // An answer to HEAD has no body, so a refusal is told by its status alone.
            return accepted(head).await.map(drop);
        }
        let in_file = |source| ClientError::File { path: path.display().to_string(), source };
        let file = tokio::fs::File::open(path).await.map_err(in_file)?;
        let bytes = file.metadata().await.map_err(in_file)?.len();
        let body = Body::wrap_stream(ReaderStream::with_capacity(file, 256 << 10));
        let request = self.sender.put(self.artifact(digest)).header(CONTENT_LENGTH, bytes).body(body);
        accepted(request.send().await?).await.map(drop)
    }

    fn artifact(&self, digest: &Digest) -> String {
        format!("{}/artifacts/{digest}", self.server)
    }
}

async fn accepted(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    let detail = [problem.detail, problem.title].into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| {
        // Not a problem document: a proxy's page, perhaps. Its beginning says enough.
        String::from_utf8_lossy(&body).chars().take(200).collect()
    });
    Err(ClientError::Refused { status, code: problem.code, detail })
}

/// Waits between tries: from a fifth of a second, doubling up to five.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(200))
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{IntoFuture, pending};
    use std::sync::Arc;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::head;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn sending_may_take_longer_than_a_fetch_may_be_silent() {
        let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let put = {
            let (asked, go_on) = (asked.clone(), go_on.clone());
            async move || {
                asked.notify_one();
                go_on.notified().await;
            }
        };
        let router = Router::new()
            .route("/artifacts/{sha256}", head(async || StatusCode::NOT_FOUND).put(put).get(pending::<StatusCode>));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());

        let client = Client::with_silence(&server, "token", Duration::from_secs(2)).unwrap();
        let digest = "ab".repeat(32).parse::<Digest>().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let sent = tokio::spawn({
            let (client, digest, path) = (client.clone(), digest.clone(), file.path().to_owned());
            async move { client.put(&digest, &path).await }
        });
        asked.notified().await;
        // Begun after the file was on its way, so that the file has taken longer when this is given up.
        assert!(matches!(client.get(&digest, 0).await, Err(ClientError::Away(error)) if error.is_timeout()));
        go_on.notify_one();
        sent.await.unwrap().unwrap();
    }
}

//! The agent's HTTP client: sync, and artifacts by digest.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RANGE};
use reqwest::{Body, Response, StatusCode};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use protocol::Digest;
use protocol::{SyncRequest, SyncResponse};

/// The time without a new byte after which a download is given up and tried again.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The time after which a sync is given up and tried again. A request has a few megabytes at most.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Sends files. It has no limit on silence, because reqwest would count it from the start of the request, while the
    /// file is still being sent. TCP notices a server that cannot be reached.
    sender: reqwest::Client,
    server: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There was no complete answer.
    #[error("the server did not answer")]
    Away(#[from] reqwest::Error),
    #[error("the server answered {status}: {detail}")]
    Refused { status: StatusCode, code: String, detail: String },
    #[error("cannot read {path}")]
    File { path: String, source: std::io::Error },
}

impl ClientError {
    /// True if the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Away(error) => !error.is_builder(),
            // An operator can correct the token while the lease lasts, and the attempt is not at fault.
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || self.is_about_the_token()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Self::File { .. } => false,
        }
    }

    /// The code of the server's problem.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Away(_) | Self::File { .. } => None,
        }
    }

    pub(crate) fn is_about_the_token(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }
}

/// The fields of an RFC 9457 problem that are used here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    title: String,
    detail: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error("the token contains characters that an HTTP header cannot carry")]
    Token(#[from] reqwest::header::InvalidHeaderValue),
    #[error("cannot set up HTTP")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// Makes a client for the server with this base URL.
    pub(crate) fn new(server: &str, token: &str) -> Result<Self, SetUpError> {
        Self::with_silence(server, token, SILENCE_LIMIT)
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

    /// Gets an artifact from byte `from` on. The status is 206 if the answer starts there, and 200 if it starts at the
    /// first byte.
    pub(crate) async fn get(&self, digest: &Digest, from: u64) -> Result<Response, ClientError> {
        let mut request = self.http.get(self.artifact(digest));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        accepted(request.send().await?).await
    }

    /// Sends a file to the artifact store, unless the store has it.
    pub(crate) async fn put(&self, digest: &Digest, path: &Path) -> Result<(), ClientError> {
        let head = self.http.head(self.artifact(digest)).send().await?;
        if head.status() != StatusCode::NOT_FOUND {
            // An answer to HEAD has no body, so only its status tells why it is refused.
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

/// Turns an answer that is not a success into an error.
async fn accepted(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    let detail = [problem.detail, problem.title].into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| {
        // This is not a problem document but perhaps a proxy's page. Its beginning is enough for a message.
        String::from_utf8_lossy(&body).chars().take(200).collect()
    });
    Err(ClientError::Refused { status, code: problem.code, detail })
}

/// The waits between tries: a fifth of a second, then twice as long each time, up to five seconds.
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
    async fn a_file_may_take_longer_to_send_than_a_download_may_be_silent() {
        let (request_arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let put = {
            let (request_arrived, go_on) = (request_arrived.clone(), go_on.clone());
            async move || {
                request_arrived.notify_one();
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
        request_arrived.notified().await;
        // The download starts after the upload, so when it is given up, the upload has already taken longer than its
        // limit.
        assert!(matches!(client.get(&digest, 0).await, Err(ClientError::Away(error)) if error.is_timeout()));
        go_on.notify_one();
        sent.await.unwrap().unwrap();
    }
}

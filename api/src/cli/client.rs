//! HTTP calls to a Lamina server, with refusals turned into sentences.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use recipe::Problem;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::named;
use crate::home::{Home, read_secret};
use crate::page::Page;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8642";

#[derive(Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// URL of the server [default: that of the last `lamina up`, or http://127.0.0.1:8642]
    #[arg(long, env = "LAMINA_URL", value_name = "URL", global = true)]
    server: Option<String>,
    /// Access token [default: the token in the home of `lamina up`]
    #[arg(long, env = "LAMINA_TOKEN", value_name = "TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Home of a local `lamina up`
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR", global = true)]
    home: Option<PathBuf>,
}

pub(crate) struct Client {
    http: reqwest::Client,
    server: String,
    token: String,
}

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer from {server}: {cause}. Start a server with `lamina up`, or name another one with --server")]
    Unreachable { server: String, cause: String },
    #[error("{0}")]
    Refused(Refusal),
    #[error("the answer from {server} is not that of a Lamina server: {cause}")]
    Unreadable { server: String, cause: String },
}

/// An RFC 9457 problem.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    title: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    problems: Vec<Problem>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().unwrap_or(&self.title))?;
        match self.code.as_str() {
            "unauthenticated" => f.write_str("; give a valid token with --token or LAMINA_TOKEN")?,
            "forbidden" => f.write_str("; use a token of a wider scope")?,
            "not_found" => {
                let hint = self.detail.as_deref().and_then(named::hint);
                f.write_str(&hint.map(|hint| format!("; {hint}")).unwrap_or_default())?;
            }
            _ => {}
        }
        let width = self.problems.iter().map(|problem| problem.pointer.chars().count()).max().unwrap_or(0);
        for problem in &self.problems {
            write!(f, "\n  {:<width$}  {}", problem.pointer, problem.message)?;
        }
        Ok(())
    }
}

impl CallError {
    /// True if the same call may succeed later, because the server is unreachable or restarts.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status, 502..=504),
            Self::Unreadable { .. } => false,
        }
    }
}

/// An answer.
pub(crate) struct Answer<T> {
    pub(crate) body: T,
    /// The server's time when it answered; `None` if the answer has no `Date`.
    pub(crate) at: Option<DateTime<Utc>>,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let home = Home::new(connection.home.clone());
        let server = match &connection.server {
            Some(server) => server.clone(),
            None => {
                home.as_ref().ok().and_then(|home| read_secret(&home.url_file()).ok()).unwrap_or(DEFAULT_SERVER.into())
            }
        };
        let token = match &connection.token {
            Some(token) => token.clone(),
            None => {
                let file = home?.token_file();
                read_secret(&file).with_context(|| {
                    format!(
                        "no token: give one with --token or LAMINA_TOKEN, or start `lamina up`, which writes one to {}",
                        file.display()
                    )
                })?
            }
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("the token contains characters that are not allowed in a token; copy it again");
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("lamina/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), token })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorized(self.http.request(method, format!("{}{path}", self.server)))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.header(AUTHORIZATION, format!("Bearer {}", self.token))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, CallError> {
        self.read(self.request(Method::GET, path)).await
    }

    /// All items of a list, read page by page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CallError> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page = self.get::<Page<T>>(&format!("{path}?limit=200{after}")).await?.body;
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    /// Sends a request and reads its JSON answer.
    pub(crate) async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answer<T>, CallError> {
        let response = self.send(request).await?;
        let at = date(response.headers());
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice(&bytes) {
            Ok(body) => Ok(Answer { body, at }),
            Err(error) => Err(CallError::Unreadable { server: self.server.clone(), cause: error.to_string() }),
        }
    }

    pub(crate) async fn text(&self, request: RequestBuilder) -> Result<String, CallError> {
        self.send(request).await?.text().await.map_err(|error| self.unreachable(&error))
    }

    /// Reads an answer as bytes. `query` has names and values without percent encoding.
    pub(crate) async fn bytes(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>> {
        let address = Url::parse_with_params(&format!("{}{path}", self.server), query)
            .with_context(|| format!("{} is not the URL of a server", self.server))?;
        let response = self.send(self.authorized(self.http.get(address))).await?;
        Ok(response.bytes().await.map_err(|error| self.unreachable(&error))?.into())
    }

    /// Sends a request. An answer without a success status becomes a [`Refusal`].
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let refusal = serde_json::from_slice(&bytes).unwrap_or_else(|_| refusal_without_reason(status));
        Err(CallError::Refused(refusal))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        CallError::Unreachable { server: self.server.clone(), cause: cause.to_string() }
    }
}

/// The refusal for an answer without an RFC 9457 problem, perhaps from a proxy.
fn refusal_without_reason(status: StatusCode) -> Refusal {
    let title = format!("the server answered {status} without a reason");
    Refusal { status: status.as_u16(), title, detail: None, code: String::new(), problems: Vec::new() }
}

fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_job_shows_each_problem_beside_its_pointer() {
        let refusal: Refusal = serde_json::from_value(serde_json::json!({
            "type": "about:blank", "title": "Invalid job", "status": 422, "detail": "The job has 2 problems", "code": "invalid_job",
            "problems": [{"pointer": "/arms/1/layer_drop/theta_limit", "message": "2: at most 1"}, {"pointer": "/baseline", "message": "no arm"}]
        }))
        .unwrap();
        let expected = "The job has 2 problems\n  /arms/1/layer_drop/theta_limit  2: at most 1\n  /baseline                       no arm";
        assert_eq!(refusal.to_string(), expected);
    }

    #[test]
    fn only_an_unreachable_or_unavailable_server_is_a_transient_error() {
        let refused = |status| CallError::Refused(refusal_without_reason(StatusCode::from_u16(status).unwrap()));
        assert!(refused(503).is_transient());
        assert!(!refused(404).is_transient());
        assert!(CallError::Unreachable { server: String::new(), cause: String::new() }.is_transient());
    }

    #[test]
    fn the_date_of_an_answer_is_read_from_its_header() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Mon, 23 Nov 2026 19:32:13 GMT".parse().unwrap());
        assert_eq!(date(&headers).unwrap().to_rfc3339(), "2026-11-23T19:32:13+00:00");
    }
}

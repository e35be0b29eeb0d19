//! The one place where an error becomes a status code.
//!
//! The client gets an RFC 9457 problem with a stable `code`. The cause of an internal error goes to the log alone.

use std::error::Error as StdError;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::error_chain;
use recipe::Problem;
use scheduler::artifact::ArtifactError;
use scheduler::dataset::DatasetError;
use scheduler::node::NodeRefused;
use scheduler::store::StoreError;
use scheduler::submit::PlanError;
use scheduler::token::Scope;
use serde::Serialize;
use thiserror::Error;
use tower_http::timeout::TimeoutError;
use utoipa::ToSchema;

use crate::code::Code;
use crate::limits;
use scheduler::work::WorkError;

/// The answer to a refused request (`application/problem+json`, RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDetails {
    /// `urn:lamina:problem:` followed by the code.
    #[serde(rename = "type")]
    kind: String,
    /// The code as words for people.
    title: String,
    status: u16,
    /// What is wrong with this request.
    detail: String,
    code: Code,
    /// Everything that is wrong with the body, each at its place.
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: Vec<Problem>,
}

#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the body is not valid JSON: {0}")]
    MalformedJson(String),
    #[error("{}", count("body", .0))]
    UnknownField(Vec<Problem>),
    /// The JSON is well-formed but does not fit this request.
    #[error("{}", count("body", .0))]
    InvalidBody(Vec<Problem>),
    #[error("{}", count("job", .0))]
    InvalidJob(Vec<Problem>),
    /// The sync of an agent.
    #[error("{}", count("report", .0))]
    InvalidReport(Vec<Problem>),
    #[error("{}", count("job", .0))]
    DatasetNotRegistered(Vec<Problem>),
    #[error("{}", .0.message)]
    DatasetChanged(Problem),
    #[error("the GLUE server expects all files of a submission, and {}; with `fill=majority`, tasks that no trial will answer get constant answers", missing_files(.0))]
    IncompleteSubmission(Vec<Problem>),
    #[error("{0}")]
    InvalidParameter(String),
    #[error(
        "the cursor does not come from this list; use `next` of a page, or leave it out to start at the first page"
    )]
    InvalidCursor,
    #[error("{0}")]
    DigestMismatch(String),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0} is not allowed here")]
    MethodNotAllowed(axum::http::Method),
    #[error("the body must be `{wanted}`, but its Content-Type is {found}")]
    UnsupportedMediaType { wanted: &'static str, found: String },
    #[error("the body is longer than this route allows")]
    PayloadTooLarge,
    #[error("the body ended early: {0}")]
    BrokenBody(String),
    #[error("the range starts past the end; there are {length} bytes")]
    RangeNotSatisfiable { length: u64 },
    #[error("{0}")]
    Unauthenticated(Refusal),
    #[error("this request needs a token of scope {}", names(.0, " or "))]
    Forbidden(&'static [Scope]),
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    NodeRefused(NodeRefused),
    #[error("{0}")]
    NodeInUse(String),
    #[error("{0}")]
    LastAdmin(String),
    #[error("this Idempotency-Key was used with another body before; use a new key for a new request")]
    IdempotencyKeyReused,
    #[error("{0}")]
    NotReady(String),
    #[error("no part of the body arrived for {} s", limits::IDLE_TIME.as_secs())]
    BodyTimedOut,
    #[error("too many wrong tokens came from this address; a right one is still accepted")]
    TooManyGuesses { wait: Duration },
    /// A handler panicked. The panic is in the log already.
    #[error("an internal error occurred; the server's log has the cause under this answer's x-request-id")]
    Panicked,
    /// As much work of this sort as the server takes is running and waiting.
    #[error("{0}")]
    Busy(String),
    /// The work took longer than its time limit. The same request would take as long again.
    #[error("{0}")]
    TimedOut(String),
    /// A fault of the server. The client does not see the cause; the log does.
    #[error("an internal error occurred; the server's log has the cause under this answer's x-request-id")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("a token is needed: `Authorization: Bearer TOKEN`")]
    Missing,
    /// The same answer for a token of the wrong form and for one that is not registered, so that a guess learns
    /// nothing.
    #[error("this token is unknown, has expired or was revoked")]
    Unknown,
}

/// The start of each `WWW-Authenticate`.
const BEARER: &str = "Bearer realm=\"lamina\"";

impl Error {
    /// A body with one problem, at `pointer`.
    pub(crate) fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::InvalidBody(vec![Problem { pointer: pointer.to_owned(), message: message.into() }])
    }

    /// Turns an invalid body into an invalid job, which clients tell apart by its code.
    pub(crate) fn into_invalid_job(self) -> Self {
        match self {
            Self::InvalidBody(problems) => Self::InvalidJob(problems),
            other => other,
        }
    }

    /// The unknown fields of a job, beside what is wrong with the job without them.
    pub(crate) fn unknown_fields_of_job(unknown: Vec<Problem>, rest: Option<Self>) -> Self {
        match rest {
            Some(Self::InvalidJob(others) | Self::DatasetNotRegistered(others)) => {
                Self::InvalidJob(unknown.into_iter().chain(others).collect())
            }
            _ => Self::UnknownField(unknown),
        }
    }

    pub(crate) fn not_ready(cause: StoreError) -> Self {
        tracing::warn!(error = error_chain(&cause), "not ready");
        Self::NotReady("the database does not answer, or its schema does not fit this version of the server".into())
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    fn code(&self) -> Code {
        match self {
            Self::MalformedJson(_) => Code::MalformedJson,
            Self::UnknownField(_) => Code::UnknownField,
            Self::InvalidBody(_) | Self::InvalidReport(_) => Code::InvalidBody,
            Self::InvalidJob(_) => Code::InvalidJob,
            Self::DatasetNotRegistered(_) => Code::DatasetNotRegistered,
            Self::DatasetChanged(_) => Code::DatasetChanged,
            Self::IncompleteSubmission(_) => Code::IncompleteSubmission,
            Self::InvalidParameter(_) => Code::InvalidParameter,
            Self::InvalidCursor => Code::InvalidCursor,
            Self::DigestMismatch(_) => Code::DigestMismatch,
            Self::NotFound(_) => Code::NotFound,
            Self::MethodNotAllowed(_) => Code::MethodNotAllowed,
            Self::UnsupportedMediaType { .. } => Code::UnsupportedMediaType,
            Self::PayloadTooLarge => Code::PayloadTooLarge,
            Self::BrokenBody(_) => Code::BrokenBody,
            Self::RangeNotSatisfiable { .. } => Code::RangeNotSatisfiable,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Forbidden(_) => Code::Forbidden,
            Self::Conflict(_) => Code::Conflict,
            Self::NodeRefused(NodeRefused::OtherToken { .. }) => Code::NodeOfAnotherToken,
            Self::NodeRefused(NodeRefused::OtherInstance { .. }) => Code::NodeNameTaken,
            Self::NodeInUse(_) => Code::NodeInUse,
            Self::LastAdmin(_) => Code::LastAdminToken,
            Self::IdempotencyKeyReused => Code::IdempotencyKeyReused,
            Self::NotReady(_) => Code::NotReady,
            Self::BodyTimedOut => Code::BodyTimedOut,
            Self::TooManyGuesses { .. } => Code::TooManyRequests,
            Self::Busy(_) => Code::Busy,
            Self::TimedOut(_) => Code::TimedOut,
            Self::Panicked | Self::Internal(_) => Code::Internal,
        }
    }

    /// The header by which a client may act on the error.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let header = |name, value: String| Some((name, HeaderValue::try_from(value).ok()?));
        match self {
            // RFC 6750, section 3.1: a request without a token gets no error code.
            Self::Unauthenticated(Refusal::Missing) => header(header::WWW_AUTHENTICATE, BEARER.into()),
            Self::Unauthenticated(Refusal::Unknown) => {
                let description = format!("error=\"invalid_token\", error_description=\"{}\"", Refusal::Unknown);
                header(header::WWW_AUTHENTICATE, format!("{BEARER}, {description}"))
            }
            Self::Forbidden(scopes) => {
                let scopes = names(scopes, " ");
                let challenge = format!("{BEARER}, error=\"insufficient_scope\", scope=\"{scopes}\"");
                header(header::WWW_AUTHENTICATE, challenge)
            }
            Self::RangeNotSatisfiable { length } => header(header::CONTENT_RANGE, format!("bytes */{length}")),
            Self::NotReady(_) => header(header::RETRY_AFTER, "1".into()),
            Self::Busy(_) | Self::TimedOut(_) => header(header::RETRY_AFTER, "10".into()),
            Self::TooManyGuesses { wait } => header(header::RETRY_AFTER, (wait.as_secs() + 1).to_string()),
            _ => None,
        }
    }

    fn problems(self) -> Vec<Problem> {
        match self {
            Self::UnknownField(problems)
            | Self::InvalidBody(problems)
            | Self::InvalidJob(problems)
            | Self::InvalidReport(problems)
            | Self::DatasetNotRegistered(problems)
            | Self::IncompleteSubmission(problems) => problems,
            Self::DatasetChanged(problem) => vec![problem],
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(error = error_chain(cause.as_ref()), "request failed");
        }
        let code = self.code();
        let status = code.status();
        let header = self.header();
        let details = ProblemDetails {
            kind: format!("urn:lamina:problem:{}", code.name()),
            title: code.title(),
            status: status.as_u16(),
            detail: clipped(self.to_string()),
            code,
            problems: shortened(self.problems()),
        };
        // A struct of strings and numbers always serialises.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        response.headers_mut().extend(header);
        response
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, id } => Self::NotFound(format!("{what} {id}")),
            StoreError::Conflict(message) => Self::Conflict(message),
            StoreError::Refused(refused) => Self::Conflict(refused.to_string()),
            StoreError::Node(refused) => Self::NodeRefused(refused),
            StoreError::NodeInUse { .. } => Self::NodeInUse(error.to_string()),
            StoreError::LastAdmin => Self::LastAdmin(error.to_string()),
            error @ StoreError::Nul => Self::invalid("", error.to_string()),
            error @ StoreError::Busy(_) => {
                tracing::warn!(error = error_chain(&error), "a request is answered by 503");
                Self::Busy("the database has too much to do; try again later".into())
            }
            other => Self::internal(other),
        }
    }
}

impl From<WorkError> for Error {
    fn from(error: WorkError) -> Self {
        let message = error.to_string();
        match error {
            WorkError::Busy(_) => Self::Busy(message),
            WorkError::TimedOut { .. } => Self::TimedOut(message),
            WorkError::Stopping => Self::NotReady(message),
            WorkError::Panicked(_) | WorkError::Thread(_) => Self::internal(error),
        }
    }
}

impl From<ArtifactError> for Error {
    fn from(error: ArtifactError) -> Self {
        let message = error.to_string();
        match error {
            ArtifactError::Name(_) | ArtifactError::NotFound(_) => Self::NotFound(message),
            ArtifactError::Mismatch { .. } => Self::DigestMismatch(message),
            ArtifactError::Condemned(_) => Self::Conflict(message),
            ArtifactError::Range { bytes, .. } => Self::RangeNotSatisfiable { length: bytes },
            // The file has changed and not the request's body, so the pointer is empty.
            ArtifactError::Dataset(DatasetError::Changed { .. }) => {
                Self::DatasetChanged(Problem { pointer: String::new(), message })
            }
            ArtifactError::Dataset(DatasetError::Work(error)) => error.into(),
            ArtifactError::Upload(_) => Self::BrokenBody(message),
            ArtifactError::Store(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        let message = error.to_string();
        let at = |pointer: &str| Problem { pointer: pointer.to_owned(), message };
        match error {
            PlanError::Invalid(problems) => Self::InvalidJob(problems),
            PlanError::NotRegistered(problems) => Self::DatasetNotRegistered(problems),
            PlanError::Changed { pointer, .. } => Self::DatasetChanged(at(&pointer)),
            PlanError::Work(error) => error.into(),
            PlanError::Store(error) => error.into(),
        }
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            _ if is_timeout(&rejection) => Self::BodyTimedOut,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            _ => Self::BrokenBody(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::InvalidParameter(rejection.body_text())
    }
}

/// A part of the path that is not an id names nothing, so the answer is 404.
impl From<PathRejection> for Error {
    fn from(_: PathRejection) -> Self {
        Self::NotFound("such resource".into())
    }
}

/// True if the body ended because nothing arrived for too long.
fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    error.is::<TimeoutError>() || error.source().is_some_and(is_timeout)
}

fn names(scopes: &[Scope], separator: &str) -> String {
    scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect::<Vec<_>>().join(separator)
}

/// Longest message of an answer in characters: messages quote what the client wrote, which may be long.
const LONGEST_MESSAGE: usize = 1000;

/// The first problems, each with a message of bounded length; the last one tells how many are left out.
fn shortened(problems: Vec<Problem>) -> Vec<Problem> {
    let problems = recipe::problem::first(problems);
    problems.into_iter().map(|problem| Problem { message: clipped(problem.message), ..problem }).collect()
}

fn clipped(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push_str(" ...");
    }
    message
}

fn count(what: &str, problems: &[Problem]) -> String {
    match problems {
        [problem] => format!("{} at {}", problem.message, problem.pointer),
        _ => format!("this {what} has {} problems", problems.len()),
    }
}

/// The end of a sentence: which files are missing. Each problem's pointer is the name of a file.
fn missing_files(problems: &[Problem]) -> String {
    let files: Vec<&str> = problems.iter().map(|problem| problem.pointer.trim_start_matches('/')).collect();
    format!("{} cannot be made", files.join(", "))
}

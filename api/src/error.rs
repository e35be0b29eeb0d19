//! The one place where an error becomes a status code.
//!
//! The client gets an RFC 9457 problem with a stable `code`; what is none of its business goes to the log, once.

use std::error::Error as StdError;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::error_chain;
use recipe::Problem;
use scheduler::artifact::ArtifactError;
use scheduler::dataset::DatasetError;
use scheduler::store::StoreError;
use scheduler::submit::PlanError;
use scheduler::token::Scope;
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

/// What a refused request is answered with (`application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDetails {
    /// `urn:lamina:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: &'static str,
    status: u16,
    /// What happened this time.
    detail: String,
    /// Stable, for programs.
    code: &'static str,
    /// Each thing that is wrong with the body.
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: Vec<Problem>,
}

#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("the body is no JSON: {0}")]
    MalformedJson(String),
    #[error("{} at {}", .0.message, .0.pointer)]
    UnknownField(Problem),
    /// The JSON is well-formed, and not what is wanted here.
    #[error("{} at {}", .0.message, .0.pointer)]
    InvalidBody(Problem),
    #[error("{}", count(.0))]
    InvalidJob(Vec<Problem>),
    #[error("{}", count(.0))]
    DatasetNotRegistered(Vec<Problem>),
    #[error("{}", .0.message)]
    DatasetChanged(Problem),
    #[error("the GLUE server wants eleven files, and {}; `fill=majority` lets constants stand in for answers that will not come", lacking(.0))]
    IncompleteSubmission(Vec<Problem>),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("the cursor is not one that this list gave out")]
    InvalidCursor,
    #[error("{0}")]
    DigestMismatch(String),
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0} is not allowed here")]
    MethodNotAllowed(axum::http::Method),
    #[error("the body must be `{wanted}`, and this one is {found}")]
    UnsupportedMediaType { wanted: &'static str, found: String },
    #[error("the body is longer than is allowed here")]
    PayloadTooLarge,
    #[error("the body broke off: {0}")]
    BrokenBody(String),
    #[error("the range starts past the end; there are {length} bytes")]
    RangeNotSatisfiable { length: u64 },
    #[error("{0}")]
    Unauthenticated(&'static str),
    #[error("this needs a token of scope {}", names(.0))]
    Forbidden(&'static [Scope]),
    #[error("{0}")]
    Conflict(String),
    #[error("this Idempotency-Key came with another body before")]
    IdempotencyKeyReused,
    #[error("{0}")]
    NotReady(String),
    /// Only the log gets to see what.
    #[error("something broke inside the server; its log has the cause under this answer's x-request-id")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// A single thing that is wrong with a body.
    pub(crate) fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::InvalidBody(Problem { pointer: pointer.to_owned(), message: message.into() })
    }

    /// What is wrong with the form of a job is wrong with the job.
    pub(crate) fn of_job(self) -> Self {
        match self {
            Self::InvalidBody(problem) => Self::InvalidJob(vec![problem]),
            other => other,
        }
    }

    pub(crate) fn not_ready(cause: StoreError) -> Self {
        tracing::warn!(error = error_chain(&cause), "not ready");
        Self::NotReady("the database does not answer, or is not of this version".into())
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The table of all answers: status, code, title.
    fn answer(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MalformedJson(_) => (StatusCode::BAD_REQUEST, "malformed_json", "Malformed JSON"),
            Self::UnknownField(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_field", "Unknown field"),
            Self::InvalidBody(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", "Invalid body"),
            Self::InvalidJob(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_job", "Invalid job"),
            Self::DatasetNotRegistered(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "dataset_not_registered", "Dataset not registered")
            }
            Self::DatasetChanged(_) => (StatusCode::CONFLICT, "dataset_changed", "Dataset changed"),
            Self::IncompleteSubmission(_) => (StatusCode::CONFLICT, "incomplete_submission", "Incomplete submission"),
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter", "Invalid parameter"),
            Self::InvalidCursor => (StatusCode::BAD_REQUEST, "invalid_cursor", "Invalid cursor"),
            Self::DigestMismatch(_) => (StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", "Digest mismatch"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", "Not found"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::UnsupportedMediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type")
            }
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "Payload too large"),
            Self::BrokenBody(_) => (StatusCode::BAD_REQUEST, "broken_body", "Broken body"),
            Self::RangeNotSatisfiable { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", "Range not satisfiable")
            }
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthenticated", "Unauthenticated"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Forbidden"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Idempotency key reused")
            }
            Self::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "Not ready"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    fn problems(self) -> Vec<Problem> {
        match self {
            Self::InvalidJob(problems)
            | Self::DatasetNotRegistered(problems)
            | Self::IncompleteSubmission(problems) => problems,
            Self::UnknownField(problem) | Self::InvalidBody(problem) | Self::DatasetChanged(problem) => vec![problem],
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(error = error_chain(cause.as_ref()), "request failed");
        }
        let (status, code, title) = self.answer();
        let header = match &self {
            Self::Unauthenticated(_) => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lamina\"")))
            }
            Self::RangeNotSatisfiable { length } => {
                HeaderValue::try_from(format!("bytes */{length}")).ok().map(|value| (header::CONTENT_RANGE, value))
            }
            Self::NotReady(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        };
        let details = ProblemDetails {
            kind: format!("urn:lamina:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            code,
            problems: self.problems(),
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
            other => Self::internal(other),
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
            // The file, not a body of the client's, is what changed: there is nothing to point at.
            ArtifactError::Dataset(DatasetError::Changed { .. }) => {
                Self::DatasetChanged(Problem { pointer: String::new(), message })
            }
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
            PlanError::Store(error) => error.into(),
        }
    }
}

impl From<BytesRejection> for Error {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
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

/// An id that is no id names nothing.
impl From<PathRejection> for Error {
    fn from(_: PathRejection) -> Self {
        Self::NotFound("such resource".into())
    }
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect::<Vec<_>>().join(" or ")
}

fn count(problems: &[Problem]) -> String {
    match problems {
        [problem] => format!("{} at {}", problem.message, problem.pointer),
        _ => format!("{} things are wrong with this job", problems.len()),
    }
}

/// The files are the problems' pointers.
fn lacking(problems: &[Problem]) -> String {
    let files: Vec<&str> = problems.iter().map(|problem| problem.pointer.trim_start_matches('/')).collect();
    format!("{} cannot be made", files.join(", "))
}

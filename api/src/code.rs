//! The codes of errors, by which programs tell them apart.

use axum::http::StatusCode;
use utoipa::ToSchema;

recipe::named_enum! {
    /// The name of an error for programs, which does not change between versions.
    #[derive(ToSchema)]
    pub(crate) enum Code {
        /// The body is not JSON.
        MalformedJson = "malformed_json",
        /// The body ended early.
        BrokenBody = "broken_body",
        /// A parameter of the address or a header has a value that is not allowed, or an unknown name.
        InvalidParameter = "invalid_parameter",
        /// The cursor does not come from this list.
        InvalidCursor = "invalid_cursor",
        /// A token is needed, or this one is not valid.
        Unauthenticated = "unauthenticated",
        /// A token of another scope is needed.
        Forbidden = "forbidden",
        /// Nothing has this id or address.
        NotFound = "not_found",
        /// The address has no such method.
        MethodNotAllowed = "method_not_allowed",
        /// No part of the body arrived for too long.
        BodyTimedOut = "body_timed_out",
        /// The state of the resource does not allow this.
        Conflict = "conflict",
        /// A registered file is no longer what was registered.
        DatasetChanged = "dataset_changed",
        /// Files of a submission to the GLUE server would be missing.
        IncompleteSubmission = "incomplete_submission",
        /// The name of the node belongs to another token.
        NodeOfAnotherToken = "node_of_another_token",
        /// Another agent runs under the name of the node.
        NodeNameTaken = "node_name_taken",
        /// The node's agent lives, or attempts run there.
        NodeInUse = "node_in_use",
        /// Without this token, nobody could manage tokens.
        LastAdminToken = "last_admin_token",
        /// The body is longer than the route allows.
        PayloadTooLarge = "payload_too_large",
        /// The body has another media type.
        UnsupportedMediaType = "unsupported_media_type",
        /// The range starts past the end.
        RangeNotSatisfiable = "range_not_satisfiable",
        /// The body has fields that nobody knows.
        UnknownField = "unknown_field",
        /// The body has values that are not allowed.
        InvalidBody = "invalid_body",
        /// The job cannot be carried out as it is written.
        InvalidJob = "invalid_job",
        /// The job is valid but for data sets that are not registered.
        DatasetNotRegistered = "dataset_not_registered",
        /// The content has another sha256 than its address says.
        DigestMismatch = "digest_mismatch",
        /// The key was used with another body before.
        IdempotencyKeyReused = "idempotency_key_reused",
        /// Too many wrong tokens came from this address.
        TooManyRequests = "too_many_requests",
        /// A fault of the server.
        Internal = "internal",
        /// The server starts or stops, or its database does not answer.
        NotReady = "not_ready",
        /// As much work of this sort as the server takes is running and waiting.
        Busy = "busy",
        /// The work took longer than its time limit.
        TimedOut = "timed_out",
    }
}

impl Code {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson | Self::BrokenBody | Self::InvalidParameter | Self::InvalidCursor => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict
            | Self::DatasetChanged
            | Self::IncompleteSubmission
            | Self::NodeOfAnotherToken
            | Self::NodeNameTaken
            | Self::NodeInUse
            | Self::LastAdminToken => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::UnknownField
            | Self::InvalidBody
            | Self::InvalidJob
            | Self::DatasetNotRegistered
            | Self::DigestMismatch
            | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotReady | Self::Busy | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The name as words for people.
    pub(crate) fn title(self) -> String {
        let words = self.name().replace('_', " ").replace("json", "JSON");
        words[..1].to_uppercase() + &words[1..]
    }
}

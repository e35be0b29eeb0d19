//! axum's extractors, with rejections as RFC 9457 problems.

use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};

use crate::error::Error;

/// A parameter of the path. The answer is 404 if it does not parse, because it then names nothing.
#[derive(FromRequestParts)]
#[from_request(via(AxumPath), rejection(Error))]
pub(crate) struct Path<T>(pub(crate) T);

/// The query string. All its structs deny unknown names, so that a mistyped `dry_run` does not post a job.
#[derive(FromRequestParts)]
#[from_request(via(AxumQuery), rejection(Error))]
pub(crate) struct Query<T>(pub(crate) T);

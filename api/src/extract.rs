//! axum's extractors, with refusals that are problems.

use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};

use crate::error::Error;

/// A part of the path; one that does not parse names nothing (404).
#[derive(FromRequestParts)]
#[from_request(via(AxumPath), rejection(Error))]
pub(crate) struct Path<T>(pub(crate) T);

/// The query. Its structs deny unknown names: a mistyped `dry_run` must not post a job.
#[derive(FromRequestParts)]
#[from_request(via(AxumQuery), rejection(Error))]
pub(crate) struct Query<T>(pub(crate) T);

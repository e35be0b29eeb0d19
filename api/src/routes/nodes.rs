//! Nodes and the attempts on their slots.

use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::id::NodeId;
use scheduler::node::NodeView;

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::extract::{Path, Query};
use crate::page::{self, Cursor, ListQuery, Page};

/// Lists the nodes by name, with their slots. A node stays in the list until it is deleted.
#[utoipa::path(
    get, operation_id = "list_nodes", path = "/nodes", tag = "nodes", security(("token" = [])), params(ListQuery),
    responses((status = OK, body = Page<NodeView>, headers(("Link" = String)))),
)]
pub(crate) async fn list(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<ListQuery>,
) -> Result<Response, Error> {
    let limit = page::limit(query.limit)?;
    let after = page::start(query.cursor.as_deref(), |cursor| match cursor {
        Cursor::Node(id) => Some(NodeId(id)),
        _ => None,
    })?;
    let nodes = app.store.nodes(app.policy.lease, limit + 1, after).await?;
    Ok(Page::new(nodes, limit, |node| Cursor::Node(node.id.0).encode()).answer(&uri))
}

/// Drains a node: its trials go on, and nothing new is placed there until the node is resumed.
#[utoipa::path(
    post, operation_id = "drain_node", path = "/nodes/{id}/drain", tag = "nodes", security(("token" = [])), params(("id" = NodeId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn drain(State(app): State<App>, Path(id): Path<NodeId>) -> Result<StatusCode, Error> {
    app.store.drain_node(id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the draining of a node: trials are placed there again.
#[utoipa::path(
    post, operation_id = "resume_node", path = "/nodes/{id}/resume", tag = "nodes", security(("token" = [])), params(("id" = NodeId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resume(State(app): State<App>, Path(id): Path<NodeId>) -> Result<StatusCode, Error> {
    app.store.drain_node(id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a node whose agent has stopped: it leaves the list, and its name is free for another token.
#[utoipa::path(
    delete, operation_id = "delete_node", path = "/nodes/{id}", tag = "nodes", security(("token" = [])), params(("id" = NodeId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
        (status = CONFLICT, description = "The node is live, or has trials that have not ended (`node_in_use`).", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(State(app): State<App>, Path(id): Path<NodeId>) -> Result<StatusCode, Error> {
    app.store.delete_node(id, app.policy.lease).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Nodes and the attempts on their slots.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use protocol::id::NodeId;
use scheduler::node::NodeView;

use crate::app::App;
use crate::error::Error;
use crate::extract::Query;
use crate::page::{self, Cursor, ListQuery, Page};

/// Lists all nodes that have ever synced, by name, with their slots.
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

//! Nodes and what runs on their slots.

use axum::extract::State;
use scheduler::node::NodeView;

use crate::body::Json;
use crate::error::Error;
use crate::page::Page;
use crate::router::App;

/// All nodes that ever synced, with their slots.
#[utoipa::path(
    get, operation_id = "list_nodes", path = "/nodes", tag = "nodes", security(("token" = [])), responses((status = OK, body = Page<NodeView>)),
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<NodeView>>, Error> {
    Ok(Json(Page::whole(app.store.nodes(app.policy.lease).await?)))
}

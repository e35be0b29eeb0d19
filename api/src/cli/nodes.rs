//! `lamina nodes`.

use anyhow::Result;
use scheduler::node::NodeView;

use super::client::{Client, Connection};
use super::table::{lay_out, left, right, terminal_width};
use super::text;

pub(crate) async fn run(connection: &Connection) -> Result<()> {
    let client = Client::new(connection)?;
    let nodes = client.list::<NodeView>("/nodes").await?;
    if nodes.is_empty() {
        println!("No node has reported yet. Start one with: lamina agent --server {}", client.server());
        return Ok(());
    }
    let columns =
        [left("node"), left("state"), right("slot"), left("device"), right("threads"), right("memory"), left("runs")];
    let mut rows = Vec::new();
    for node in &nodes {
        for slot in &node.slots {
            rows.push(vec![
                node.name.clone(),
                if node.live { "live" } else { "away" }.into(),
                slot.index.to_string(),
                format!("{} {}", slot.device, slot.model),
                slot.threads.to_string(),
                text::bytes(slot.memory_bytes),
                slot.attempt.as_ref().map_or("idle".into(), |attempt| format!("trial {}", attempt.trial)),
            ]);
        }
    }
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}

//! `lamina nodes` and `lamina node`.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use reqwest::Method;
use scheduler::node::NodeView;

use super::client::{Client, Connection};
use super::table::{lay_out, left, right, whole};
use super::text;
use crate::terminal::{say, width};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// Place nothing new on a node; the trials that run there go on
    Drain {
        /// The node's name (see `lamina nodes`)
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Place trials on a drained node again
    Resume {
        /// The node's name (see `lamina nodes`)
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove a node whose agent has stopped from the list; its name is free for another token then
    Delete {
        /// The node's name (see `lamina nodes`)
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let (name, method, action, done) = match arguments.command {
        Command::Drain { name } => (name, Method::POST, "/drain", "is drained: nothing new is placed there"),
        Command::Resume { name } => (name, Method::POST, "/resume", "takes trials again"),
        Command::Delete { name } => (name, Method::DELETE, "", "is deleted"),
    };
    let nodes = client.list::<NodeView>("/nodes").await?;
    let node = nodes
        .iter()
        .find(|node| node.name == name)
        .with_context(|| format!("there is no node {name:?}; `lamina nodes` lists nodes with their names"))?;
    client.send(client.request(method, &format!("/nodes/{}{action}", node.id))).await?;
    say(format_args!("{name} {done}"))
}

pub(crate) async fn list(connection: &Connection) -> Result<()> {
    let client = Client::new(connection)?;
    let nodes = client.list::<NodeView>("/nodes").await?;
    if nodes.is_empty() {
        return say(format_args!(
            "No node has reported yet. Start one with: lamina agent --server {}",
            client.server()
        ));
    }
    let columns = [
        left("node"),
        left("state"),
        right("slot"),
        left("device").leaves(3),
        right("threads").leaves(1),
        right("memory").leaves(2),
        whole("trial"),
    ];
    let mut rows = Vec::new();
    for node in &nodes {
        for slot in &node.slots {
            rows.push(vec![
                node.name.clone(),
                match (node.live, node.draining) {
                    (true, true) => "draining",
                    (true, false) => "live",
                    (false, _) => "away",
                }
                .into(),
                slot.index.to_string(),
                format!("{} {}", slot.device, slot.model),
                slot.threads.to_string(),
                text::bytes(slot.memory_bytes),
                slot.attempt.as_ref().map_or("idle".into(), |attempt| attempt.trial.to_string()),
            ]);
        }
    }
    say(lay_out(&columns, &rows, width()))
}

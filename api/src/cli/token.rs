//! `lamina token`.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;

use super::client::{Client, Connection};
use super::table::{lay_out, left, terminal_width};
use super::view::{Page, Token};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token; its secret is shown once
    Create {
        /// Who or what will use it
        #[arg(value_name = "NAME")]
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value = "write")]
        scope: Scope,
    },
    /// Show all tokens, without their secrets
    List,
    /// Make a token worthless
    Revoke {
        /// The token's id (see `lamina token list`)
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// See everything
    Read,
    /// Post and cancel jobs, register data
    Write,
    /// Manage tokens, too
    Admin,
    /// Carry out trials: what an agent needs, and nothing else
    Agent,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    match arguments.command {
        Command::Create { name, scope } => {
            let scope = scope.to_possible_value().map(|value| value.get_name().to_owned());
            let request = client.request(Method::POST, "/tokens").json(&json!({"name": name, "scope": scope}));
            let made = client.read::<Token>(request).await?.body;
            // The secret alone on standard output, so that `TOKEN=$(lamina token create ci)` works.
            eprintln!("{} ({}), shown only now:", made.name, made.scope);
            println!("{}", made.token.unwrap_or_default());
        }
        Command::List => {
            let tokens = client.get::<Page<Token>>("/tokens").await?.body.items;
            let rows: Vec<_> = tokens
                .into_iter()
                .map(|token| {
                    let made = token.created_at.map(|at| at.format("%Y-%m-%d %H:%M UTC").to_string());
                    vec![token.id.to_string(), token.name, token.scope, made.unwrap_or_default()]
                })
                .collect();
            println!("{}", lay_out(&[left("token"), left("name"), left("scope"), left("made")], &rows, terminal_width()));
        }
        Command::Revoke { id } => {
            client.send(client.request(Method::DELETE, &format!("/tokens/{id}"))).await?;
            println!("revoked");
        }
    }
    Ok(())
}

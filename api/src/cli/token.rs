//! `lamina token`.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use scheduler::token::{Scope as TokenScope, TokenView};
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Connection};
use super::table::{lay_out, left, terminal_width, whole};
use crate::page::Page;

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

impl From<Scope> for TokenScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Write => Self::Write,
            Scope::Admin => Self::Admin,
            Scope::Agent => Self::Agent,
        }
    }
}

const fn scope_name(scope: TokenScope) -> &'static str {
    match scope {
        TokenScope::Read => "read",
        TokenScope::Write => "write",
        TokenScope::Admin => "admin",
        TokenScope::Agent => "agent",
    }
}

/// All that matters here of a new token.
#[derive(Deserialize)]
struct Created {
    token: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    match arguments.command {
        Command::Create { name, scope } => {
            let body = json!({"name": name, "scope": TokenScope::from(scope)});
            let request = client.request(Method::POST, "/tokens").json(&body);
            let made = client.read::<Created>(request).await?.body;
            // The secret alone on standard output, so that `TOKEN=$(lamina token create ci)` works.
            eprintln!("The token of {name}; it is shown only now:");
            println!("{}", made.token);
        }
        Command::List => {
            let tokens = client.get::<Page<TokenView>>("/tokens").await?.body.items;
            let columns = [whole("token"), left("name"), left("scope"), left("begins with"), left("made"), left("")];
            let row = |token: TokenView| {
                let made = token.created_at.format("%Y-%m-%d %H:%M UTC").to_string();
                let state = if token.revoked_at.is_some() { "revoked" } else { "" };
                vec![token.id.to_string(), token.name, scope_name(token.scope).into(), token.prefix, made, state.into()]
            };
            println!("{}", lay_out(&columns, &tokens.into_iter().map(row).collect::<Vec<_>>(), terminal_width()));
        }
        Command::Revoke { id } => {
            client.send(client.request(Method::DELETE, &format!("/tokens/{id}"))).await?;
            println!("revoked");
        }
    }
    Ok(())
}

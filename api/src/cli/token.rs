//! `lamina token`.

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use protocol::id::TokenId;
use reqwest::Method;
use scheduler::token::{Scope as TokenScope, TokenView};
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, Connection};
use super::named;
use super::table::{lay_out, left, whole};
use crate::page::Page;
use crate::terminal::{mention, say, width};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// Create a token; its secret is shown only once
    Create {
        /// Name of the person or program that will use it
        #[arg(value_name = "NAME")]
        name: String,
        /// What the token allows
        #[arg(long, value_enum, default_value = "write")]
        scope: Scope,
        /// Number of days after which the token is refused [default: it lasts until it is revoked]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in: Option<u32>,
    },
    /// Show all tokens, without their secrets
    List,
    /// Revoke a token; the next request with it is refused
    Revoke {
        /// The token's id (see `lamina token list`)
        #[arg(value_name = "ID", value_parser = named::token)]
        id: TokenId,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// Read everything
    Read,
    /// Also submit and cancel jobs, and register data
    Write,
    /// Also manage tokens and nodes
    Admin,
    /// Run trials: what an agent needs, and nothing else
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

/// The only field of a new token that this command reads.
#[derive(Deserialize)]
struct CreatedToken {
    token: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    match arguments.command {
        Command::Create { name, scope, expires_in } => {
            let body = json!({"name": name, "scope": TokenScope::from(scope), "expires_in_days": expires_in});
            let request = client.request(Method::POST, "/tokens").json(&body);
            let created = client.read::<CreatedToken>(request).await?.body;
            // Standard output has the secret alone, so that `TOKEN=$(lamina token create ci)` works.
            mention(format_args!("The token of {name}, which is shown only now:"));
            say(created.token)?;
        }
        Command::List => {
            let tokens = client.get::<Page<TokenView>>("/tokens").await?.body.items;
            let columns = [
                whole("token"),
                left("name"),
                left("scope"),
                left("begins with").leaves(1),
                left("created").leaves(2),
                left("validity").at_least(16),
            ];
            let day = |time: DateTime<Utc>| time.format("%Y-%m-%d").to_string();
            let row = |token: TokenView| {
                let state = match (token.revoked_at, token.expires_at) {
                    (Some(_), _) => "revoked".into(),
                    (None, Some(at)) => format!("until {}", day(at)),
                    (None, None) => String::new(),
                };
                let scope = scope_name(token.scope).into();
                vec![token.id.to_string(), token.name, scope, token.prefix, day(token.created_at), state]
            };
            say(lay_out(&columns, &tokens.into_iter().map(row).collect::<Vec<_>>(), width()))?;
        }
        Command::Revoke { id } => {
            client.send(client.request(Method::DELETE, &format!("/tokens/{id}"))).await?;
            say("revoked")?;
        }
    }
    Ok(())
}

//! Access tokens.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::id::TokenId;
use scheduler::token::{Scope, Secret, TokenView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::extract::Path;
use crate::page::Page;
use crate::random;

/// A hundred years.
const MOST_DAYS: u32 = 36_500;
pub(crate) const LONGEST_NAME: usize = 200;

/// Lists all tokens, without their secrets.
#[utoipa::path(
    get, operation_id = "list_tokens", path = "/tokens", tag = "tokens", security(("token" = [])), responses((status = OK, body = Page<TokenView>)),
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<TokenView>>, Error> {
    Ok(Json(Page::whole(app.store.tokens().await?)))
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Name of the person or program that will use the token.
    name: String,
    scope: Scope,
    /// Number of days after which the token is refused; absent for a token that lasts until it is revoked.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 36_500)]
    expires_in_days: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedToken {
    #[serde(flatten)]
    view: TokenView,
    /// The secret. No later answer contains it.
    token: String,
}

/// Creates a token. This answer is the only one that contains its secret.
#[utoipa::path(
    post, operation_id = "create_token", path = "/tokens", tag = "tokens", security(("token" = [])), request_body = NewToken,
    responses((status = CREATED, body = CreatedToken, headers(("Cache-Control" = String)))),
)]
pub(crate) async fn create(
    State(app): State<App>,
    Json(NewToken { name, scope, expires_in_days }): Json<NewToken>,
) -> Result<Response, Error> {
    if name.trim().is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        let message = format!("a name has 1 to {LONGEST_NAME} characters, is not blank and has no control characters");
        return Err(Error::invalid("/name", message));
    }
    if expires_in_days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
        return Err(Error::invalid("/expires_in_days", format!("a token lasts from 1 to {MOST_DAYS} days")));
    }
    let lifetime = expires_in_days.map(|days| Duration::from_hours(24) * days);
    let secret = Secret::from_random(random::bytes().map_err(Error::internal)?);
    let view = app.store.create_token(&name, scope, &secret, lifetime).await?;
    let created = Json(CreatedToken { view, token: secret.expose().to_owned() });
    // No cache on the way may keep a secret.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], created).into_response())
}

/// Revokes a token: the next request with it is refused. The last admin token that can be used cannot be revoked.
#[utoipa::path(
    delete, operation_id = "revoke_token", path = "/tokens/{id}", tag = "tokens", security(("token" = [])), params(("id" = TokenId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
        (status = CONFLICT, description = "This is the last admin token that can be used (`last_admin_token`).", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(State(app): State<App>, Path(id): Path<TokenId>) -> Result<StatusCode, Error> {
    app.store.revoke_token(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Access tokens.

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

pub(crate) const LONGEST_NAME: usize = 200;

/// Lists all tokens, without their secrets.
#[utoipa::path(
    get, operation_id = "list_tokens", path = "/tokens", tag = "tokens", security(("token" = [])), responses((status = OK, body = Page<TokenView>)),
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<TokenView>>, Error> {
    Ok(Json(Page::whole(app.store.tokens().await?)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Name of the person or program that will use the token.
    name: String,
    scope: Scope,
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
    Json(NewToken { name, scope }): Json<NewToken>,
) -> Result<Response, Error> {
    if name.trim().is_empty() || name.len() > LONGEST_NAME {
        return Err(Error::invalid("/name", format!("a name has 1 to {LONGEST_NAME} bytes and is not blank")));
    }
    let secret = Secret::from_random(random::bytes().map_err(Error::internal)?);
    let view = app.store.create_token(&name, scope, &secret, None).await?;
    let created = Json(CreatedToken { view, token: secret.expose().to_owned() });
    // No cache on the way may keep a secret.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], created).into_response())
}

/// Revokes a token: the next request with it is refused.
#[utoipa::path(
    delete, operation_id = "revoke_token", path = "/tokens/{id}", tag = "tokens", security(("token" = [])), params(("id" = TokenId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(State(app): State<App>, Path(id): Path<TokenId>) -> Result<StatusCode, Error> {
    app.store.revoke_token(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Bearer tokens: who calls, and whether they may.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use scheduler::id::TokenId;
use scheduler::token::{self, Scope};
use subtle::ConstantTimeEq;

use crate::error::Error;
use crate::router::App;

/// The token that a request came with; handlers find it in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) token: TokenId,
}

/// Lets requests pass whose token has one of the scopes, or a larger one.
pub(crate) async fn require(
    State((app, scopes)): State<(App, &'static [Scope])>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let secret = bearer(request.headers())?;
    // Found by a prefix that is no secret, decided by a comparison whose time says nothing.
    let digest = token::digest(secret);
    let known = app.store.token(token::prefix(secret)).await?;
    let known = known.filter(|known| bool::from(known.digest.ct_eq(&digest)));
    let known = known.ok_or(Error::Unauthenticated("this token is not known here, or was revoked"))?;
    if !scopes.iter().any(|scope| known.scope.includes(*scope)) {
        return Err(Error::Forbidden(scopes[0].name()));
    }
    request.extensions_mut().insert(Caller { token: known.id });
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let missing = Error::Unauthenticated("a token is needed: `Authorization: Bearer TOKEN`");
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Err(missing);
    };
    match value.split_once(' ') {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") && !secret.trim().is_empty() => Ok(secret.trim()),
        _ => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_bearer_token_is_read() {
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).ok().map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        for refused in ["", "Bearer", "Bearer ", "Basic YTpi", "abc"] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}

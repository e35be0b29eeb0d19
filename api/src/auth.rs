//! Bearer tokens: who calls, and whether they may.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::id::TokenId;
use scheduler::token::{Scope, Secret};
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::error::Error;

/// The same answer for a token of the wrong form and for one that is not registered, so that a guess learns nothing.
const UNKNOWN: &str = "this token is unknown, has expired or was revoked";

/// The owner of the request's token. [`require`] puts it into the request's extensions for the handlers.
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
    // The database finds the token by its prefix, which is not secret; the comparison of digests takes constant time.
    let known = app.store.token_by_prefix(secret.prefix()).await?;
    let known = known.filter(|known| bool::from(known.sha256.ct_eq(&secret.sha256())));
    let known = known.ok_or(Error::Unauthenticated(UNKNOWN))?;
    if !scopes.iter().any(|scope| known.scope.allows(*scope)) {
        return Err(Error::Forbidden(scopes));
    }
    request.extensions_mut().insert(Caller { token: known.id });
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Result<Secret, Error> {
    let missing = Error::Unauthenticated("a token is needed: `Authorization: Bearer TOKEN`");
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Err(missing);
    };
    match value.split_once(' ') {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => {
            Secret::parse(text).ok_or(Error::Unauthenticated(UNKNOWN))
        }
        _ => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_bearer_token_is_accepted() {
        let secret = Secret::from_random([7; 32]);
        let read = |value: String| {
            let value = HeaderValue::from_str(&value).unwrap();
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).ok()
        };
        assert_eq!(read(format!("Bearer {}", secret.expose())), Some(secret.clone()));
        assert_eq!(read(format!("bearer  {} ", secret.expose())), Some(secret.clone()));
        for refused in [
            "".into(),
            "Bearer".into(),
            "Bearer x".into(),
            format!("Basic {}", secret.expose()),
            secret.expose().into(),
        ] {
            assert_eq!(read(refused), None);
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}

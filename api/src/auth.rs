//! Bearer tokens: who calls, and whether they may.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::id::TokenId;
use scheduler::token::{KnownToken, Scope, Secret};
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::error::{Error, Refusal};

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
    // A test's requests come from no address.
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let known = match bearer(request.headers()) {
        Ok(secret) => known(&app, scopes, &secret, address).await?,
        Err(Refusal::Missing) => return Err(Error::Unauthenticated(Refusal::Missing)),
        Err(Refusal::Unknown) => None,
    };
    let Some(known) = known else {
        let wait = address.and_then(|address| app.guesses.count(address));
        return Err(wait.map_or(Error::Unauthenticated(Refusal::Unknown), |wait| Error::TooManyGuesses { wait }));
    };
    if !scopes.iter().any(|scope| known.scope.allows(*scope)) {
        return Err(Error::Forbidden(scopes));
    }
    request.extensions_mut().insert(Caller { token: known.id });
    Ok(next.run(request).await)
}

/// The registered token that `secret` is.
async fn known(
    app: &App,
    scopes: &[Scope],
    secret: &Secret,
    address: Option<IpAddr>,
) -> Result<Option<KnownToken>, Error> {
    let _admitted = match address {
        Some(address) => app.guesses.admit(address).await,
        None => None,
    };
    // Agents must not wait for people, so their tokens are looked up on the connections of agents.
    let store = if scopes.contains(&Scope::Agent) { &app.agents } else { &app.store };
    // The database finds the token by its prefix, which is not secret; the comparison of digests takes constant time.
    let known = store.token_by_prefix(secret.prefix()).await?;
    Ok(known.filter(|known| bool::from(known.sha256.ct_eq(&secret.sha256()))))
}

fn bearer(headers: &HeaderMap) -> Result<Secret, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Err(Refusal::Missing);
    };
    match value.split_once(' ') {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => Secret::parse(text).ok_or(Refusal::Unknown),
        _ => Err(Refusal::Missing),
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

//! `Idempotency-Key`: a client whose answer was lost can send its request again, and the work is done once.

use axum::http::HeaderMap;
use protocol::id::TokenId;
use scheduler::store::IdempotencyKey;
use sha2::{Digest, Sha256};

use crate::error::Error;

pub(crate) const LONGEST: usize = 255;

/// The key of a request with the digest of its body, if the request has a key. The digest tells a repeated request from
/// another one that reuses the key by mistake.
///
/// # Errors
/// `invalid_parameter` for a key that is empty, longer than 255 characters, not ASCII or given twice.
pub(crate) fn key(token: TokenId, headers: &HeaderMap, body: &[u8]) -> Result<Option<IdempotencyKey>, Error> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=LONGEST).contains(&key.len()));
    match (key, values.next()) {
        (Some(key), None) => {
            Ok(Some(IdempotencyKey { token, key: key.to_owned(), body_sha256: Sha256::digest(body).into() }))
        }
        _ => {
            Err(Error::InvalidParameter(format!("Idempotency-Key must be one key of 1 to {LONGEST} ASCII characters")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn key_of(keys: &[&str]) -> Result<Option<IdempotencyKey>, Error> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append("idempotency-key", HeaderValue::from_str(key).unwrap());
        }
        key(TokenId::new(), &headers, b"body")
    }

    #[test]
    fn a_request_has_at_most_one_key_and_it_is_short() {
        assert!(key_of(&[]).unwrap().is_none());
        assert_eq!(key_of(&[" a-1 "]).unwrap().unwrap().key, "a-1");
        assert!(key_of(&[&"k".repeat(LONGEST)]).is_ok());
        for refused in [vec![""], vec!["  "], vec!["a", "a"], vec!["é"], vec![&"k".repeat(LONGEST + 1)]] {
            assert!(matches!(key_of(&refused), Err(Error::InvalidParameter(_))), "{refused:?}");
        }
    }
}

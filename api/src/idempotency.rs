//! `Idempotency-Key`: a request that is sent again after a lost answer does its work once.

use axum::http::HeaderMap;
use protocol::id::TokenId;
use scheduler::store::IdempotencyKey;
use sha2::{Digest, Sha256};

use crate::error::Error;

const LONGEST: usize = 255;

/// The key of a request, if it has one, and what is asked under it: the same key with another body is a mistake.
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
        _ => Err(Error::InvalidParameter(format!("Idempotency-Key: one key of 1 to {LONGEST} visible characters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keyed(keys: &[&str]) -> Result<Option<IdempotencyKey>, Error> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append("idempotency-key", HeaderValue::from_str(key).unwrap());
        }
        key(TokenId::new(), &headers, b"body")
    }

    #[test]
    fn a_key_is_one_short_word() {
        assert!(keyed(&[]).unwrap().is_none());
        assert_eq!(keyed(&[" a-1 "]).unwrap().unwrap().key, "a-1");
        assert!(keyed(&[&"k".repeat(LONGEST)]).is_ok());
        for refused in [vec![""], vec!["  "], vec!["a", "a"], vec!["é"], vec![&"k".repeat(LONGEST + 1)]] {
            assert!(matches!(keyed(&refused), Err(Error::InvalidParameter(_))), "{refused:?}");
        }
    }
}

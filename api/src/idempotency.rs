//! `Idempotency-Key`: a request that is sent again after a lost answer does its work once.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::error::Error;

const LONGEST: usize = 255;

/// A client's name for one request, and what was asked under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey {
    pub(crate) key: String,
    /// sha256 of the body: the same key with another body is a mistake of the client.
    pub(crate) fingerprint: [u8; 32],
}

impl IdempotencyKey {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// `invalid_parameter` for a key that is empty, longer than 255 characters, not ASCII or given twice.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8]) -> Result<Option<Self>, Error> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=LONGEST).contains(&key.len()));
        match (key, values.next()) {
            (Some(key), None) => {
                Ok(Some(Self { key: key.to_owned(), fingerprint: Sha256::digest(body).into() }))
            }
            _ => Err(Error::InvalidParameter(format!("Idempotency-Key: one key of 1 to {LONGEST} visible characters"))),
        }
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
        IdempotencyKey::of(&headers, b"body")
    }

    #[test]
    fn a_key_is_one_short_word() {
        assert_eq!(keyed(&[]).unwrap(), None);
        assert_eq!(keyed(&[" a-1 "]).unwrap().unwrap().key, "a-1");
        assert!(keyed(&[&"k".repeat(LONGEST)]).is_ok());
        for refused in [vec![""], vec!["  "], vec!["a", "a"], vec!["é"], vec![&"k".repeat(LONGEST + 1)]] {
            assert!(matches!(keyed(&refused), Err(Error::InvalidParameter(_))), "{refused:?}");
        }
    }
}

//! `ETag` and `If-None-Match`: a client that polls gets a body only if something changed.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Answers with `body` and a tag made from its bytes, or with 304 if the client already has them.
pub(crate) fn answer(headers: &HeaderMap, media_type: &'static str, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16]));
    let caching = [(header::CACHE_CONTROL, "private, no-cache"), (header::VARY, "accept")];
    let mut response = if is_known(headers, &tag) {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else {
        (caching, [(header::CONTENT_TYPE, media_type)], body).into_response()
    };
    response.headers_mut().extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    response
}

/// Makes the tag of a compressed answer weak: its bytes depend on the client's `Accept-Encoding` (RFC 9110, section
/// 8.8.1).
pub(crate) async fn weakened(mut response: Response) -> Response {
    if response.headers().contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = response.headers_mut().get_mut(header::ETAG)
        && let Ok(weak) = HeaderValue::try_from(["W/".as_bytes(), tag.as_bytes()].concat())
    {
        *tag = weak;
    }
    response
}

/// True if the client's `If-None-Match` contains `tag`, by weak comparison (RFC 9110, section 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_matching_tag_among_several_is_enough() {
        let known = |value: &'static str| {
            is_known(&HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]), "\"a\"")
        };
        assert!(known("\"a\"") && known("\"b\", W/\"a\"") && known("*"));
        assert!(!known("\"b\"") && !known("a"));
        assert!(!is_known(&HeaderMap::new(), "\"a\""));
    }
}

//! JSON bodies. Reading is strict, and a refusal names the place with a JSON pointer.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use recipe::Problem;
use recipe::problem::pointer_token;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use crate::error::Error;

/// A JSON body. A handler that returns it serialises it; a handler that takes it reads it with [`parse`].
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let (headers, body) = read(request, state).await?;
        parse(&headers, &body).map(Json)
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<(HeaderMap, Bytes), Error> {
    let headers = request.headers().clone();
    Ok((headers, Bytes::from_request(request, state).await?))
}

/// Reads a JSON object from the bytes of a body.
///
/// # Errors
/// `unsupported_media_type`; `malformed_json` with line and column; `unknown_field` and `invalid_body` with a pointer.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Error> {
    require_json(headers)?;
    // The body is checked as JSON first, so that a syntax error after an invalid field is still `malformed_json`.
    serde_json::from_slice::<IgnoredAny>(body).map_err(|error| Error::MalformedJson(error.to_string()))?;
    // serde would also accept an array of a struct's fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("", "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refusal(&pointer(error.path()), error.inner()))
}

fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let found = match headers.get(header::CONTENT_TYPE) {
        Some(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        None => String::from("missing"),
    };
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Error::UnsupportedMediaType { wanted: "application/json", found })
}

fn refusal(pointer: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    // serde has no error kind for an unknown field, so the message decides; a test holds its form.
    match text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        Some(field) => {
            Error::UnknownField(Problem { pointer: ending_in(pointer, field), message: without_position(&text) })
        }
        None => Error::InvalidBody(Problem { pointer: pointer.to_owned(), message: without_position(&text) }),
    }
}

/// The pointer to `field`. The path that serde reports usually ends in it already; below a buffered enum it does not.
fn ending_in(pointer: &str, field: &str) -> String {
    let field = pointer_token(field);
    if pointer.rsplit('/').next() == Some(field.as_str()) { pointer.to_owned() } else { format!("{pointer}/{field}") }
}

fn without_position(text: &str) -> String {
    text.rsplit_once(" at line ").map_or(text, |(message, _)| message).to_owned()
}

/// The path as a JSON pointer (RFC 6901). The empty pointer is the whole document.
fn pointer(path: &Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", pointer_token(key))),
            // The name of a variant is not a member of the document, and an unknown segment has no name.
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "a/b")]
        _number: u32,
    }

    fn refused(body: &str) -> Error {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        parse::<Outer>(&headers, body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_refusal_points_at_what_is_wrong() {
        let unknown = refused(r#"{"inner": [{"a/b": 1}, {"a/b": 1, "c": 2}]}"#);
        assert!(matches!(unknown, Error::UnknownField(p) if p.pointer == "/inner/1/c"));
        let wrong_type = refused(r#"{"inner": [{"a/b": "one"}]}"#);
        assert!(
            matches!(wrong_type, Error::InvalidBody(p) if p.pointer == "/inner/0/a~1b" && !p.message.contains("line"))
        );
        let missing = refused("{}");
        assert!(matches!(missing, Error::InvalidBody(p) if p.pointer.is_empty() && p.message.contains("inner")));
    }

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        for body in ["", "{", "{\"inner\": 1, \"c\": [}", "{\"inner\": []} x", "\u{feff}{}", "{\"inner\": [}"] {
            assert!(matches!(refused(body), Error::MalformedJson(_)), "{body:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in ["[[]]", "[]", "7", "null", "\"text\""] {
            assert!(matches!(refused(body), Error::InvalidBody(p) if p.pointer.is_empty()), "{body:?}");
        }
    }

    #[test]
    fn media_types_other_than_json_are_refused() {
        let checked = |value: Option<&'static str>| {
            require_json(&value.map(|v| (header::CONTENT_TYPE, HeaderValue::from_static(v))).into_iter().collect())
        };
        assert!(checked(Some("application/json; charset=utf-8")).is_ok());
        assert!(checked(Some("application/merge-patch+json")).is_ok());
        assert!(checked(Some("text/plain")).is_err());
        assert!(checked(Some("application/x-www-form-urlencoded")).is_err());
        assert!(checked(None).is_err());
    }
}

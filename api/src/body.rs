//! JSON bodies. Reading is strict, and a refusal names the place with a JSON pointer.

use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use recipe::Problem;
use recipe::problem::pointer_token;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};

use crate::app::App;
use crate::error::Error;
use crate::limits;
use scheduler::work::Workers;

/// A JSON body. A handler that returns it serialises it; a handler that takes it reads it with [`parse`].
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (headers, body) = read(request, app).await?;
        parse_long(&app.workers, headers, body).await.map(Json)
    }
}

/// Reads a JSON object as [`parse`] does; a long one on a thread of `workers`.
pub(crate) async fn parse_long<T: DeserializeOwned + Send + 'static>(
    workers: &Workers,
    headers: HeaderMap,
    body: Bytes,
) -> Result<T, Error> {
    if body.len() <= limits::SHORT_BODY {
        return parse(&headers, &body);
    }
    workers.run(limits::WORK_TIME, move |_| parse(&headers, &body)).await?
}

/// The JSON body of an agent. Unlike [`Json`], it may be long and its texts may contain anything, because it holds what
/// trainers wrote.
pub(crate) struct AgentJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for AgentJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (headers, body) = read(request, app).await?;
        let is_short = body.len() <= limits::SHORT_BODY;
        let parse = move || {
            require_json(&headers)?;
            serde_json::from_slice::<IgnoredAny>(&body).map_err(|error| Error::MalformedJson(error.to_string()))?;
            object(&body).map(Self)
        };
        if is_short { parse() } else { app.agent_workers.run(limits::WORK_TIME, move |_| parse()).await? }
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

async fn read(request: Request, app: &App) -> Result<(HeaderMap, Bytes), Error> {
    let headers = request.headers().clone();
    Ok((headers, Bytes::from_request(request, app).await?))
}

/// Reads a JSON object from the bytes of a body.
///
/// # Errors
/// `unsupported_media_type`; `malformed_json` with line and column; `unknown_field` and `invalid_body` with a pointer,
/// the latter also for a text that no field may have.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Error> {
    require_json(headers)?;
    // The body is checked as JSON first, so that a syntax error after an invalid field is still `malformed_json`.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Storable =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| match error.inner().is_data() {
            true => refusal(&pointer(error.path()), error.inner()),
            false => Error::MalformedJson(error.inner().to_string()),
        })?;
    deserializer.end().map_err(|error| Error::MalformedJson(error.to_string()))?;
    object(body)
}

/// Reads an object from JSON that is well-formed.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    // serde would also accept an array of a struct's fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("", "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refusal(&pointer(error.path()), error.inner()))
}

/// Longest text of a body in bytes: the longest path of Linux.
pub(crate) const LONGEST_TEXT: usize = 4096;

/// Any JSON whose texts can be stored: they are not longer than [`LONGEST_TEXT`], and contain no NUL, which Postgres
/// does not store.
struct Storable;

impl<'de> Deserialize<'de> for Storable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Storable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        if text.contains('\0') {
            return Err(E::custom("a text contains the character NUL (\\u0000), which cannot be stored"));
        }
        if text.len() > LONGEST_TEXT {
            return Err(E::custom(format!("a text of {} bytes: at most {LONGEST_TEXT} are allowed", text.len())));
        }
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            Self.visit_str(&key)?;
            fields.next_value::<Self>()?;
        }
        Ok(self)
    }
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
    fn a_text_that_cannot_be_stored_is_refused_where_it_stands() {
        let long = format!(r#"{{"inner": ["{}"]}}"#, "x".repeat(LONGEST_TEXT + 1));
        for (body, at) in [(r#"{"inner": [{"a": "x\u0000"}]}"#, "/inner/0/a"), (long.as_str(), "/inner/0")] {
            assert!(matches!(refused(body), Error::InvalidBody(p) if p.pointer == at), "{body}");
        }
        let key = refused(r#"{"a\u0000": 1}"#);
        assert!(matches!(&key, Error::InvalidBody(p) if p.message.contains("NUL")), "{key:?}");
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

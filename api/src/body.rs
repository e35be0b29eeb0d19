//! JSON bodies. Reading is strict, and a refusal names the place with a JSON pointer.

mod fit;
mod misfit;
mod storable;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::app::App;
use crate::error::Error;
use crate::limits;
use fit::fit;
use misfit::{is_unknown_field, problem};
use scheduler::work::Workers;
use storable::Storable;

pub(crate) use fit::Fitted;
pub(crate) use storable::LONGEST_TEXT;

/// A JSON body. A handler that returns it serialises it; a handler that takes it reads it with [`parse`].
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Serialize + Send + 'static> FromRequest<App> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (headers, body) = read(request, app).await?;
        let Fitted { value, unknown } = parse_long(&app.workers, headers, body).await?;
        if unknown.is_empty() { Ok(Self(value)) } else { Err(Error::UnknownField(unknown)) }
    }
}

/// Reads a JSON object as [`parse`] does; a long one on a thread of `workers`.
pub(crate) async fn parse_long<T: DeserializeOwned + Serialize + Send + 'static>(
    workers: &Workers,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Fitted<T>, Error> {
    if body.len() <= limits::SHORT_BODY {
        return parse(&headers, &body);
    }
    workers.run(limits::WORK_TIME, move |_| parse(&headers, &body)).await?
}

/// The JSON body of an agent. Unlike [`Json`], it may be long and its texts may contain anything, because it holds what
/// trainers wrote. A refusal names the first misfit alone: finding all would read a long body many times over.
pub(crate) struct AgentJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for AgentJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let (headers, body) = read(request, app).await?;
        let is_short = body.len() <= limits::SHORT_BODY;
        let parse = move || {
            require_json(&headers)?;
            serde_json::from_slice::<IgnoredAny>(&body).map_err(|error| Error::MalformedJson(error.to_string()))?;
            require_object(&body)?;
            let mut deserializer = serde_json::Deserializer::from_slice(&body);
            serde_path_to_error::deserialize(&mut deserializer).map(Self).map_err(|error| {
                let misfit = problem(&error);
                match is_unknown_field(&misfit) {
                    true => Error::UnknownField(vec![misfit]),
                    false => Error::InvalidBody(vec![misfit]),
                }
            })
        };
        if is_short { parse() } else { app.agent_workers.run(limits::WORK_TIME, move |_| parse()).await? }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
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
/// `unsupported_media_type`; `malformed_json` with line and column; `invalid_body` with a pointer to each value that
/// does not fit, and to a value that no field may have; `unknown_field`.
pub(crate) fn parse<T: DeserializeOwned + Serialize>(headers: &HeaderMap, body: &[u8]) -> Result<Fitted<T>, Error> {
    require_json(headers)?;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Storable =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| match error.inner().is_data() {
            true => Error::InvalidBody(vec![problem(&error)]),
            false => Error::MalformedJson(error.inner().to_string()),
        })?;
    deserializer.end().map_err(|error| Error::MalformedJson(error.to_string()))?;
    require_object(body)?;
    fit(serde_json::from_slice(body).map_err(|error| Error::MalformedJson(error.to_string()))?)
}

/// serde would also accept an array of a struct's fields in their order.
fn require_object(body: &[u8]) -> Result<(), Error> {
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    if is_object { Ok(()) } else { Err(Error::invalid("", "the body must be a JSON object")) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use recipe::Problem;
    use serde::Deserialize;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Inner>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "a/b")]
        _number: u32,
    }

    fn parsed(body: &str) -> Result<Fitted<Outer>, Error> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        parse(&headers, body.as_bytes())
    }

    fn refused(body: &str) -> Error {
        parsed(body).unwrap_err()
    }

    fn pointers(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.pointer.as_str()).collect()
    }

    #[test]
    fn a_refusal_points_at_everything_that_is_wrong() {
        let Error::InvalidBody(problems) = refused(
            r#"{"inner": [{"a/b": "one"}, {"a/b": 1, "c": 2}, 3, {"a/b": 1, "d": 2}, {"a/b": -1}, {}], "e": 1}"#,
        ) else {
            panic!("another error")
        };
        let all = ["/e", "/inner/0/a~1b", "/inner/1/c", "/inner/2", "/inner/3/d", "/inner/4/a~1b", "/inner/5"];
        assert_eq!(pointers(&problems), all);
        assert!(problems.iter().all(|problem| !problem.message.contains("line")), "{problems:#?}");
        let Error::InvalidBody(missing) = refused("{}") else { panic!("another error") };
        assert!(pointers(&missing) == [""] && missing[0].message.contains("inner"), "{missing:#?}");
    }

    #[test]
    fn a_body_with_unknown_fields_alone_is_read_without_them() {
        let Fitted { value, unknown } = parsed(r#"{"inner": [{"a/b": 1}, {"a/b": 1, "c": 2}], "iner": 3}"#).unwrap();
        assert_eq!(value._inner.len(), 2);
        assert_eq!(pointers(&unknown), ["/iner", "/inner/1/c"]);
        assert!(unknown[0].message.ends_with("; did you mean \"inner\"?"), "{unknown:#?}");
    }

    #[test]
    fn a_field_twice_is_refused() {
        for body in [r#"{"inner": [], "inner": []}"#, r#"{"inner": [{"a/b": 1.0, "a/b": 2}]}"#] {
            let Error::InvalidBody(problems) = refused(body) else { panic!("another error") };
            assert!(problems[0].message.contains("duplicate"), "{problems:#?}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point_or_an_exponent() {
        for (number, read) in [("3.0", 3), ("1e5", 100_000), ("4", 4)] {
            let Fitted { value, unknown } = parsed(&format!(r#"{{"inner": [{{"a/b": {number}}}]}}"#)).unwrap();
            assert!(value._inner[0]._number == read && unknown.is_empty(), "{number}: {unknown:?}");
        }
        let Error::InvalidBody(problems) = refused(r#"{"inner": [{"a/b": 3.0}, {"a/b": 3.5}, {"a/b": -2.0}]}"#) else {
            panic!("another error")
        };
        assert_eq!(pointers(&problems), ["/inner/1/a~1b", "/inner/2/a~1b"]);
        assert!(matches!(refused(r#"{"inner": [{"a/b": 1e300}]}"#), Error::InvalidBody(_)));
    }

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        for body in ["", "{", "{\"inner\": 1, \"c\": [}", "{\"inner\": []} x", "\u{feff}{}", "{\"inner\": [}"] {
            assert!(matches!(refused(body), Error::MalformedJson(_)), "{body:?}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_stored_is_refused_where_it_stands() {
        let long = format!(r#"{{"inner": ["{}"]}}"#, "é".repeat(LONGEST_TEXT + 1));
        let large = r#"{"inner": [9223372036854775808]}"#;
        for (body, at) in [(r#"{"inner": [{"a": "x\u0000"}]}"#, "/inner/0/a"), (&long, "/inner/0"), (large, "/inner/0")]
        {
            assert!(matches!(refused(body), Error::InvalidBody(p) if p[0].pointer == at), "{body}");
        }
        let key = refused(r#"{"a\u0000": 1}"#);
        assert!(matches!(&key, Error::InvalidBody(p) if p[0].message.contains("NUL")), "{key:?}");
    }

    #[test]
    fn a_list_in_place_of_an_object_is_refused_where_it_stands() {
        let Error::InvalidBody(problems) = refused(r#"{"inner": [{"a/b": 1}, [2], [3.0]]}"#) else {
            panic!("another error")
        };
        assert_eq!(pointers(&problems), ["/inner/1", "/inner/2"]);
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in ["[[]]", "[]", "7", "null", "\"text\""] {
            assert!(matches!(refused(body), Error::InvalidBody(p) if p[0].pointer.is_empty()), "{body:?}");
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

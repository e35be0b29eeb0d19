//! JSON bodies. Reading is strict, and a refusal names the place with a JSON pointer.

use std::collections::HashSet;
use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use recipe::Problem;
use recipe::nearest::did_you_mean;
use recipe::problem::{MOST_PROBLEMS, pointer_token};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::app::App;
use crate::error::Error;
use crate::limits;
use scheduler::work::Workers;

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
            object(&body)?.map(Self).map_err(|misfit| match is_unknown_field(&misfit) {
                true => Error::UnknownField(vec![misfit]),
                false => Error::InvalidBody(vec![misfit]),
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

/// A body without the fields that nobody knows.
#[derive(Debug)]
pub(crate) struct Fitted<T> {
    pub(crate) value: T,
    /// A problem for each unknown field.
    pub(crate) unknown: Vec<Problem>,
}

/// Reads a JSON object from the bytes of a body.
///
/// # Errors
/// `unsupported_media_type`; `malformed_json` with line and column; `invalid_body` with a pointer to each value that
/// does not fit, and to a text that no field may have.
pub(crate) fn parse<T: DeserializeOwned + Serialize>(headers: &HeaderMap, body: &[u8]) -> Result<Fitted<T>, Error> {
    require_json(headers)?;
    // The body is checked as JSON first, so that a syntax error after an invalid field is still `malformed_json`.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Storable =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| match error.inner().is_data() {
            true => Error::InvalidBody(vec![problem(&error)]),
            false => Error::MalformedJson(error.inner().to_string()),
        })?;
    deserializer.end().map_err(|error| Error::MalformedJson(error.to_string()))?;
    let fitted = match object(body)? {
        Ok(value) => Fitted { value, unknown: Vec::new() },
        Err(misfit) => without_misfits(body, misfit)?,
    };
    let problems = lists_for_objects(body, &fitted.value)?;
    if problems.is_empty() { Ok(fitted) } else { Err(Error::InvalidBody(problems)) }
}

/// The places at which the body has a list and what was read from it an object: serde accepts the list of a struct's
/// fields in their order, which nobody means.
fn lists_for_objects(body: &[u8], read: &impl Serialize) -> Result<Vec<Problem>, Error> {
    let body = serde_json::from_slice(body).map_err(|error| Error::MalformedJson(error.to_string()))?;
    let mut problems = Vec::new();
    compare(&body, &serde_json::to_value(read).map_err(Error::internal)?, "", &mut problems);
    Ok(problems)
}

fn compare(body: &Value, read: &Value, at: &str, problems: &mut Vec<Problem>) {
    match (body, read) {
        (Value::Array(_), Value::Object(_)) => {
            problems
                .push(Problem { pointer: at.into(), message: "a list stands here, but an object is needed".into() });
        }
        (Value::Array(items), Value::Array(of)) => {
            let pairs = items.iter().zip(of).enumerate();
            pairs.for_each(|(place, (item, of))| compare(item, of, &format!("{at}/{place}"), problems));
        }
        (Value::Object(fields), Value::Object(of)) => {
            let pairs = fields.iter().filter_map(|(name, field)| Some((name, field, of.get(name)?)));
            pairs.for_each(|(name, field, of)| compare(field, of, &format!("{at}/{}", pointer_token(name)), problems));
        }
        _ => {}
    }
}

/// Reads an object from JSON that is well-formed, up to the first misfit.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Problem>, Error> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("", "the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Ok(serde_path_to_error::deserialize(&mut deserializer).map_err(|error| problem(&error)))
}

/// Reads an object from JSON of which serde has found the `first` misfit. serde stops at each, so the values that do
/// not fit are taken out one by one, until the rest fits or something is missing.
fn without_misfits<T: DeserializeOwned>(body: &[u8], first: Problem) -> Result<Fitted<T>, Error> {
    let mut document: Value = serde_json::from_slice(body).map_err(|error| Error::MalformedJson(error.to_string()))?;
    write_whole_numbers(&mut document);
    let mut taken = Taken::default();
    // A whole number may fit now.
    let mut found = (!first.message.starts_with(FRACTION)).then_some(first);
    let fitted = loop {
        if let Some(problem) = found
            && !(taken.take(&mut document, problem) && taken.problems.len() < MOST_PROBLEMS)
        {
            break None;
        }
        match serde_path_to_error::deserialize(&document) {
            Ok(value) => break Some(value),
            Err(error) => found = Some(problem(&error)),
        }
    };
    let only_unknown = taken.problems.iter().all(is_unknown_field);
    match fitted {
        Some(value) if only_unknown => Ok(Fitted { value, unknown: taken.problems }),
        _ if only_unknown => Err(Error::UnknownField(taken.problems)),
        _ => Err(Error::InvalidBody(taken.problems)),
    }
}

/// How serde's message about a number with a decimal point or an exponent starts, where a whole number is needed.
const FRACTION: &str = "invalid type: floating point `";

/// Whole numbers of a size below this one are exact in a double.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes 3.0 and 1e5 as 3 and 100000. JSON has one kind of number and JSON Schema calls these integers, but serde reads
/// no integer from them.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(write_whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < MOST_EXACT);
            if let (true, Some(whole)) = (number.is_f64(), whole) {
                *number = (whole as i64).into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// What was taken out of a document.
#[derive(Default)]
struct Taken {
    /// The reasons, each at its place in the whole document.
    problems: Vec<Problem>,
    /// The pointers into the whole document to the values that are gone.
    gone: HashSet<String>,
    /// The items that were taken from lists, each as the pointer to the list and the item's place at that time.
    items: Vec<(String, usize)>,
}

impl Taken {
    /// Takes the value at the pointer of `problem` out. Returns false if nothing can be taken out, so that serde would
    /// stop at the same place again.
    fn take(&mut self, document: &mut Value, mut problem: Problem) -> bool {
        let at = std::mem::take(&mut problem.pointer);
        let original = self.original(&at);
        let missing = problem.message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        // A field that was taken out is not missing, but its object cannot be read without it.
        if missing.is_none_or(|field| !self.gone.contains(&format!("{original}/{}", pointer_token(field)))) {
            self.problems.push(Problem { pointer: original.clone(), ..problem });
        }
        self.gone.insert(original);
        let Some((parent, token)) = at.rsplit_once('/') else { return false };
        match document.pointer_mut(parent) {
            Some(Value::Object(fields)) => fields.remove(&token.replace("~1", "/").replace("~0", "~")).is_some(),
            Some(Value::Array(items)) => match token.parse::<usize>() {
                Ok(place) if place < items.len() => {
                    items.remove(place);
                    self.items.push((parent.to_owned(), place));
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The pointer into the whole document of a pointer into what is left of it.
    fn original(&self, pointer: &str) -> String {
        self.items.iter().rev().fold(pointer.to_owned(), |pointer, (list, taken)| {
            let Some(rest) = pointer.strip_prefix(list.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
                return pointer;
            };
            let (token, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match token.parse::<usize>() {
                Ok(place) if place >= *taken => format!("{list}/{}{below}", place + 1),
                _ => pointer,
            }
        })
    }
}

/// Longest text of a body in characters: no path of Linux is longer.
pub(crate) const LONGEST_TEXT: usize = 4096;

/// Any JSON that can be stored: its texts are not longer than [`LONGEST_TEXT`] and contain no NUL, which Postgres does
/// not store; its integers have 64 bits with the sign, as Postgres has them; no object has a field twice.
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
        let length = text.chars().count();
        if length > LONGEST_TEXT {
            return Err(E::custom(format!("a text of {length} characters: at most {LONGEST_TEXT} are allowed")));
        }
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self, E> {
        match i64::try_from(number) {
            Ok(_) => Ok(self),
            Err(_) => Err(E::custom(format!("the number {number}: at most {} is allowed", i64::MAX))),
        }
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
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            Self.visit_str(&key)?;
            fields.next_value::<Self>()?;
            if let Some(twice) = keys.replace(key) {
                return Err(serde::de::Error::custom(format!("duplicate field `{twice}`: a field stands once")));
            }
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

/// How serde's message about an unknown field starts. It has no kind of error for this; a test holds the form.
const UNKNOWN_FIELD: &str = "unknown field `";

fn is_unknown_field(problem: &Problem) -> bool {
    problem.message.starts_with(UNKNOWN_FIELD)
}

fn problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (pointer, text) = (pointer(error.path()), error.inner().to_string());
    let message = with_nearest(without_position(&text));
    match message.strip_prefix(UNKNOWN_FIELD).and_then(|rest| rest.split('`').next()) {
        Some(field) => Problem { pointer: ending_in(&pointer, field), message },
        None => Problem { pointer, message },
    }
}

/// Adds to a message about an unknown name which of the names that it lists may be meant.
fn with_nearest(message: String) -> String {
    if !message.starts_with(UNKNOWN_FIELD) && !message.starts_with("unknown variant `") {
        return message;
    }
    // Every second piece stands between backticks. The first of them is the unknown name, the others are the known ones.
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let hint = did_you_mean(unknown, names);
    message + &hint
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
        let all = ["/inner/0/a~1b", "/e", "/inner/1/c", "/inner/2", "/inner/3/d", "/inner/4/a~1b", "/inner/5"];
        assert_eq!(pointers(&problems), all);
        assert!(problems.iter().all(|problem| !problem.message.contains("line")), "{problems:#?}");
        let Error::InvalidBody(missing) = refused("{}") else { panic!("another error") };
        assert!(pointers(&missing) == [""] && missing[0].message.contains("inner"), "{missing:#?}");
    }

    #[test]
    fn items_that_do_not_fit_keep_their_places() {
        #[derive(Debug, Deserialize)]
        struct Lists {
            #[serde(rename = "lists")]
            _lists: Vec<Vec<u8>>,
        }
        let body = br#"{"lists": [[1, "a", 2, "b"], "c", [3], ["d", 4, 5, -1]]}"#;
        let misfit = object::<Lists>(body).unwrap().unwrap_err();
        let Error::InvalidBody(problems) = without_misfits::<Lists>(body, misfit).unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(pointers(&problems), ["/lists/0/1", "/lists/0/3", "/lists/1", "/lists/3/0", "/lists/3/3"]);
    }

    #[test]
    fn a_body_with_unknown_fields_alone_is_read_without_them() {
        let Fitted { value, unknown } = parsed(r#"{"inner": [{"a/b": 1}, {"a/b": 1, "c": 2}], "iner": 3}"#).unwrap();
        assert_eq!(value._inner.len(), 2);
        assert_eq!(pointers(&unknown), ["/inner/1/c", "/iner"]);
        assert!(unknown[1].message.ends_with("; did you mean \"inner\"?"), "{unknown:#?}");
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

//! serde's error about a value that does not fit, as a problem with its place.

use recipe::Problem;
use recipe::nearest::did_you_mean;
use recipe::problem::pointer_token;
use serde_path_to_error::{Path, Segment};

/// How serde's message about an unknown field starts. It has no kind of error for this; a test holds the form.
const UNKNOWN_FIELD: &str = "unknown field `";

pub(super) fn is_unknown_field(problem: &Problem) -> bool {
    problem.message.starts_with(UNKNOWN_FIELD)
}

pub(super) fn problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
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

//! Reading a document as a type, with everything that does not fit.

use std::collections::HashSet;

use recipe::Problem;
use recipe::problem::{MOST_PROBLEMS, pointer_token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::misfit::{is_unknown_field, problem};
use crate::error::Error;

/// A body without the fields that nobody knows.
#[derive(Debug)]
pub(crate) struct Fitted<T> {
    pub(crate) value: T,
    /// A problem for each unknown field.
    pub(crate) unknown: Vec<Problem>,
}

/// Reads a document. serde stops at each value that does not fit, so these are taken out one by one, until the rest fits
/// or something is missing.
///
/// # Errors
/// `unknown_field` if the document lacks something beside its unknown fields; `invalid_body` with a pointer to each value
/// that does not fit.
pub(super) fn fit<T: DeserializeOwned + Serialize>(mut document: Value) -> Result<Fitted<T>, Error> {
    write_whole_numbers(&mut document);
    let mut taken = Taken::default();
    let value: Option<T> = loop {
        match serde_path_to_error::deserialize(&document) {
            Ok(value) => break Some(value),
            Err(error) => {
                let may_go_on = taken.take(&mut document, problem(&error)) && taken.problems.len() < MOST_PROBLEMS;
                if !may_go_on {
                    break None;
                }
            }
        }
    };
    let only_unknown = taken.problems.iter().all(is_unknown_field);
    let Some(value) = value.filter(|_| only_unknown) else {
        return Err(if only_unknown {
            Error::UnknownField(taken.problems)
        } else {
            Error::InvalidBody(taken.problems)
        });
    };
    let read = serde_json::to_value(&value).map_err(Error::internal)?;
    let mut lists = Vec::new();
    lists_for_objects(&document, &read, "", &mut lists);
    if lists.is_empty() {
        return Ok(Fitted { value, unknown: taken.problems });
    }
    let placed = lists.into_iter().map(|list| Problem { pointer: taken.original(&list.pointer), ..list });
    Err(Error::InvalidBody(placed.collect()))
}

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

/// Notes the places at which the document has a list and what was read from it an object: serde accepts the list of a
/// struct's fields in their order, which nobody means.
fn lists_for_objects(document: &Value, read: &Value, at: &str, problems: &mut Vec<Problem>) {
    match (document, read) {
        (Value::Array(_), Value::Object(_)) => {
            problems
                .push(Problem { pointer: at.into(), message: "a list stands here, but an object is needed".into() });
        }
        (Value::Array(items), Value::Array(of)) => {
            let pairs = items.iter().zip(of).enumerate();
            pairs.for_each(|(place, (item, of))| lists_for_objects(item, of, &format!("{at}/{place}"), problems));
        }
        (Value::Object(fields), Value::Object(of)) => {
            let pairs = fields.iter().filter_map(|(name, field)| Some((name, field, of.get(name)?)));
            pairs.for_each(|(name, field, of)| {
                lists_for_objects(field, of, &format!("{at}/{}", pointer_token(name)), problems)
            });
        }
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[test]
    fn items_that_do_not_fit_keep_their_places() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Lists {
            lists: Vec<Vec<u8>>,
        }
        let document = json!({"lists": [[1, "a", 2, "b"], "c", [3], ["d", 4, 5, -1]]});
        let Error::InvalidBody(problems) = fit::<Lists>(document).unwrap_err() else { panic!("another error") };
        let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/lists/0/1", "/lists/0/3", "/lists/1", "/lists/3/0", "/lists/3/3"]);
    }
}

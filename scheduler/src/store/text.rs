//! Text from trainers, made fit for Postgres.

use serde_json::Value;

/// `text` without NUL, which Postgres does not store.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// `value` without NUL in any of its texts.
pub(super) fn storable_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = storable(text),
        Value::Array(items) => items.iter_mut().for_each(storable_json),
        Value::Object(fields) => fields.values_mut().for_each(storable_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

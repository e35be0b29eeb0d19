//! The parts of the OpenAPI document that do not follow from the routes.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// The part of the document that does not follow from the routes.
#[derive(OpenApi)]
#[openapi(info(title = "Lamina", description = "Compares ways to train Transformers. Errors are RFC 9457 problems."))]
pub(crate) struct Preamble;

/// The document as it is served: with the bearer token, and with every field of an answer required that the server
/// always writes. utoipa takes a field that may be null for one that may be missing; that is right for a request only.
pub(crate) fn finished(mut document: utoipa::openapi::OpenApi) -> Result<Value> {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    let mut document = serde_json::to_value(document).context("the OpenAPI document cannot be written as JSON")?;
    let requests = schemas_of_requests(&document);
    let schemas = document.pointer_mut(SCHEMAS).and_then(Value::as_object_mut).into_iter().flatten();
    schemas.filter(|(name, _)| !requests.contains(*name)).for_each(|(_, schema)| require_written_fields(schema));
    Ok(document)
}

const SCHEMAS: &str = "/components/schemas";

/// Names of the schemas that the body of a request can contain.
fn schemas_of_requests(document: &Value) -> BTreeSet<String> {
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let mut waiting: Vec<String> =
        operations.flat_map(Map::values).flat_map(|operation| references(&operation["requestBody"])).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if found.insert(name.clone()) {
            waiting.extend(document.pointer(&format!("{SCHEMAS}/{name}")).map(references).unwrap_or_default());
        }
    }
    found
}

/// Names of the schemas that `value` refers to.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next());
            own.map(str::to_owned).into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Requires each property that may be null or has a default, at every level: serde writes both. A field that serde
/// leaves out (`skip_serializing_if`) stays optional; where its type is an `Option`, it needs `#[schema(nullable =
/// false)]`.
fn require_written_fields(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
            let is_written = |property: &Value| may_be_null(property) || property.get("default").is_some();
            let written: BTreeSet<String> =
                properties.filter(|(_, property)| is_written(property)).map(|(name, _)| name.clone()).collect();
            if !written.is_empty()
                && let Value::Array(required) = fields.entry("required").or_insert_with(|| Value::Array(Vec::new()))
            {
                let listed: BTreeSet<String> = required.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                required.extend(written.difference(&listed).cloned().map(Value::String));
            }
            fields.values_mut().for_each(require_written_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(require_written_fields),
        _ => {}
    }
}

fn may_be_null(property: &Value) -> bool {
    let is_null = |schema: &Value| schema == "null" || schema["type"] == "null";
    ["type", "oneOf"].iter().any(|key| property[*key].as_array().is_some_and(|kinds| kinds.iter().any(is_null)))
}

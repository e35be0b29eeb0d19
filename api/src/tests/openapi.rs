//! The document says what the service does.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::server::Server;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| crate::router::document().unwrap());

/// Checks that an answer to `GET uri` is of the form that the document promises. Every `GET` of these tests calls it.
#[track_caller]
pub(super) fn check_answer(uri: &str, body: &Value) {
    let path: Vec<&str> = uri.split('?').next().unwrap().split('/').collect();
    let is_template_of = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == path.len()
            && parts
                .iter()
                .zip(&path)
                .all(|(part, given)| part == given || (part.starts_with('{') && part.ends_with('}')))
    };
    let (_, item) = DOCUMENT["paths"].as_object().unwrap().iter().find(|(path, _)| is_template_of(path)).unwrap();
    let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    if let Some(fault) = fault(schema, body) {
        panic!("GET {uri} does not answer as the document says: {fault} in {body:#}");
    }
}

/// What contradicts `schema` in `value`, of the keywords that the document uses.
fn fault(schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fault(DOCUMENT.pointer(reference.strip_prefix('#').unwrap()).unwrap(), value);
    }
    let list = |key: &str| schema[key].as_array().into_iter().flatten();
    if let Some(found) = list("allOf").find_map(|part| fault(part, value)) {
        return Some(found);
    }
    if list("oneOf").count() > 0 && list("oneOf").all(|choice| fault(choice, value).is_some()) {
        return Some(format!("{value} is none of {}", schema["oneOf"]));
    }
    let is_of = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        kind => panic!("the type {kind} is not known here"),
    };
    let kinds = if schema["type"].is_string() { vec![&schema["type"]] } else { list("type").collect() };
    if !kinds.is_empty() && !kinds.into_iter().any(is_of) {
        return Some(format!("{value} is no {}", schema["type"]));
    }
    if list("enum").count() > 0 && !list("enum").any(|allowed| allowed == value) {
        return Some(format!("{value} is none of {}", schema["enum"]));
    }
    let missing = list("required").find(|name| value.is_object() && value.get(name.as_str().unwrap()).is_none());
    if let Some(name) = missing {
        return Some(format!("{name} is missing"));
    }
    let within = |(name, value): (&String, &Value)| {
        let property = &schema["properties"][name];
        let schema = if property.is_null() { &schema["additionalProperties"] } else { property };
        fault(schema, value).map(|found| format!("{name}: {found}"))
    };
    let field = value.as_object().into_iter().flatten().find_map(within);
    let items = value.as_array().into_iter().flatten();
    field.or_else(|| items.filter_map(|item| fault(&schema["items"], item)).next())
}

#[test]
fn the_committed_document_is_up_to_date() {
    let committed: Value = serde_json::from_str(include_str!("../../dashboard/openapi.json")).unwrap();
    assert!(committed == *DOCUMENT, "api/dashboard/openapi.json is out of date: run `make types`");
}

#[test]
fn a_field_that_is_null_at_times_is_optional_in_requests_alone() {
    let required = |schema: &str| -> Vec<&str> {
        let names = DOCUMENT["components"]["schemas"][schema]["required"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap()).collect()
    };
    assert!(required("TrialView").contains(&"waiting"));
    assert!(required("Report").contains(&"speed") && !required("Report").contains(&"effects"));
    assert!(!required("PretrainArm").contains(&"validation_accuracy"), "it is left out where there is none");
    assert_eq!(required("JobSpec"), ["name", "arms"]);
}

const OPERATIONS: [&str; 30] = [
    "delete /nodes/{id}",
    "delete /tokens/{id}",
    "get /artifacts/{sha256}",
    "get /datasets",
    "get /healthz",
    "get /jobs",
    "get /jobs/{id}",
    "get /jobs/{id}/curves",
    "get /jobs/{id}/events",
    "get /jobs/{id}/report",
    "get /jobs/{id}/submission.zip",
    "get /jobs/{id}/trials",
    "get /metrics",
    "get /nodes",
    "get /openapi.json",
    "get /readyz",
    "get /tokens",
    "get /trials/{id}",
    "get /trials/{id}/checkpoint",
    "get /trials/{id}/checkpoint.tar",
    "get /trials/{id}/logs",
    "head /artifacts/{sha256}",
    "post /agents/sync",
    "post /datasets",
    "post /jobs",
    "post /jobs/{id}/cancel",
    "post /nodes/{id}/drain",
    "post /nodes/{id}/resume",
    "post /tokens",
    "put /artifacts/{sha256}",
];

#[tokio::test]
async fn every_route_is_in_the_document_that_is_served() {
    let document = Server::start().await.get("/openapi.json").await.json();
    assert!(document == *DOCUMENT);
    let paths = document["paths"].as_object().unwrap();
    let listed: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    let expected: BTreeSet<String> = OPERATIONS.iter().map(|operation| (*operation).to_owned()).collect();
    assert_eq!(listed, expected);
}

#[test]
fn each_operation_has_a_name_of_its_own_and_each_report_its_schema() {
    let items = DOCUMENT["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let names: Vec<&str> = items.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    let schemas = &DOCUMENT["components"]["schemas"];
    assert!(schemas["Report"]["properties"]["glue"].is_object(), "a job's report");
    assert!(schemas["TrialReport"].is_object(), "a trial's report");
}

#[test]
fn every_response_is_described_and_every_operation_names_its_refusals() {
    let items = DOCUMENT["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    for operation in items {
        let responses = operation["responses"].as_object().unwrap();
        let undescribed =
            responses.iter().find(|(_, response)| response["description"].as_str().unwrap_or("").is_empty());
        assert_eq!(undescribed, None, "{}", operation["operationId"]);
        let guarded = operation["security"].is_array();
        for (status, expected) in [("400", true), ("401", guarded), ("403", guarded), ("500", true), ("503", true)] {
            assert_eq!(responses.contains_key(status), expected, "{} {status}", operation["operationId"]);
        }
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let mut references = BTreeSet::new();
    collect(&DOCUMENT, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(DOCUMENT.pointer(pointer).is_some(), "{reference} is not there");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(|reference| reference.as_str()).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

//! The document says what the service does.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::server::Server;
use crate::code::Code;

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
    if let Err(faults) = conforms(schema, body) {
        panic!("GET {uri} does not answer as the document says: {faults} in {body:#}");
    }
}

/// Fails with what contradicts `schema` in `value`.
fn conforms(schema: &Value, value: &Value) -> Result<(), String> {
    // The references of the schema lead to the components of the document.
    let schema = json!({"allOf": [schema], "components": DOCUMENT["components"]});
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// The specification's own schema: <https://spec.openapis.org/oas/3.1/schema/2022-10-07>.
#[test]
fn the_document_is_valid_openapi_3_1() {
    let specification: Value = serde_json::from_str(include_str!("openapi/oas-3.1.json")).unwrap();
    let validator = jsonschema::draft202012::new(&specification).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(&DOCUMENT).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        let valid = jsonschema::draft202012::meta::validate(schema);
        assert!(valid.is_ok(), "the schema {name} is not valid: {}", valid.unwrap_err());
    }
}

fn operations() -> impl Iterator<Item = &'static Value> {
    DOCUMENT["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
}

fn operation(name: &str) -> &'static Value {
    operations().find(|operation| operation["operationId"] == name).unwrap_or_else(|| panic!("no operation {name}"))
}

#[test]
fn every_body_that_a_person_writes_has_an_example_that_fits() {
    let mut examples = 0;
    for operation in operations() {
        let Some(body) = operation.pointer("/requestBody/content/application~1json") else { continue };
        if operation["operationId"] == "sync" {
            continue; // Agents write it.
        }
        let example = body.get("example").unwrap_or_else(|| panic!("no example: {operation:#}"));
        conforms(&body["schema"], example).unwrap();
        examples += 1;
    }
    assert_eq!(examples, 3);
    let job = operation("submit_job").pointer("/requestBody/content/application~1json/example").unwrap();
    serde_json::from_value::<scheduler::job::JobSpec>(job.clone()).unwrap();
}

#[test]
fn links_lead_to_operations_that_have_the_parameter() {
    let mut links = 0;
    for answering in operations() {
        for response in answering["responses"].as_object().unwrap().values() {
            for (name, link) in response.get("links").and_then(Value::as_object).into_iter().flatten() {
                let next = operation(link["operationId"].as_str().unwrap());
                for parameter in link["parameters"].as_object().unwrap().keys() {
                    let parameters = next["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|known| known["name"] == *parameter), "{name} has no {parameter}");
                }
                assert!(response["description"].is_string(), "a link of a response that nothing else describes");
                links += 1;
            }
        }
    }
    assert!(links > 15, "{links}");
}

#[test]
fn the_codes_of_errors_are_listed_with_their_status() {
    let schema = &DOCUMENT["components"]["schemas"]["Code"];
    assert_eq!(schema["enum"], json!(Code::ALL.map(Code::name)));
    let description = schema["description"].as_str().unwrap();
    for code in Code::ALL {
        assert!(description.contains(&format!("{} `{}`", code.status().as_u16(), code.name())), "{description}");
    }
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

const OPERATIONS: [&str; 31] = [
    "delete /nodes/{id}",
    "delete /tokens/{id}",
    "get /artifacts/{sha256}",
    "get /datasets",
    "get /healthz",
    "get /jobs",
    "get /jobs/{id}",
    "get /jobs/{id}/curves",
    "get /jobs/{id}/events",
    "get /jobs/{id}/evidence.zip",
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

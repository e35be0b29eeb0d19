//! The document says what the service does.

use std::collections::BTreeSet;

use super::server::Server;

const OPERATIONS: [&str; 25] = [
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
    "get /trials/{id}/logs",
    "head /artifacts/{sha256}",
    "post /agents/sync",
    "post /datasets",
    "post /jobs",
    "post /jobs/{id}/cancel",
    "post /tokens",
    "put /artifacts/{sha256}",
];

#[tokio::test]
async fn every_route_is_in_the_document() {
    let document = Server::start().await.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let listed: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    let expected: BTreeSet<String> = OPERATIONS.iter().map(|operation| (*operation).to_owned()).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn each_operation_has_a_name_of_its_own_and_each_report_its_schema() {
    let document = Server::start().await.get("/openapi.json").await.json();
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let names: Vec<&str> = items.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    let schemas = &document["components"]["schemas"];
    assert!(schemas["Report"]["properties"]["glue"].is_object(), "a job's report");
    assert!(schemas["TrialReport"].is_object(), "a trial's report");
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere() {
    let document = Server::start().await.get("/openapi.json").await.json();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
}

fn collect(value: &serde_json::Value, references: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(|reference| reference.as_str()).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

//! The parts of the OpenAPI document that do not follow from the routes.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use protocol::sync;
use recipe::{Finetune, Growth, Pretrain, Probe, Task, Timing};
use scheduler::job::limits::{LONGEST_NAME, MOST_ARMS, MOST_KEEPS, MOST_LEARNING_RATES, MOST_SEEDS};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::admission::LONGEST_PARAMETER;
use crate::body::LONGEST_TEXT;
use crate::code::Code;
use crate::idempotency;
use crate::page::{self, Cursor};
use crate::routes::{datasets, events, tokens, trials};

/// The part of the document that does not follow from the routes, with the schemas that no route has as its body.
#[derive(OpenApi)]
#[openapi(
    info(title = "Lamina", description = "Compares ways to train Transformers. Errors are RFC 9457 problems."),
    components(schemas(events::JobProgress))
)]
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
    for (property, keyword, bound) in bounds() {
        let property = document.pointer_mut(&format!("{SCHEMAS}/{property}")).and_then(Value::as_object_mut);
        property.context("a bound of a property that the document does not have")?.insert(keyword.into(), bound.into());
    }
    for (property, longest, pattern) in NAMES {
        let property = document.pointer_mut(&format!("{SCHEMAS}/{property}")).and_then(Value::as_object_mut);
        let property = property.context("a name that the document does not have")?;
        property.extend([
            ("minLength".to_owned(), 1.into()),
            ("maxLength".to_owned(), longest.into()),
            ("pattern".to_owned(), pattern.into()),
        ]);
    }
    describe_stream(&mut document)?;
    bound_texts(&mut document, &requests);
    state_unsigned(&mut document);
    list_codes(&mut document)?;
    operations(&mut document).for_each(|operation| {
        bound_parameters(operation);
        describe_responses(operation);
        add_links(operation);
        add_examples(operation);
    });
    Ok(document)
}

/// A text that has more than white space, and no control characters.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// A text that Postgres can store.
const WITHOUT_NUL: &str = r"^[^\u0000]*$";
/// A text without control characters.
const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The texts that become names, each with the number of characters that it may have and its pattern.
const NAMES: [(&str, usize, &str); 9] = [
    ("JobSpec/properties/name", LONGEST_NAME, NAME),
    ("JobSpec/properties/corpus", LONGEST_NAME, NAME),
    ("ArmSpec/properties/name", LONGEST_NAME, NAME),
    ("GlueSpec/properties/dataset", LONGEST_NAME, NAME),
    ("VocabularyChoice/oneOf/0", LONGEST_NAME, NAME),
    ("NewToken/properties/name", tokens::LONGEST_NAME, NAME),
    ("Registration/properties/name", datasets::LONGEST_NAME, "^[A-Za-z0-9._-]*$"),
    ("NodeFacts/properties/name", sync::LONGEST_TEXT, PRINTABLE),
    ("SlotFacts/properties/device", sync::LONGEST_TEXT, PRINTABLE),
];

/// The bounds of what a body may contain, each from the constant that the check of it reads. Counts and lengths that
/// are not here have no bound of their own but the size of the body.
fn bounds() -> Vec<(&'static str, &'static str, u64)> {
    let steps = u64::from(Timing::MOST_STEPS_PER_TURN);
    let batch = u64::from(recipe::MOST_SEQUENCES_OF_A_BATCH);
    vec![
        ("JobSpec/properties/baseline", "maxLength", LONGEST_NAME as u64),
        ("JobSpec/properties/arms", "minItems", 1),
        ("JobSpec/properties/arms", "maxItems", MOST_ARMS as u64),
        ("ArmSpec/properties/checkpoint", "maxLength", LONGEST_NAME as u64),
        ("Match/properties/arm", "maxLength", LONGEST_NAME as u64),
        ("Growth/properties/stages", "maxItems", Growth::MOST_STAGES as u64),
        ("PretrainSpec/properties/seeds", "minimum", 1),
        ("PretrainSpec/properties/seeds", "maximum", MOST_SEEDS.into()),
        ("PretrainSpec/properties/steps", "minimum", 1),
        ("PretrainSpec/properties/steps", "maximum", recipe::MOST_STEPS),
        ("PretrainSpec/properties/validate_every", "minimum", 1),
        ("PretrainSpec/properties/validate_every", "maximum", recipe::MOST_STEPS),
        ("PretrainSpec/properties/validation_sequences", "minimum", 1),
        ("PretrainSpec/properties/validation_sequences", "maximum", Pretrain::MOST_VALIDATION_SEQUENCES.into()),
        ("PretrainSpec/properties/batch", "minimum", 1),
        ("PretrainSpec/properties/batch", "maximum", batch),
        ("GlueSpec/properties/tasks", "minItems", 1),
        ("GlueSpec/properties/tasks", "maxItems", Task::ALL.len() as u64),
        ("GlueSpec/properties/learning_rates", "minItems", 1),
        ("GlueSpec/properties/learning_rates", "maxItems", MOST_LEARNING_RATES as u64),
        ("KeepChoice/oneOf/1", "minItems", 1),
        ("KeepChoice/oneOf/1", "maxItems", MOST_KEEPS as u64),
        ("GlueSpec/properties/seeds", "minimum", 1),
        ("GlueSpec/properties/seeds", "maximum", MOST_SEEDS.into()),
        ("GlueSpec/properties/epochs", "minimum", 1),
        ("GlueSpec/properties/epochs", "maximum", Finetune::MOST_EPOCHS.into()),
        ("GlueSpec/properties/batch", "minimum", 1),
        ("GlueSpec/properties/batch", "maximum", batch),
        ("TimingSpec/properties/rounds", "minimum", 1),
        ("TimingSpec/properties/rounds", "maximum", Timing::MOST_ROUNDS.into()),
        ("TimingSpec/properties/steps_per_turn", "minimum", 1),
        ("TimingSpec/properties/steps_per_turn", "maximum", steps),
        ("TimingSpec/properties/warmup_steps", "maximum", steps),
        ("ProbeSpec/properties/sequences", "minimum", 1),
        ("ProbeSpec/properties/sequences", "maximum", Probe::MOST_SEQUENCES.into()),
        ("ProbeSpec/properties/shuffles", "maximum", Probe::MOST_SHUFFLES.into()),
        ("SyncRequest/properties/attempts", "maxItems", sync::MOST_ATTEMPTS as u64),
        ("AttemptReport/properties/events", "maxItems", sync::MOST_EVENTS as u64),
        ("AttemptReport/properties/log", "maxItems", sync::MOST_EVENTS as u64),
        ("NodeFacts/properties/labels", "maxProperties", sync::MOST_LABELS as u64),
        ("NodeFacts/properties/labels/additionalProperties", "maxLength", sync::LONGEST_TEXT as u64),
        ("NodeFacts/properties/slots", "maxItems", sync::MOST_SLOTS as u64),
        ("SlotFacts/properties/index", "maximum", sync::LARGEST_NUMBER.into()),
        ("SlotFacts/properties/threads", "maximum", sync::LARGEST_NUMBER.into()),
        ("SlotFacts/properties/model", "maxLength", sync::LONGEST_TEXT as u64),
    ]
}

/// States the format and the maximum of unsigned numbers of 32 bits, for which utoipa writes the format of signed ones.
fn state_unsigned(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_unsigned = fields.get("minimum").and_then(Value::as_f64).is_some_and(|minimum| minimum >= 0.0);
            if is_unsigned && fields.get("format").is_some_and(|format| format == "int32") {
                fields.insert("format".into(), "uint32".into());
                fields.entry("maximum").or_insert(u32::MAX.into());
            }
            fields.values_mut().for_each(state_unsigned);
        }
        Value::Array(items) => items.iter_mut().for_each(state_unsigned),
        _ => {}
    }
}

/// The schemas that only agents send, whose texts are those of trainers.
const OF_AGENTS: &str = "SyncRequest";

/// States the general bound of a text on the properties that have none of their own.
fn bound_texts(document: &mut Value, requests: &BTreeSet<String>) {
    let of_agents = reached(document, vec![OF_AGENTS.to_owned()]);
    let schemas = document.pointer_mut(SCHEMAS).and_then(Value::as_object_mut).into_iter().flatten();
    for (_, schema) in schemas.filter(|(name, _)| requests.contains(*name) && !of_agents.contains(*name)) {
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
        for (_, property) in properties {
            let Some(property) = property.as_object_mut() else { continue };
            let is_text =
                |kind: &Value| kind == "string" || kind.as_array().is_some_and(|all| all.contains(&"string".into()));
            if property.get("type").is_some_and(is_text) && !property.contains_key("format") {
                property.entry("maxLength").or_insert(LONGEST_TEXT.into());
                property.entry("pattern").or_insert(WITHOUT_NUL.into());
            }
        }
    }
}

/// Lists the codes of errors with their statuses, which the schema of the enum has no place for.
fn list_codes(document: &mut Value) -> Result<()> {
    let mut codes = Code::ALL;
    codes.sort_by_key(|code| code.status());
    let listed: Vec<String> =
        codes.iter().map(|code| format!("{} `{}`", code.status().as_u16(), code.name())).collect();
    let schema = document.pointer_mut(&format!("{SCHEMAS}/Code")).context("the document has no codes of errors")?;
    let description = format!("{}\n\n{}", schema["description"].as_str().unwrap_or_default(), listed.join(", "));
    schema["description"] = description.trim().into();
    Ok(())
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    items.filter_map(Value::as_object_mut).flat_map(Map::values_mut).filter_map(Value::as_object_mut)
}

/// States the bounds of the parameters, which have the same meaning on every route.
fn bound_parameters(operation: &mut Map<String, Value>) {
    let cursors = match operation["operationId"].as_str() {
        Some("list_jobs") => Cursor::pattern(Cursor::Job),
        Some("list_job_trials") => Cursor::pattern(Cursor::Trial),
        _ => Cursor::pattern(Cursor::Node),
    };
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten();
    for parameter in parameters {
        without_null(&mut parameter["schema"]);
        let is_text = parameter["schema"]["type"] == "string" && parameter["schema"]["enum"].is_null();
        let bounds = match parameter["name"].as_str() {
            Some("limit") => json!({"minimum": 1, "maximum": page::LARGEST_LIMIT}),
            Some("points") => json!({"minimum": 1, "maximum": trials::MOST_POINTS}),
            Some("cursor") => json!({"pattern": cursors}),
            Some("sha256") => json!({"pattern": "^[0-9a-f]{64}$"}),
            Some("Last-Event-ID") => json!({"minimum": 0}),
            Some("Idempotency-Key") => {
                json!({"minLength": 1, "maxLength": idempotency::LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$"})
            }
            _ if is_text && parameter["in"] == "query" => {
                json!({"maxLength": LONGEST_PARAMETER, "pattern": WITHOUT_NUL})
            }
            _ => json!({}),
        };
        if let (Some(schema), Value::Object(bounds)) = (parameter["schema"].as_object_mut(), bounds) {
            schema.extend(bounds);
        }
    }
}

/// Takes out that a parameter may be null, which utoipa writes for one that may be absent.
fn without_null(schema: &mut Value) {
    for keyword in ["type", "oneOf"] {
        let Some(kinds) = schema.get_mut(keyword).and_then(Value::as_array_mut) else { continue };
        kinds.retain(|kind| kind != "null" && kind["type"] != "null");
        if kinds.len() == 1 {
            let only = kinds.remove(0);
            if let (Some(schema), true) = (schema.as_object_mut(), keyword == "oneOf") {
                schema.remove(keyword);
                schema.extend(only.as_object().cloned().unwrap_or_default());
            } else {
                schema[keyword] = only;
            }
        }
    }
}

/// Describes one message of the stream of events. OpenAPI 3.1 has no words for a stream, so the schema is that of one
/// message, as the programs that test the document read it.
fn describe_stream(document: &mut Value) -> Result<()> {
    let stream = "/paths/~1jobs~1{id}~1events/get/responses/200/content/text~1event-stream/schema";
    let schema = document.pointer_mut(stream).context("the document has no stream of events")?;
    let row = schema.take();
    let progress = json!({"$ref": "#/components/schemas/JobProgress"});
    *schema = json!({
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "id": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "The number of the event; `progress` has none."},
            "event": {"type": "string", "description": "`progress`, or the kind of the event."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"oneOf": [row, progress]}
            }
        }
    });
    Ok(())
}

/// Adds the refusals that any operation may give, and the description that every response must have.
fn describe_responses(operation: &mut Map<String, Value>) {
    let needs_token = operation.contains_key("security");
    let has_body = operation.contains_key("requestBody");
    let has_json = operation.get("requestBody").is_some_and(|body| !body["content"]["application/json"].is_null());
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, description) in [
        ("400", true.then_some("A parameter or the body cannot be read, or the route has no such parameter")),
        ("401", needs_token.then_some("There is no token, or it is unknown, has expired or was revoked")),
        ("403", needs_token.then_some("The token's scope does not allow this")),
        ("408", has_body.then_some("The body did not arrive in time")),
        ("413", has_body.then_some("The body is longer than this route allows")),
        ("415", has_body.then_some("The body has another media type")),
        ("422", has_json.then_some("The body has values that are not allowed")),
        ("429", needs_token.then_some("Too many wrong tokens came from this address")),
        ("500", Some("A fault of the server, whose log has the cause")),
        ("503", Some("The server has as much to do as it can; try again after `Retry-After`")),
    ] {
        let Some(description) = description else { continue };
        let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}});
        responses.entry(status).or_insert_with(|| json!({"description": description, "content": problem}));
    }
    for (status, response) in responses {
        let is_described = response["description"].as_str().is_some_and(|text| !text.is_empty());
        let reason = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok()?.canonical_reason());
        if let (false, Some(reason)) = (is_described, reason) {
            response["description"] = reason.into();
        }
    }
}

/// An operation, the status of its answer, an operation that may follow, a parameter of that one, and the place of the
/// parameter's value in the first request or its answer.
type Link = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const LINKS: [Link; 24] = [
    ("submit_job", "201", "get_job", "id", "$response.body#/id"),
    ("submit_job", "201", "cancel_job", "id", "$response.body#/id"),
    ("submit_job", "201", "list_job_trials", "id", "$response.body#/id"),
    ("submit_job", "201", "get_job_curves", "id", "$response.body#/id"),
    ("submit_job", "201", "get_job_report", "id", "$response.body#/id"),
    ("submit_job", "201", "stream_job_events", "id", "$response.body#/id"),
    ("submit_job", "201", "get_job_submission", "id", "$response.body#/id"),
    ("submit_job", "201", "get_job_evidence", "id", "$response.body#/id"),
    ("list_jobs", "200", "get_job", "id", "$response.body#/items/0/id"),
    ("list_jobs", "200", "list_jobs", "cursor", "$response.body#/next"),
    ("list_job_trials", "200", "get_trial", "id", "$response.body#/items/0/id"),
    ("list_job_trials", "200", "get_trial_logs", "id", "$response.body#/items/0/id"),
    ("list_job_trials", "200", "list_job_trials", "cursor", "$response.body#/next"),
    ("get_trial", "200", "get_trial_logs", "id", "$response.body#/id"),
    ("get_trial", "200", "get_job", "id", "$response.body#/job"),
    ("get_trial", "200", "get_trial_checkpoint", "id", "$response.body#/id"),
    ("get_trial_checkpoint", "200", "get_trial_checkpoint_archive", "id", "$request.path.id"),
    ("list_nodes", "200", "drain_node", "id", "$response.body#/items/0/id"),
    ("list_nodes", "200", "delete_node", "id", "$response.body#/items/0/id"),
    ("drain_node", "204", "resume_node", "id", "$request.path.id"),
    ("drain_node", "204", "delete_node", "id", "$request.path.id"),
    ("create_token", "201", "revoke_token", "id", "$response.body#/id"),
    ("list_tokens", "200", "revoke_token", "id", "$response.body#/items/0/id"),
    ("put_artifact", "204", "get_artifact", "sha256", "$request.path.sha256"),
];

fn add_links(operation: &mut Map<String, Value>) {
    let name = operation["operationId"].clone();
    for (_, status, next, parameter, value) in LINKS.iter().filter(|(from, ..)| name == *from) {
        let link = json!({"operationId": next, "parameters": {*parameter: value}});
        operation["responses"][*status]["links"][*next] = link;
    }
}

/// A body for each operation that a person writes one for.
fn add_examples(operation: &mut Map<String, Value>) {
    let example = match operation["operationId"].as_str() {
        Some("submit_job") => json!({
            "name": "pld on generated text",
            "corpus": "generated-text",
            "vocabulary": "generated-words",
            "model": {"blocks": 4, "hidden": 64, "heads": 2, "intermediate": 256},
            "pretrain": {"steps": 200, "batch": 16, "length": 32, "learning_rate": {"peak": 1e-3}},
            "arms": [
                {"name": "post-ln", "norm": "post"},
                {"name": "pre-ln"},
                {"name": "pld", "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}
            ],
            "baseline": "pre-ln",
            "glue": {"dataset": "generated-glue", "tasks": ["rte"], "seeds": 3, "epochs": 1, "length": 32}
        }),
        Some("register_dataset") => {
            json!({"name": "wikitext-103", "kind": "corpus", "path": "/srv/lamina/data/corpus/wikitext-103.txt"})
        }
        Some("create_token") => json!({"name": "laptop", "scope": "write", "expires_in_days": 90}),
        _ => return,
    };
    operation["requestBody"]["content"]["application/json"]["example"] = example;
}

const SCHEMAS: &str = "/components/schemas";

/// Names of the schemas that the body of a request can contain.
fn schemas_of_requests(document: &Value) -> BTreeSet<String> {
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let bodies = operations.flat_map(Map::values).flat_map(|operation| references(&operation["requestBody"]));
    reached(document, bodies.collect())
}

/// Names of the schemas that `waiting` and what they refer to lead to.
fn reached(document: &Value, mut waiting: Vec<String>) -> BTreeSet<String> {
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

//! Jobs with arms that start from a published checkpoint.

use serde_json::{Value, json};

use super::agent::Agent;
use super::server::Server;

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";

fn config() -> Value {
    json!({
        "model_type": "bert", "vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 128,
    })
}

async fn register(server: &Server, config: &Value) -> super::server::Answer {
    let config = config.to_string();
    let files = [("config.json", config.as_str()), ("model.safetensors", "weights"), ("vocab.txt", VOCABULARY)];
    let folder = server.write("published", &files);
    server.post("/datasets", &json!({"name": "bert-base", "kind": "checkpoint", "path": folder})).await
}

fn job() -> Value {
    json!({
        "name": "n", "corpus": "wiki", "arms": [{"name": "bert", "checkpoint": "bert-base"}],
        "glue": {"tasks": ["rte"], "seeds": 2, "keep": ["all", {"first": 2}], "selection": null},
    })
}

#[tokio::test]
async fn a_published_checkpoint_is_fine_tuned_at_several_depths() {
    let server = Server::with_data().await;
    let registered = register(&server, &config()).await;
    assert_eq!(registered.status, 201, "{}", registered.text());
    let facts = &registered.json()["facts"];
    assert_eq!((&facts["kind"], &facts["model"]["blocks"]), (&json!("checkpoint"), &json!(4)));
    let created = server.post("/jobs", &job()).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(created.json()["trials"]["queued"], 4, "nothing waits: {}", created.text());
    assert_eq!(created.json()["spec"]["arms"][0], json!({"name": "bert", "checkpoint": "bert-base"}));

    let agent = Agent::new(&server);
    agent.sync(json!([])).await;
    let mut carried_out = 0;
    loop {
        let assigned = agent.assigned().await;
        if assigned.is_empty() {
            break;
        }
        for assignment in &assigned {
            let files: Vec<&str> = assignment["checkpoint"]["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| file["path"].as_str().unwrap())
                .collect();
            assert_eq!(files, ["config.json", "model.safetensors", "vocab.txt"]);
            assert_eq!((&assignment["from"], &assignment["corpus"]), (&json!(null), &json!(null)));
            let weights = assignment["checkpoint"]["files"][1]["sha256"].as_str().unwrap();
            assert_eq!(server.get(&format!("/artifacts/{weights}")).await.text(), "weights");
            let seed = assignment["spec"]["seeds"]["head"].as_f64().unwrap();
            let report = json!({
                "stage": "finetune", "steps": 3, "trained_seconds": 1.0, "metrics": {}, "score": 0.6 + 0.01 * seed,
                "majority_score": 0.5, "digest": "d",
            });
            agent.carry_out(assignment, vec![], report).await;
            carried_out += 1;
        }
    }
    assert_eq!(carried_out, 4);
    agent.control.round().await.unwrap();
    assert_eq!(server.get(&format!("/jobs/{id}")).await.json()["status"], "succeeded");
    let report = server.get(&format!("/jobs/{id}/report")).await.json();
    assert_eq!((&report["pretrain"], &report["speed"]), (&json!([]), &json!(null)));
    let rows: Vec<_> =
        report["glue"][0]["arms"].as_array().unwrap().iter().map(|row| (&row["blocks"], &row["n"])).collect();
    assert_eq!(rows, [(&json!(4), &json!(2)), (&json!(2), &json!(2))]);
    let trials = server.get(&format!("/jobs/{id}/trials")).await.json();
    assert_eq!(trials["items"][3]["keep"], json!({"first": 2}));
}

#[tokio::test]
async fn an_unusable_checkpoint_is_refused_with_a_pointer_to_it() {
    let server = Server::with_data().await;
    let problem = server.post("/jobs", &job()).await.problem(422, "dataset_not_registered");
    assert_eq!(problem["problems"][0]["pointer"], "/arms/0/checkpoint");
    let mut other = config();
    other["hidden_act"] = json!("relu");
    let problem = register(&server, &other).await.problem(422, "invalid_body");
    assert_eq!(problem["problems"][0]["pointer"], "/path");
    assert!(problem["problems"][0]["message"].as_str().unwrap().contains("hidden_act is relu"), "{problem}");

    assert_eq!(register(&server, &config()).await.status, 201);
    let mut job = job();
    job["arms"][0]["layer_drop"] = json!({"theta_limit": 0.5});
    job["glue"]["keep"] = json!(["all", {"first": 5}]);
    let problem = server.post("/jobs", &job).await.problem(422, "invalid_job");
    assert_eq!(problem["problems"][0]["pointer"], "/arms/0/layer_drop");
    job["arms"][0].as_object_mut().unwrap().remove("layer_drop");
    let problem = server.post("/jobs", &job).await.problem(422, "invalid_job");
    assert_eq!(problem["problems"][0]["pointer"], "/glue/keep/1");
    assert_eq!(server.count_jobs().await, 0);
}

//! Jobs from `POST /jobs` to the report, with the programs that a user starts.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Service, real_data};

/// A comparison of three arms that is small enough for a test.
fn job(corpus: &str, vocabulary: Value, glue: Value) -> Value {
    json!({
        "name": "pld against pre-ln", "corpus": corpus, "vocabulary": vocabulary,
        "model": {"blocks": 4, "hidden": 64, "heads": 2, "intermediate": 128},
        "pretrain": {"steps": 60, "batch": 8, "length": 64, "learning_rate": {"peak": 1e-3}},
        "arms": [{"name": "post-ln", "norm": "post"}, {"name": "pre-ln"},
                 {"name": "pld", "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}],
        "baseline": "pre-ln",
        "timing": {"rounds": 8, "steps_per_turn": 2, "warmup_steps": 1},
        "glue": glue
    })
}

/// Asserts that every trial of the job has succeeded and that the report has every seed and the speed of each arm.
async fn assert_reported(service: &Service, job: &str, tasks: &[&str], seeds: usize) {
    let trials = service.trials(job).await;
    assert_eq!(trials.len(), 1 + 3 + 3 * tasks.len() * seeds);
    assert!(trials.iter().all(|trial| trial["state"] == "succeeded"), "{trials:#?}");

    let report = service.get(&format!("/jobs/{job}/report")).await;
    assert_eq!(report["complete"], true, "{report:#}");
    let speed = report["speed"]["arms"].as_array().expect("the speed of each arm");
    assert_eq!(speed.len(), 3);
    assert!(speed.iter().all(|arm| arm["seconds_per_step"].as_f64().unwrap() > 0.0), "{speed:#?}");
    assert_eq!(report["speed"]["rounds"], 8);
    assert!(report["speed"]["control"]["ratio"].as_f64().unwrap() > 0.0, "the baseline is timed twice: {report:#}");
    let baseline = speed.iter().find(|arm| arm["arm"] == "pre-ln").unwrap();
    assert_eq!(baseline["ratio_to_baseline"], 1.0);
    for row in report["glue"].as_array().expect("a row per task") {
        assert!(tasks.contains(&row["task"].as_str().unwrap()));
        for arm in row["arms"].as_array().unwrap() {
            assert_eq!((&arm["n"], arm["scores"].as_array().unwrap().len()), (&json!(seeds), seeds));
        }
    }
    assert_eq!(report["glue"].as_array().unwrap().len(), tasks.len());

    let curves = service.get(&format!("/jobs/{job}/curves?name=validation_loss")).await;
    assert_eq!(curves["series"].as_array().unwrap().len(), 3, "one validation curve per arm: {curves:#}");
    let markdown = service.get_text(&format!("/jobs/{job}/report?format=markdown")).await;
    assert!(markdown.contains("pld") && markdown.contains("pre-ln"), "{markdown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_images_ends_with_a_report_of_losses_and_accuracies() {
    let service = Service::start().await;
    let data = service.generate_data().await;
    service.register("shapes", "images", &data.join("images/generated-shapes")).await;
    for (images, length, accurate) in
        [(json!({"kind": "classifier", "patch": 4}), 17, true), (json!({"kind": "pixels", "levels": 4}), 256, false)]
    {
        let id = service
            .submit(&json!({
                "name": "images", "corpus": "shapes", "images": images,
                "model": {"blocks": 3, "hidden": 32, "heads": 2, "intermediate": 64},
                "pretrain": {"steps": 60, "batch": 8, "learning_rate": {"peak": 3e-3}, "seeds": 2},
                "arms": [{"name": "pre-ln"}, {"name": "pld", "layer_drop": {"theta_limit": 0.5}}],
                "timing": {"rounds": 2, "steps_per_turn": 3, "warmup_steps": 1},
                "probe": {"sequences": 16, "shuffles": 2}
            }))
            .await;
        service.succeeded(&id, Duration::from_secs(240)).await;
        let trials = service.trials(&id).await;
        assert_eq!(trials.len(), 1 + 4 + 4);
        assert!(trials.iter().all(|trial| trial["state"] == "succeeded"), "{trials:#?}");
        let report = service.get(&format!("/jobs/{id}/report")).await;
        for arm in report["pretrain"].as_array().unwrap() {
            assert_eq!(arm["validation_loss"]["n"], 2, "{arm:#}");
            assert_eq!(arm["validation_accuracy"].is_object(), accurate, "{arm:#}");
        }
        let timed: Vec<&Value> = report["speed"]["arms"].as_array().unwrap().iter().map(|arm| &arm["arm"]).collect();
        assert_eq!(timed, ["pre-ln", "pld"], "{report:#}");
        assert_eq!(report["probes"].as_array().unwrap().len(), 2);
        let pretrained = trials.iter().find(|trial| trial["stage"] == "pretrain").unwrap();
        assert_eq!(pretrained["report"]["tokens"], 60 * 8 * length);
        let markdown = service.get_text(&format!("/jobs/{id}/report?format=markdown")).await;
        assert_eq!(markdown.contains("Validation accuracy"), accurate, "{markdown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_generated_data_ends_with_a_report() {
    let service = Service::start().await;
    service.register_generated_data().await;
    let glue = json!({"tasks": ["rte", "sst-2"], "seeds": 2, "epochs": 1, "length": 48});
    let id = service.submit(&job("corpus", json!({"train": 400}), glue)).await;
    service.succeeded(&id, Duration::from_secs(300)).await;
    assert_reported(&service, &id, &["rte", "sst-2"], 2).await;
    let table = service.lamina(&["report", &id]).await;
    assert!(table.contains("pld") && table.contains("rte"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_checkpoint_is_probed_and_fine_tuned() {
    let service = Service::start().await;
    let data = service.generate_data().await;
    service.register("glue", "glue", &data.join("glue")).await;
    // The checkpoint has two blocks, was saved by transformers, and has eight letters as its vocabulary.
    let letters = |document: usize| (0..40).map(move |n| ["abed ", "cafe ", "had ", "a bag "][(n * n + document) % 4]);
    let text: String = (0..60).map(|document| letters(document).collect::<String>() + "\n\n").collect();
    std::fs::write(data.join("letters.txt"), text).unwrap();
    service.register("corpus", "corpus", &data.join("letters.txt")).await;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/fixtures/published/bert");
    // The service reads only what lies in its data folder.
    let saved = data.join("bert");
    std::fs::create_dir(&saved).unwrap();
    for entry in std::fs::read_dir(&fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, saved.join(path.file_name().unwrap())).unwrap();
    }
    service.register("bert", "checkpoint", &saved).await;
    let id = service
        .submit(&json!({
            "name": "published", "corpus": "corpus", "arms": [{"name": "bert", "checkpoint": "bert"}],
            "pretrain": {"length": 32}, "probe": {"sequences": 16, "shuffles": 2},
            "glue": {"tasks": ["rte"], "seeds": 1, "epochs": 1, "length": 32}
        }))
        .await;
    service.succeeded(&id, Duration::from_secs(120)).await;
    let report = service.get(&format!("/jobs/{id}/report")).await;
    let probed = &report["probes"][0];
    assert_eq!((&probed["arm"], &probed["n"]), (&json!("bert"), &json!(1)), "{report:#}");
    assert_eq!(probed["blocks"].as_array().unwrap().len(), 2);
    assert_eq!(report["glue"][0]["arms"][0]["n"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_wikipedia_and_glue_ends_with_a_report() {
    let Some(data) = real_data("a_job_on_wikipedia_and_glue_ends_with_a_report") else { return };
    let service = Service::start().await;
    service.register("wiki", "corpus", &data.join("corpus/wiki-00.txt.xz")).await;
    service.register("bert-base-uncased", "vocabulary", &data.join("vocab/bert-base-uncased-vocab.txt")).await;
    service.register("glue", "glue", &data.join("glue")).await;
    let glue = json!({"tasks": ["rte", "mrpc", "cola"], "seeds": 2, "epochs": 1, "length": 64, "batch": 32});
    let id = service.submit(&job("wiki", json!("bert-base-uncased"), glue)).await;
    service.succeeded(&id, Duration::from_secs(900)).await;
    assert_reported(&service, &id, &["rte", "mrpc", "cola"], 2).await;
}

//! Runs the program with every method of the paper and its reviewers: each learns, and a run that was killed and
//! resumed ends like an uninterrupted one.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use program::{Bench, Exited, Running, changed, finish, learned, pretrain, spec};
use recipe::{Event, FailureKind};
use serde_json::{Value, json};

/// The changes that each method makes to the recipe of `program::pretrain`, which has the layer drop of the paper.
fn methods() -> Vec<(&'static str, Value)> {
    let drop = |settings: Value| json!({"layer_drop": settings});
    let grown = |new: &str, optimizer: &str| {
        let stages = json!([{"blocks": 1, "until": 0.3}, {"blocks": 2, "until": 0.6}]);
        json!({"layer_drop": null, "growth": {"stages": stages, "new": new, "optimizer": optimizer}})
    };
    vec![
        ("post-ln", json!({"model": {"norm": "post"}, "layer_drop": null})),
        ("sandwich", json!({"model": {"order": "ssfsff"}, "layer_drop": null})),
        ("pld-in-a-sandwich", json!({"model": {"order": "ssfsff"}})),
        ("stochastic-depth", drop(json!({"schedule": "constant", "depth": "uniform", "theta_limit": 0.5}))),
        ("layerdrop", drop(json!({"schedule": "constant", "depth": "uniform", "theta_limit": 0.8, "scale": false}))),
        ("decreasing", drop(json!({"schedule": "linear", "direction": "decreasing"}))),
        ("polynomial", drop(json!({"schedule": "polynomial", "power": 2.0, "depth_index": "ild"}))),
        ("stairs", drop(json!({"schedule": "step", "levels": 3, "depth_index": "zero"}))),
        ("cosine-attention-only", drop(json!({"schedule": "cosine", "unit": "attention"}))),
        ("halves", drop(json!({"unit": "independent"}))),
        ("per-sequence", drop(json!({"draw": "sequence", "theta_limit": 0.3}))),
        ("per-micro-batch", json!({"layer_drop": {"draw": "micro_batch"}, "batch": 6, "micro_batches": 3})),
        ("systematic", drop(json!({"sampler": "systematic", "theta_limit": 0.3}))),
        ("top", drop(json!({"sampler": "top", "theta_limit": 0.3}))),
        ("stacked", grown("copy", "keep")),
        ("grown", grown("fresh", "reset")),
        ("electra", json!({"layer_drop": null, "objective": {"electra": {"divisor": 2, "weight": 10.0}}})),
        ("electra-pld", json!({"objective": {"electra": {"divisor": 2, "weight": 10.0}}, "model": {"embedding": 16}})),
        ("bfloat16", json!({"precision": "bfloat16"})),
        ("bfloat16-post-ln", json!({"precision": "bfloat16", "model": {"norm": "post"}, "layer_drop": null})),
        ("recompute", json!({"recompute": true, "layer_drop": {"draw": "sequence"}})),
        ("pairs", json!({"objective": {"next_sentence": true}})),
        ("falling-mask", json!({"objective": {"rate": 0.3, "rate_end": 0.15}})),
        ("lamb", json!({"optimizer": {"algorithm": "lamb", "clip_norm": null}, "learning_rate": {"peak": 0.02}})),
    ]
}

fn recipe(change: &Value, steps: u64) -> Value {
    let mut recipe = pretrain(steps);
    recipe["learning_rate"]["peak"] = json!(3e-3);
    changed(recipe, change)
}

fn values(run: &Exited, name: &str) -> Vec<f64> {
    run.points(name).into_iter().map(|(_, bits)| f64::from_bits(bits)).collect()
}

#[test]
fn every_method_learns() {
    let bench = Bench::new();
    for (name, change) in methods() {
        let run = finish(&mut bench.command(name, name, &spec(recipe(&change, 150)))).succeeded();
        let losses = values(&run, "validation_loss");
        assert!(losses[losses.len() - 1] < losses[0] - 0.1, "{name}: {losses:?}");
    }
}

#[test]
fn every_method_killed_and_resumed_ends_like_an_uninterrupted_run() {
    const STEPS: u64 = 20;
    let bench = Bench::new();
    for (name, change) in methods() {
        let spec = spec(recipe(&change, STEPS));
        let [whole, broken] = ["whole", "broken"].map(|what| format!("{name}-{what}"));
        let uninterrupted = finish(&mut bench.command(name, &whole, &spec)).succeeded();
        // After the sixth and the twelfth step, a growing model has just grown.
        for after in [6, 12] {
            let mut running =
                Running::start(bench.command(name, &broken, &spec).args(["--resume", "--checkpoint-seconds", "0"]));
            assert!(running.until(|event| matches!(event, Event::Checkpointed { step, .. } if *step >= after)));
            running.kill();
        }
        let resumed = finish(bench.command(name, &broken, &spec).arg("--resume")).succeeded();
        assert!(resumed.resumed_from() >= Some(12), "{name}");
        assert_eq!(resumed.report()["digest"], uninterrupted.report()["digest"], "{name}");
        assert_eq!(resumed.report()["validation_loss"], uninterrupted.report()["validation_loss"], "{name}");
        assert!(learned(&bench.checkpoint(&whole)) == learned(&bench.checkpoint(&broken)), "{name}");
    }
}

#[test]
fn systematic_sampling_bounds_the_number_of_open_blocks() {
    let bench = Bench::new();
    let open = |name: &str, sampler: &str| {
        let change = json!({"layer_drop": {"schedule": "constant", "theta_limit": 0.4, "sampler": sampler}});
        let run = finish(&mut bench.command(name, name, &spec(recipe(&change, 60)))).succeeded();
        let open = values(&run, "open_blocks");
        assert_eq!(open.len(), 60);
        open
    };
    // The keep probabilities 0.8, 0.6 and 0.4 add up to 1.8 open blocks.
    let systematic = open("systematic", "systematic");
    assert!(systematic.iter().all(|&open| open == 1.0 || open == 2.0), "{systematic:?}");
    let independent = open("independent", "independent");
    assert!(independent.contains(&3.0) && independent.iter().any(|&open| open <= 1.0));
}

#[test]
fn a_growing_model_adds_its_blocks_at_the_given_shares_of_the_budget() {
    let bench = Bench::new();
    let (_, change) = methods().into_iter().find(|(name, _)| *name == "stacked").unwrap();
    let run = finish(&mut bench.command("grow", "grow", &spec(recipe(&change, 20)))).succeeded();
    let open = values(&run, "open_blocks");
    assert_eq!(open, [[1.0; 6].as_slice(), &[2.0; 6], &[3.0; 8]].concat());
}

#[test]
fn micro_batches_give_the_losses_of_the_whole_batch() {
    let bench = Bench::new();
    let losses = |parts: u32| {
        let plain = json!({"layer_drop": null, "batch": 6, "micro_batches": parts,
                           "model": {"dropout": 0.0, "attention_dropout": 0.0}});
        let run = finish(&mut bench.command("parts", &format!("parts-{parts}"), &spec(recipe(&plain, 10)))).succeeded();
        values(&run, "train_loss")
    };
    let whole = losses(1);
    for parts in [2, 3, 6] {
        let largest = whole.iter().zip(losses(parts)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 2e-5, "{parts} parts: {largest}");
    }
}

#[test]
fn a_budget_in_seconds_ends_on_time_with_every_schedule_at_its_end() {
    let bench = Bench::new();
    let change = json!({"seconds": 1.0, "steps": 1_000_000, "validate_every": 1_000_000,
                        "layer_drop": {"schedule": "linear"}});
    let run = finish(&mut bench.command("seconds", "seconds", &spec(recipe(&change, 5)))).succeeded();
    let report = run.report();
    let trained = report["trained_seconds"].as_f64().unwrap();
    let longest = values(&run, "step_seconds").into_iter().fold(0.0, f64::max);
    assert!(trained >= 1.0, "{trained}");
    assert!(report["steps"].as_u64().unwrap() < 1_000_000);
    // The last step began before the end of the budget, so its learning rate and theta are close to their last values.
    let share_left = 2.0 * (longest + trained - 1.0);
    let (rate, theta) = (values(&run, "learning_rate"), values(&run, "theta"));
    assert!(rate[rate.len() - 1] <= 3e-3 * share_left + 1e-9, "{rate:?}");
    assert!(theta[theta.len() - 1] <= 0.5 + share_left, "{theta:?}");
    assert!(run.points("validation_loss").len() >= 2, "there is a validation at the tenths of the budget");
}

#[test]
fn a_diverging_run_is_ended_if_the_recipe_sets_a_margin() {
    let bench = Bench::new();
    let change = json!({"divergence": 0.2, "layer_drop": null, "optimizer": {"clip_norm": null},
                        "learning_rate": {"peak": 1.0, "warmup": 0.0}});
    let ended = finish(&mut bench.command("diverges", "diverges", &spec(recipe(&change, 300))));
    assert_eq!(ended.failure().kind, FailureKind::Diverged, "{:?}", ended.failure());
    assert!(ended.failure().message.contains("diverged"), "{:?}", ended.failure());
}

#[test]
fn settings_that_exclude_each_other_are_refused_at_their_pointer() {
    let bench = Bench::new();
    let stages = json!([{"blocks": 1, "until": 0.5}]);
    for (change, pointer) in [
        (json!({"growth": {"stages": stages}}), "/recipe/growth: `growth` cannot be combined with `layer_drop`"),
        (
            json!({"growth": {"stages": stages}, "layer_drop": null, "objective": {"electra": {}}}),
            "/recipe/growth: `growth` cannot be combined with the `electra` objective",
        ),
        (
            json!({"model": {"order": "sssfff"}, "growth": {"stages": stages}, "layer_drop": null}),
            "an `order` of its own cannot grow",
        ),
        (json!({"model": {"order": "sfsf"}}), "/recipe/model/order"),
        (json!({"model": {"embedding": 16}}), "/recipe/model/embedding"),
        (json!({"objective": {"electra": {}, "next_sentence": true}}), "/recipe/objective/next_sentence"),
        (json!({"objective": {"electra": {"divisor": 0}}}), "/recipe/objective/electra/divisor"),
        (json!({"micro_batches": 3}), "/recipe/micro_batches"),
        (json!({"seconds": -1.0}), "/recipe/seconds"),
        (json!({"seconds": 5.0, "layer_drop": {"gamma": 0.1}}), "/recipe/layer_drop/gamma"),
    ] {
        let refused = finish(&mut bench.command("odd", "odd", &spec(recipe(&change, 10))));
        assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe, "{change}");
        assert!(refused.failure().message.contains(pointer), "{pointer} in {:?}", refused.failure());
        assert!(!bench.path("odd").exists(), "nothing was made");
    }
}

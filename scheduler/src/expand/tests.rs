mod extremes;

use std::collections::HashSet;
use std::path::PathBuf;

use proptest::prelude::*;
use recipe::{KeptBlocks, Model, Norm, Optimizer, Precision, Stage, Task};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::check::planned;
use super::*;
use crate::dataset::{DatasetFacts, Scan};

fn scan(name: &str, facts: DatasetFacts) -> Scan {
    Scan { name: name.into(), folder: PathBuf::from("/data"), digest: "ab".repeat(32), facts, files: vec![] }
}

fn datasets() -> Datasets {
    let examples = [(Task::Rte, 2490), (Task::Mrpc, 3668), (Task::Cola, 8551)].into();
    Datasets {
        corpus: Some(scan("wiki", DatasetFacts::Corpus)),
        vocabulary: Some(scan("bert-base-uncased", DatasetFacts::Vocabulary { tokens: 30522 })),
        glue: Some(scan("glue", DatasetFacts::Glue { examples })),
        checkpoints: [("bert-base".to_owned(), scan("bert-base", checkpoint()))].into(),
    }
}

fn checkpoint() -> DatasetFacts {
    let model = Model { positions: 256, ..Model::of_size(Size::named("base").unwrap(), Norm::Post) };
    DatasetFacts::Checkpoint { model, tokens: 30522 }
}

/// The example with an arm that starts from a published checkpoint.
fn with_checkpoint(change: impl FnOnce(&mut serde_json::Value)) -> JobSpec {
    spec(|job| {
        job["arms"].as_array_mut().unwrap().push(json!({"name": "bert", "checkpoint": "bert-base"}));
        change(job);
    })
}

fn example() -> serde_json::Value {
    json!({
        "name": "pld on wiki", "model": "narrow", "corpus": "wiki", "vocabulary": "bert-base-uncased",
        "pretrain": {"steps": 2000, "batch": 32, "length": 128,
                     "learning_rate": {"peak": 1e-3, "warmup": 0.02, "decay": "linear"}, "seeds": 1},
        "arms": [{"name": "post-ln", "norm": "post"}, {"name": "pre-ln"},
                 {"name": "pld", "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}],
        "baseline": "pre-ln",
        "glue": {"tasks": ["rte", "mrpc", "cola"], "seeds": 5, "epochs": 3, "learning_rates": [1e-4]}
    })
}

fn spec(change: impl FnOnce(&mut serde_json::Value)) -> JobSpec {
    let mut value = example();
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// The problems of a job of which no dataset is known.
fn check(spec: &JobSpec) -> Vec<Problem> {
    expand(spec, &Datasets::default()).err().unwrap_or_default()
}

fn pointers(spec: &JobSpec) -> Vec<String> {
    check(spec).into_iter().map(|problem| problem.pointer).collect()
}

#[test]
fn the_example_expands_into_1_timing_3_pre_train_and_45_fine_tune_trials() {
    let Expansion { trials, plan } = expand(&spec(|_| ()), &datasets()).unwrap();
    assert_eq!(plan.trials, PlannedTrials { timing: 1, pretrain: 3, finetune: 45, probe: 0 });
    assert_eq!(trials.len(), 49);
    for trial in &trials {
        assert_eq!(trial.spec.recipe.validate(), []);
        let Some(source) = trial.waits_for else { continue };
        let (Recipe::Finetune(recipe), Recipe::Pretrain(from)) = (&trial.spec.recipe, &trials[source].spec.recipe)
        else {
            panic!("a fine-tune trial waits for a pre-train trial")
        };
        assert_eq!(recipe.from, Source::Pretrained(Box::new(from.clone())));
        assert_eq!(trial.arm, trials[source].arm);
        assert_eq!(trial.spec.seeds.init, trials[source].spec.seeds.init);
        assert_eq!(trial.spec.seeds.gate, trials[source].spec.seeds.gate);
    }
    // A tenth of the 2490 examples is set apart.
    assert_eq!(trials.iter().find(|trial| trial.task == Some(Task::Rte)).unwrap().total_steps, 3 * 141);
}

#[test]
fn the_baseline_is_timed_twice_under_a_name_of_its_own() {
    for (taken, expected) in [("other", "pre-ln (again)"), ("pre-ln (again)", "pre-ln (again) (again)")] {
        let job = spec(|job| job["arms"].as_array_mut().unwrap().push(json!({"name": taken, "norm": "post"})));
        let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
        let Recipe::Timing(timing) = &trials[0].spec.recipe else { panic!("a timing trial") };
        let (again, arms) = timing.arms.split_last().unwrap();
        assert_eq!((again.name.as_str(), again.repeats.as_deref()), (expected, Some("pre-ln")));
        assert_eq!(again.recipe, arms[1].recipe);
        assert!(arms.iter().all(|arm| arm.repeats.is_none()));
        // Five arms, 32 rounds, a warm-up step and two timed ones.
        assert_eq!(trials[0].total_steps, 5 * 32 * 3);
        let step = |arm: usize| plan.arms[arm].pretrain_flops / 2000.0;
        let expected: f64 = [0, 1, 2, 3, 1].map(step).iter().sum::<f64>() * 96.0;
        assert!((trials[0].work / expected - 1.0).abs() < 1e-12, "{} {expected}", trials[0].work);
        assert_eq!(plan.arms.len(), 4, "the repetition is no arm of the job");
    }
}

#[test]
fn the_plan_shows_the_closed_form_saving() {
    let plan = expand(&spec(|_| ()), &datasets()).unwrap().plan;
    let (pre, pld) = (&plan.arms[1], &plan.arms[2]);
    assert_eq!((pre.encoder_saving, pre.flop_saving), (0.0, 0.0));
    // k (1 - limit) (1 - 1/100) with k = 13/24, to the sum's own discretisation.
    assert!((pld.encoder_saving - 13.0 / 24.0 * 0.5 * 0.99).abs() < 1e-3, "{}", pld.encoder_saving);
    assert!((pld.pretrain_flops / pre.pretrain_flops - (1.0 - pld.flop_saving)).abs() < 1e-12);
    assert!(pld.flop_saving < pld.encoder_saving);
}

#[test]
fn matched_arms_have_the_flops_of_the_arm_that_they_name() {
    let text = include_str!("../../../examples/jobs/reviewers.json");
    let job = JobSpec { corpus: "wiki".into(), ..serde_json::from_str(text).unwrap() };
    let plan = expand(&job, &datasets()).unwrap().plan;
    let flops = |name: &str| plan.arms.iter().find(|arm| arm.name == name).unwrap().pretrain_flops;
    let matched: Vec<&ArmSpec> = job.arms.iter().filter(|arm| arm.matched.is_some()).collect();
    assert!(matched.len() > 8);
    for arm in matched {
        assert!((flops(&arm.name) / flops("pld") - 1.0).abs() < 1e-9, "{}", arm.name);
    }
    assert_eq!(
        plan.trials,
        PlannedTrials { timing: 1, pretrain: job.arms.len() as u64, finetune: 0, probe: job.arms.len() as u64 }
    );
}

/// A job that learns from images, and the datasets with images of this shape.
fn of_images(images: serde_json::Value, change: impl FnOnce(&mut serde_json::Value)) -> JobSpec {
    spec(|job| {
        for field in ["vocabulary", "glue"] {
            job.as_object_mut().unwrap().remove(field);
        }
        job["pretrain"].as_object_mut().unwrap().remove("length");
        job["images"] = images;
        change(job);
    })
}

fn with_images(side: u32, classes: u32) -> Datasets {
    let shape = recipe::ImageShape { height: side, width: side, channels: 3 };
    let corpus = Some(scan("cifar", DatasetFacts::Images { shape, classes, train: 50_000, test: 10_000 }));
    Datasets { corpus, vocabulary: None, glue: None, ..datasets() }
}

/// The fingerprints of all trials of a job, hashed in order.
fn recipes_of(text: &str, datasets: &Datasets) -> String {
    let mut job: JobSpec = serde_json::from_str(text).unwrap();
    if job.images.is_none() {
        job.corpus = "wiki".into();
    }
    let trials = expand(&job, datasets).unwrap().trials;
    let all: String = trials.iter().map(|trial| format!("{}\n", trial.spec.recipe.fingerprint())).collect();
    hex::encode(Sha256::digest(all))
}

#[test]
fn the_example_jobs_keep_the_recipes_of_their_trials() {
    let examples = Task::ALL.into_iter().map(|task| (task, 5000)).collect();
    let every_task = Datasets { glue: Some(scan("glue", DatasetFacts::Glue { examples })), ..datasets() };
    // A digest here changes only when the meaning of a recipe does: stored results name the fingerprints.
    for (text, datasets, expected) in [
        (
            include_str!("../../../examples/jobs/main.json"),
            &every_task,
            "74b82499cac2274411af39ae282269267b7a61b0604bdb8dcdca262b7ea5566c",
        ),
        (
            include_str!("../../../examples/jobs/reviewers.json"),
            &every_task,
            "cc18d652540b3cb4c0fab0ee1e728a8e3f887dccb453caf655bb8c63ac79ab93",
        ),
        (
            include_str!("../../../examples/jobs/equal-time.json"),
            &every_task,
            "32591abe9e0aa1691b43ba91576eb8312601d6a2dab03a080dc4dbd4fce96d3a",
        ),
        (
            include_str!("../../../examples/jobs/factorial.json"),
            &every_task,
            "6647aa61b320f6fc0f1ddc0a8e201089da1a57e2a7685a9c0849da4b85b6f6b9",
        ),
        (
            include_str!("../../../examples/jobs/glue.json"),
            &every_task,
            "efcbde9e79833ad0677b1fee210b3f03d6a3e07e3325236eabadb5b4b90a5c23",
        ),
        (
            include_str!("../../../examples/jobs/images.json"),
            &with_images(28, 10),
            "9aef1d5d0a1ff119c376ddf3237d61980a01d422dbc37cbc258a483e5471fda6",
        ),
    ] {
        assert_eq!(recipes_of(text, datasets), expected);
    }
}

#[test]
fn the_equal_time_and_factorial_examples_are_accepted() {
    for text in
        [include_str!("../../../examples/jobs/equal-time.json"), include_str!("../../../examples/jobs/factorial.json")]
    {
        let job = JobSpec { corpus: "wiki".into(), ..serde_json::from_str(text).unwrap() };
        let plan = expand(&job, &datasets()).unwrap().plan;
        assert_eq!(plan.trials.pretrain, job.arms.len() as u64 * u64::from(job.pretrain.seeds));
    }
}

#[test]
fn the_example_with_every_task_tunes_each_checkpoint_at_each_depth_and_rate() {
    let examples = Task::ALL.into_iter().map(|task| (task, 5000)).collect();
    let glue = Some(scan("glue", DatasetFacts::Glue { examples }));
    let text = include_str!("../../../examples/jobs/glue.json");
    let job = JobSpec { corpus: "wiki".into(), ..serde_json::from_str(text).unwrap() };
    let plan = expand(&job, &Datasets { glue, ..datasets() }).unwrap().plan;
    // Arms x pre-train seeds; tasks x depths x rates x seeds of each.
    assert_eq!(plan.trials, PlannedTrials { timing: 1, pretrain: 3 * 3, finetune: 9 * (9 * 3 * 3 * 5), probe: 0 });
}

#[test]
fn the_example_job_on_images_is_accepted() {
    let job: JobSpec = serde_json::from_str(include_str!("../../../examples/jobs/images.json")).unwrap();
    let plan = expand(&job, &with_images(28, 10)).unwrap().plan;
    assert_eq!(plan.trials.pretrain, job.arms.len() as u64 * u64::from(job.pretrain.seeds));
}

#[test]
fn images_determine_the_sequence_length_and_the_cost_of_the_head() {
    let classifier = json!({"kind": "classifier", "patch": 4});
    let pixels = json!({"kind": "pixels", "levels": 16});
    // (rule, tokens, positions that are predicted, what they are told apart by)
    for (rule, tokens, predicted, outputs) in [(classifier, 65, 1, 10), (pixels, 3072, 3072, 16)] {
        let job = of_images(rule, |_| ());
        assert_eq!(check(&job), []);
        let Expansion { trials, plan } = expand(&job, &with_images(32, 10)).unwrap();
        for trial in &trials {
            assert_eq!(trial.spec.recipe.validate(), []);
        }
        let Recipe::Pretrain(recipe) = &trials[1].spec.recipe else { panic!("a pre-train trial") };
        assert_eq!((recipe.length, recipe.model.positions, &recipe.vocabulary), (tokens, tokens, &None));
        let model = &recipe.model;
        let encoder = f64::from(model.blocks) * model.block_flops(tokens.into());
        let head = 2.0 * f64::from(model.hidden * predicted * outputs);
        let expected = 3.0 * 32.0 * 2000.0 * (encoder + head);
        assert!((plan.arms[0].pretrain_flops / expected - 1.0).abs() < 1e-12, "{plan:?}");
        assert!(plan.arms[2].flop_saving > 0.0);
        // What is shown of a job is not filled in with what images do not have.
        let shown = job.filled_in();
        assert_eq!((shown.vocabulary, shown.pretrain.length), (None, None));
    }
}

#[test]
fn settings_that_images_exclude_are_refused_with_a_pointer_to_them() {
    let rule = json!({"kind": "classifier", "patch": 4});
    let wrong = |change: fn(&mut serde_json::Value)| pointers(&of_images(rule.clone(), change));
    assert_eq!(wrong(|job| job["vocabulary"] = json!("bert-base-uncased")), ["/vocabulary"]);
    assert_eq!(wrong(|job| job["glue"] = json!({"tasks": ["rte"]})), ["/glue"]);
    assert_eq!(wrong(|job| job["pretrain"]["objective"] = json!({"rate": 0.3})), ["/pretrain/objective"]);
    assert_eq!(wrong(|job| job["arms"][1]["objective"] = json!({"electra": {}})), ["/arms/1/objective"]);
    assert_eq!(wrong(|job| job["images"]["patch"] = json!(0)), ["/images/patch"]);

    let known = |images: &serde_json::Value, datasets: &Datasets, change: fn(&mut serde_json::Value)| {
        let problems = expand(&of_images(images.clone(), change), datasets).unwrap_err();
        problems.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    assert_eq!(known(&rule, &with_images(30, 10), |_| ()), ["/images/patch"]);
    assert_eq!(known(&rule, &with_images(32, 10), |job| job["pretrain"]["length"] = json!(64)), ["/pretrain/length"]);
    assert_eq!(known(&rule, &with_images(32, 1), |_| ()), ["/corpus"]);
    assert!(expand(&of_images(json!({"kind": "pixels", "levels": 2}), |_| ()), &with_images(4, 1)).is_ok());
    // More tokens than a model can have positions.
    assert_eq!(known(&json!({"kind": "pixels", "levels": 2}), &with_images(256, 2), |_| ()), ["/images"]);
    // No draw among so few holds one out, nor does a share of 0.
    for (train, share, refused) in [(1, 0.01, true), (50_000, 0.0, true), (50_000, 0.01, false)] {
        let shape = recipe::ImageShape { height: 32, width: 32, channels: 3 };
        let facts = DatasetFacts::Images { shape, classes: 10, train, test: 0 };
        let few = Datasets { corpus: Some(scan("cifar", facts)), ..with_images(32, 10) };
        let job = of_images(rule.clone(), |job| job["pretrain"]["held_out"] = json!(share));
        let problems = expand(&job, &few).map_or_else(|problems| problems, |_| vec![]);
        assert_eq!(problems.iter().any(|problem| problem.pointer == "/pretrain/held_out"), refused, "{problems:?}");
    }
}

#[test]
fn a_match_is_solved_at_the_sequence_length_of_the_images() {
    let images = json!({"kind": "pixels", "levels": 16});
    // Dropping attention alone saves that much only where it is the most of a step.
    let job = of_images(images, |job| {
        job["arms"][1] = json!({"name": "attention", "match": {"arm": "pld"},
                                "layer_drop": {"schedule": "constant", "unit": "attention", "depth": "uniform"}});
        job["arms"][2]["layer_drop"]["theta_limit"] = json!(0.15);
        job["baseline"] = json!("post-ln");
    });
    assert_eq!(check(&job), []);
    assert!(expand(&job, &with_images(32, 10)).is_ok());
    let short = expand(&job, &with_images(4, 10)).map(|expansion| expansion.plan).unwrap_err();
    assert_eq!(short.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/arms/1/match"]);
}

#[test]
fn a_budget_in_seconds_is_planned_by_a_nominal_device() {
    let job = spec(|job| {
        job["pretrain"]["seconds"] = json!(60);
        job["pretrain"].as_object_mut().unwrap().remove("steps");
        job["glue"] = json!(null);
    });
    let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
    for (arm, trial) in plan.arms.iter().zip(&trials[1..]) {
        assert!((6e12..6.2e12).contains(&arm.pretrain_flops), "{arm:?}");
        assert!((1..2000).contains(&trial.total_steps), "{}", trial.total_steps);
        let Recipe::Pretrain(recipe) = &trial.spec.recipe else { panic!("a pre-train trial") };
        assert_eq!((recipe.seconds, recipe.step_budget()), (Some(60.0), None));
    }
}

#[test]
fn every_arm_is_fine_tuned_with_the_same_settings() {
    let job = spec(|job| {
        job["pretrain"]["optimizer"] = json!({"weight_decay": 0.02});
        job["arms"][1]["optimizer"] = json!({"algorithm": "lamb", "weight_decay": 0.3});
        job["arms"][1]["precision"] = json!("bfloat16");
    });
    for trial in expand(&job, &datasets()).unwrap().trials {
        let own = trial.arm.as_deref() == Some(job.arms[1].name.as_str());
        match &trial.spec.recipe {
            Recipe::Pretrain(recipe) => assert_eq!(recipe.precision == Precision::Bfloat16, own, "{:?}", trial.arm),
            Recipe::Finetune(recipe) => {
                let expected = Optimizer { weight_decay: 0.02, ..Optimizer::default() };
                assert_eq!(recipe.optimizer, expected, "{:?}", trial.arm);
                assert_eq!(recipe.precision, Precision::Float32, "{:?}", trial.arm);
            }
            Recipe::Timing(_) | Recipe::Probe(_) => {}
        }
    }
}

#[test]
fn a_budget_in_reference_seconds_needs_a_timing_trial_and_no_other_budget() {
    let job = spec(|job| job["pretrain"] = json!({"reference_seconds": 60.0}));
    let expansion = expand(&job, &datasets()).unwrap();
    let waiting = expansion.trials.iter().filter(|trial| trial.stage() == Stage::Pretrain);
    assert!(waiting.clone().count() > 0 && waiting.clone().all(|trial| trial.waits_for == Some(0)));
    assert_eq!(expansion.trials[0].stage(), Stage::Timing);
    for wrong in [
        json!({"reference_seconds": 60.0, "steps": 10}),
        json!({"reference_seconds": 60.0, "seconds": 10.0}),
        json!({"reference_seconds": -1.0}),
    ] {
        assert_eq!(pointers(&spec(|job| job["pretrain"] = wrong.clone())), ["/pretrain/reference_seconds"], "{wrong}");
    }
    let untimed = spec(|job| {
        job["pretrain"] = json!({"reference_seconds": 60.0});
        job["timing"] = json!(null);
    });
    assert_eq!(pointers(&untimed), ["/pretrain/reference_seconds"]);
    // What a gamma per step saves is not known before the steps are.
    for arm in [1, 2] {
        let matched = spec(|job| {
            job["pretrain"] = json!({"reference_seconds": 60.0});
            job["arms"][1]["layer_drop"] = json!({"schedule": "exponential"});
            job["arms"][1]["match"] = json!({"arm": "pld"});
            job["arms"][2]["layer_drop"]["theta_limit"] = json!(0.9);
            assert!(check(&serde_json::from_value(job.clone()).unwrap()).is_empty());
            job["arms"][arm]["layer_drop"]["gamma"] = json!(1e-2);
        });
        assert_eq!(pointers(&matched), ["/arms/1/match"]);
    }
}

#[test]
fn every_checkpoint_of_a_job_with_probe_is_probed() {
    let job = spec(|job| job["probe"] = json!({"sequences": 32}));
    let expansion = expand(&job, &datasets()).unwrap();
    assert_eq!(expansion.plan.trials.probe, 3);
    let probes = expansion.trials.iter().filter_map(|trial| match &trial.spec.recipe {
        Recipe::Probe(probe) => Some((trial, probe)),
        _ => None,
    });
    for (trial, probe) in probes {
        let source = &expansion.trials[trial.waits_for.unwrap()];
        assert_eq!(Recipe::Pretrain((*probe.from).clone()), source.spec.recipe);
        assert_eq!((&trial.arm, probe.from_seeds, probe.sequences), (&source.arm, source.spec.seeds, 32));
    }
    let none = spec(|job| job["probe"] = json!({"sequences": 0, "shuffles": 1001}));
    assert_eq!(pointers(&none), ["/probe/sequences", "/probe/shuffles"]);
}

#[test]
fn an_impossible_match_is_refused_with_a_pointer_to_it() {
    let arms = |extra: serde_json::Value| {
        spec(|job| {
            job["arms"].as_array_mut().unwrap().push(json!({"name": "x", "layer_drop": {}}));
            job["arms"][3].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        })
    };
    assert!(pointers(&arms(json!({"match": {"arm": "pld"}}))).is_empty());
    assert_eq!(pointers(&arms(json!({"match": {"arm": "nobody"}}))), ["/arms/3/match/arm", "/arms/3/match"]);
    assert_eq!(pointers(&arms(json!({"match": {"arm": "x"}}))), ["/arms/3/match/arm", "/arms/3/match"]);
    // Polynomial of a high power: nothing is dropped until the very end.
    let late = json!({"match": {"arm": "pld"}, "layer_drop": {"schedule": "polynomial", "power": 50}});
    assert_eq!(pointers(&arms(late)), ["/arms/3/match"]);
    let other = json!({"match": {"arm": "pld"}, "objective": {"electra": {}}});
    assert_eq!(pointers(&arms(other)), ["/arms/3/match/arm"]);
    let none = json!({"match": {"arm": "pld"}, "layer_drop": null});
    assert_eq!(pointers(&arms(none)), ["/arms/3/match", "/arms/3/match"]);
}

#[test]
fn a_problem_of_an_arms_own_setting_points_into_the_arm() {
    let of = |extra: serde_json::Value| {
        pointers(&spec(|job| job["arms"][1].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone())))
    };
    assert_eq!(of(json!({"order": "sf"})), ["/arms/1/order"]);
    assert_eq!(of(json!({"embedding": 64})), ["/arms/1/embedding"]);
    assert_eq!(of(json!({"objective": {"rate": 2}})), ["/arms/1/objective/rate"]);
    assert_eq!(of(json!({"optimizer": {"beta1": 2}})), ["/arms/1/optimizer/beta1"]);
    assert_eq!(of(json!({"micro_batches": 5})), ["/arms/1/micro_batches"]);
    assert_eq!(of(json!({"growth": {"stages": []}})), ["/arms/1/growth/stages"]);
}

#[test]
fn all_problems_are_reported_at_once_with_pointers_to_them() {
    let bad = spec(|job| {
        job["name"] = json!(" ");
        job["pretrain"]["steps"] = json!(0);
        job["arms"][0]["embedding_norm"] = json!(false);
        job["arms"][1]["name"] = json!("post-ln");
        job["arms"][2]["layer_drop"]["theta_limit"] = json!(2);
        job["glue"]["tasks"] = json!(["rte", "squad", "rte"]);
        job["glue"]["learning_rates"] = json!([1e-4, -1]);
        job["timing"] = json!({"rounds": 0});
    });
    assert_eq!(
        pointers(&bad),
        [
            "/name",
            "/arms/1/name",
            "/baseline",
            "/glue/tasks/1",
            "/glue/tasks/2",
            "/arms/0/embedding_norm",
            "/pretrain/steps",
            "/glue/learning_rates/1",
            "/arms/2/layer_drop/theta_limit",
            "/timing/rounds"
        ]
    );
}

#[test]
fn theta_limits_at_and_beyond_the_ends_are_refused() {
    for (limit, fits) in [(0.0, false), (1e-9, true), (1.0, true), (2.0, false)] {
        let job = spec(|job| job["arms"][2]["layer_drop"]["theta_limit"] = json!(limit));
        assert_eq!(check(&job).is_empty(), fits, "{limit}");
    }
}

#[test]
fn a_wrong_learning_rate_is_pointed_to_in_the_arm_or_in_the_job() {
    let own = spec(|job| job["arms"][1]["learning_rate"] = json!({"peak": 0}));
    assert_eq!(pointers(&own), ["/arms/1/learning_rate/peak"]);
    let shared = spec(|job| job["pretrain"]["learning_rate"] = json!({"peak": 0}));
    assert_eq!(pointers(&shared), ["/pretrain/learning_rate/peak"]);
}

#[test]
fn an_unknown_model_and_an_impossible_shape_are_refused() {
    assert_eq!(pointers(&spec(|job| job["model"] = json!("huge"))), ["/model"]);
    let shape = json!({"blocks": 2, "hidden": 10, "heads": 3, "intermediate": 4});
    assert_eq!(pointers(&spec(|job| job["model"] = shape)), ["/model/heads"]);
}

#[test]
fn a_job_with_too_many_trials_is_refused_without_being_expanded() {
    let job = spec(|job| {
        job["pretrain"]["seeds"] = json!(10_000);
        job["glue"]["seeds"] = json!(10_000);
    });
    assert_eq!(pointers(&job), [""]);
}

#[test]
fn a_task_that_the_dataset_lacks_is_refused() {
    let job = spec(|job| job["glue"]["tasks"] = json!(["rte", "mnli"]));
    let problems = expand(&job, &datasets()).unwrap_err();
    assert_eq!(problems[0].pointer, "/glue/tasks/1");
}

#[test]
fn an_arm_from_a_checkpoint_is_fine_tuned_and_neither_timed_nor_pre_trained() {
    let job = with_checkpoint(|job| job["pretrain"]["seeds"] = json!(2));
    let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
    assert_eq!(plan.trials, PlannedTrials { timing: 1, pretrain: 6, finetune: 7 * 15, probe: 0 });
    assert_eq!(plan.trials, planned(&job));
    let Recipe::Timing(timing) = &trials[0].spec.recipe else { panic!("a timing trial") };
    assert_eq!(
        timing.arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>(),
        ["post-ln", "pre-ln", "pld", "pre-ln (again)"]
    );
    let of_bert: Vec<&NewTrial> = trials.iter().filter(|trial| trial.arm.as_deref() == Some("bert")).collect();
    assert_eq!(of_bert.len(), 15);
    for trial in of_bert {
        let Recipe::Finetune(recipe) = &trial.spec.recipe else { panic!("a fine-tune trial") };
        let Source::Published(published) = &recipe.from else { panic!("from a published checkpoint") };
        assert_eq!((published.checkpoint.name.as_str(), published.checkpoint.digest.is_some()), ("bert-base", true));
        assert_eq!(
            (trial.waits_for, recipe.from_seeds, trial.spec.recipe.validate()),
            (None, Seeds::default(), vec![])
        );
    }
    let bert = plan.arms.iter().find(|arm| arm.name == "bert").unwrap();
    assert_eq!((bert.pretrain_flops, bert.encoder_saving, bert.theta_limit), (0.0, 0.0, None));
}

#[test]
fn a_job_of_checkpoints_alone_needs_no_corpus_and_times_nothing() {
    let job = spec(|job| {
        job["arms"] = json!([{"name": "bert", "checkpoint": "bert-base"}]);
        job.as_object_mut().unwrap().remove("baseline");
    });
    let datasets = Datasets { corpus: None, vocabulary: None, ..datasets() };
    let Expansion { trials, plan } = expand(&job, &datasets).unwrap();
    assert_eq!(plan.trials, PlannedTrials { finetune: 15, ..PlannedTrials::default() });
    assert!(trials.iter().all(|trial| trial.waits_for.is_none()));
}

#[test]
fn a_published_checkpoint_is_probed_with_its_own_words_and_the_jobs_text() {
    let job = with_checkpoint(|job| {
        job["glue"] = json!(null);
        job["probe"] = json!({"sequences": 48, "shuffles": 3});
        job["pretrain"]["objective"] = json!({"next_sentence": true});
    });
    let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
    assert_eq!(plan.trials, planned(&job));
    assert_eq!((plan.trials.pretrain, plan.trials.probe), (3, 4));
    let last = trials.last().unwrap();
    let Recipe::Probe(probe) = &last.spec.recipe else { panic!("{last:?}") };
    assert_eq!((last.arm.as_deref(), last.waits_for, last.spec.recipe.validate()), (Some("bert"), None, vec![]));
    let DatasetFacts::Checkpoint { model, .. } = checkpoint() else { unreachable!() };
    assert_eq!((&probe.from.model, probe.sequences, probe.shuffles), (&model, 48, 3));
    assert_eq!(probe.published.as_ref().map(|dataset| dataset.name.as_str()), Some("bert-base"));
    assert!(!probe.from.objective.next_sentence);

    // Its model has 256 positions.
    let long = with_checkpoint(|job| {
        job["arms"] = json!([{"name": "bert", "checkpoint": "bert-base"}]);
        job["baseline"] = json!("bert");
        job["probe"] = json!({});
        job["pretrain"]["length"] = json!(300);
    });
    let problems = expand(&long, &datasets()).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/pretrain/length"]);
}

#[test]
fn settings_that_a_checkpoint_excludes_are_refused_with_a_pointer_to_them() {
    let of = |change: &dyn Fn(&mut serde_json::Value)| pointers(&with_checkpoint(change));
    assert_eq!(of(&|_| ()), [] as [&str; 0]);
    for (field, value) in [
        ("norm", json!("pre")),
        ("order", json!("sfsf")),
        ("layer_drop", json!({"theta_limit": 0.5})),
        ("match", json!({"arm": "pld"})),
        ("growth", json!({"stages": []})),
        ("objective", json!({"rate": 0.2})),
        ("optimizer", json!({"weight_decay": 0.1})),
        ("micro_batches", json!(2)),
        ("embedding", json!(64)),
        ("learning_rate", json!({"peak": 1e-3})),
        ("embedding_norm", json!(true)),
    ] {
        assert_eq!(of(&|job| job["arms"][3][field] = value.clone()), [format!("/arms/3/{field}")], "{field}");
    }
    assert_eq!(of(&|job| job["glue"] = json!(null)), ["/arms/3/checkpoint"]);
    assert_eq!(of(&|job| job["baseline"] = json!("bert")), ["/baseline"]);
    let matched = |job: &mut serde_json::Value| job["arms"][2]["match"] = json!({"arm": "bert"});
    assert_eq!(of(&matched), ["/arms/2/match/arm", "/arms/2/match"]);
}

#[test]
fn a_length_beyond_the_positions_of_a_checkpoint_is_refused() {
    let job = with_checkpoint(|job| job["glue"]["length"] = json!(300));
    let problems = expand(&job, &datasets()).unwrap_err();
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/glue/length"], "{problems:?}");
}

#[test]
fn each_choice_of_kept_blocks_has_trials_of_its_own() {
    let keeps = |keep: serde_json::Value| with_checkpoint(|job| job["glue"]["keep"] = keep);
    let job = keeps(json!(["all", "every_other", {"first": 4}]));
    let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
    assert_eq!(plan.trials.finetune, 4 * 3 * 15);
    assert_eq!(plan.trials, planned(&job));
    let blocks = |wanted: u32| {
        let kept = |trial: &&NewTrial| matches!(&trial.spec.recipe, Recipe::Finetune(r) if r.model().blocks == wanted);
        trials.iter().filter(kept).count()
    };
    assert_eq!([blocks(12), blocks(6), blocks(4)], [60; 3]);
    let first = |keep: KeptBlocks| {
        let of = |trial: &&NewTrial| matches!(&trial.spec.recipe, Recipe::Finetune(r) if r.keep == keep);
        trials.iter().find(of).unwrap().work
    };
    assert!((first(KeptBlocks::All) / first(KeptBlocks::First(4)) - 3.0).abs() < 1e-9);

    let one = expand(&keeps(json!({"first": 4})), &datasets()).unwrap();
    assert_eq!(one.plan.trials.finetune, 4 * 15);
    assert_eq!(pointers(&keeps(json!({"first": 13}))), ["/glue/keep"]);
    assert_eq!(pointers(&keeps(json!(["all", {"first": 13}]))), ["/glue/keep/1"]);
    assert_eq!(pointers(&keeps(json!(["all", "all"]))), ["/glue/keep/1"]);
    assert_eq!(pointers(&keeps(json!([]))), ["/glue/keep"]);
}

proptest! {
    #[test]
    fn seeds_are_shared_between_arms_and_differ_within_them(
        seeds in 1u32..4, tasks in 1usize..4, rates in 1usize..3, glue_seeds in 1u32..4, timing: bool
    ) {
        let job = spec(|job| {
            job["pretrain"]["seeds"] = json!(seeds);
            job["glue"]["tasks"] = json!(["rte", "mrpc", "cola"][..tasks]);
            job["glue"]["learning_rates"] = json!([1e-4, 3e-4][..rates]);
            job["glue"]["seeds"] = json!(glue_seeds);
            if !timing { job["timing"] = json!(null); }
        });
        let Expansion { trials, plan } = expand(&job, &datasets()).unwrap();
        prop_assert_eq!(plan.trials, planned(&job));
        prop_assert_eq!(plan.trials.total(), trials.len() as u64);
        let key = |trial: &NewTrial| {
            (trial.stage(), trial.task, trial.learning_rate.map(f64::to_bits), trial.spec.seeds,
             trial.waits_for.map(|source| trials[source].spec.seeds))
        };
        let of = |arm: &str| -> Vec<_> {
            trials.iter().filter(|trial| trial.arm.as_deref() == Some(arm)).map(key).collect()
        };
        let baseline = of("pre-ln");
        prop_assert_eq!(&baseline, &of("pld"));
        let distinct: HashSet<_> = baseline.iter().collect();
        prop_assert_eq!(distinct.len(), baseline.len());
        let identities: HashSet<_> =
            trials.iter().map(|trial| (trial.spec.recipe.fingerprint(), trial.spec.seeds)).collect();
        prop_assert_eq!(identities.len(), trials.len(), "no two trials are the same work");
        // In the order in which they are served, nothing waits for what comes later.
        prop_assert!(trials.iter().enumerate().all(|(at, trial)| trial.waits_for.is_none_or(|source| source < at)));
    }
}

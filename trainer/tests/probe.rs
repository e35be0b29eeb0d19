//! What a probe reports about each block, and what a timing reports about memory.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use program::{Bench, changed, finish, pretrain, spec, without_stage};
use recipe::report::ProbeReport;
use recipe::seeds::{generator, permutation};
use recipe::{FailureKind, Gate, Pretrain, Probe, Purpose, Seeds};
use serde_json::{Value, json};
use tch::{Device, Tensor, no_grad};
use trainer::attempt::Ended;
use trainer::data::pretrain_batch::PretrainBatch;
use trainer::data::tokens::{Shards, VocabularySource};
use trainer::objective::{LossContext, ReplacementKey};
use trainer::pretraining::Pretraining;
use trainer::recompute::Tape;
use trainer::stages::probe::probe;
use trainer::train::Training;

#[test]
fn a_probe_finds_the_block_that_does_nothing() {
    let bench = Bench::new();
    for change in [json!({}), json!({"electra": {"divisor": 2}}), json!({"next_sentence": true})] {
        let mut recipe = pretrain(5);
        recipe["objective"] = change;
        let mut training = training(&bench, recipe);
        // Block 2 adds nothing: the output projections of both its halves are zero.
        for (name, mut value) in training.weights().named() {
            let ends = [".layer.1.attention.output.dense", ".layer.1.output.dense"];
            if ends.iter().any(|end| name.contains(end)) && !name.starts_with("generator") {
                let _ = no_grad(|| value.zero_());
            }
        }
        let from = Box::new(training.recipe().clone());
        let rule = Probe { from, published: None, from_seeds: Seeds::default(), sequences: 8, shuffles: 3 };
        let mut progress = Vec::new();
        let ended = probe(&mut training, &rule, 1, 5, |done, total| {
            progress.push((done, total));
            Ok(ControlFlow::Continue(()))
        });
        let Ok(Ended::Finished(report)) = ended else { panic!("{ended:?}") };
        let loss = report.validation_loss;
        let idle = report.blocks[1];
        assert!((idle.state.cosine - 1.0).abs() < 1e-6 && idle.state.distance == 0.0, "{idle:?}");
        assert!((idle.removed_loss - loss).abs() < 1e-6, "{idle:?} of {loss}");
        for block in [0, 2] {
            let found = report.blocks[block];
            assert!(found.state.cosine < 1.0 && found.state.distance > 0.0, "{found:?}");
            assert!(found.removed_loss != loss, "{found:?} of {loss}");
        }
        // Changing places with an idle neighbour changes nothing. The last block has no neighbour behind it.
        let swapped: Vec<Option<f64>> = report.blocks.iter().map(|block| block.swapped_loss).collect();
        assert!((swapped[0].unwrap() - loss).abs() < 1e-6 && (swapped[1].unwrap() - loss).abs() < 1e-6, "{swapped:?}");
        assert_eq!(swapped[2], None);
        // With one idle block of three, an order is the original one or has the other two blocks swapped.
        assert_eq!(report.shuffled_losses.len(), 3);
        let outcomes: BTreeSet<i64> = report.shuffled_losses.iter().map(|loss| (loss * 1e4).round() as i64).collect();
        assert!(outcomes.len() <= 2, "{outcomes:?}");
        assert_eq!((progress.last(), progress.len()), (Some(&(9, 9)), 9));
        // It can be interrupted after each of its losses.
        for last in 1..=9 {
            let mut measured = 0;
            let ended = probe(&mut training, &rule, 1, 5, |done, _| {
                measured = done;
                Ok(if done == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            assert!(matches!(ended, Ok(Ended::Interrupted { step: 0 })), "{ended:?}");
            assert_eq!(measured, last);
        }
    }
}

#[test]
fn a_probe_compares_the_losses_of_models_with_removed_swapped_and_shuffled_blocks() {
    const SEED: u64 = 7;
    let bench = Bench::new();
    let mut whole = training(&bench, pretrain(5));
    for (name, mut value) in whole.weights().named() {
        // The weights are made so large that the order matters.
        if name.contains(".layer.") && name.ends_with("dense.weight") {
            let _ = no_grad(|| value.g_mul_scalar_(20.0));
        }
    }
    // The loss of a separate model that is built from these blocks.
    let loss_of = |blocks: &[u32]| {
        let mut recipe = pretrain(5);
        recipe["model"]["blocks"] = json!(blocks.len());
        let mut model = training(&bench, recipe);
        let source = whole.weights().named();
        for (name, mut value) in model.weights().named() {
            let from = match name.split_once(".layer.") {
                None => name,
                Some((before, after)) => {
                    let (place, rest) = after.split_once('.').unwrap();
                    format!("{before}.layer.{}.{rest}", blocks[place.parse::<usize>().unwrap()])
                }
            };
            no_grad(|| value.copy_(&source[&from]));
        }
        model.evaluate(&vec![Gate::OPEN; 2 * blocks.len()]).headline
    };
    let orders = (0..4).map(|draw| permutation(&mut generator(SEED, Purpose::Shuffle, draw, u64::MAX), 3));
    let shuffled: Vec<f64> = orders.map(|order| loss_of(&order)).collect();
    let expected = [[0, 1, 2].as_slice(), &[1, 2], &[0, 2], &[0, 1], &[1, 0, 2], &[0, 2, 1]].map(loss_of);
    let from = Box::new(whole.recipe().clone());
    let rule = Probe { from, published: None, from_seeds: Seeds::default(), sequences: 8, shuffles: 4 };
    let report = probed(&mut whole, &rule, SEED, 5);
    let removed = report.blocks.iter().map(|block| block.removed_loss);
    let swapped = report.blocks.iter().filter_map(|block| block.swapped_loss);
    let found: Vec<f64> = std::iter::once(report.validation_loss).chain(removed).chain(swapped).collect();
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-6, "{index}: {found}, expected {expected}");
    }
    for other in &expected[1..] {
        assert!((other - expected[0]).abs() > 1e-4, "{expected:?}: each order changes the loss");
    }
    for (found, expected) in report.shuffled_losses.iter().zip(&shuffled) {
        assert!((found - expected).abs() < 1e-6, "{:?}, expected {shuffled:?}", report.shuffled_losses);
    }
    assert!(shuffled.iter().any(|loss| (loss - expected[0]).abs() > 1e-4), "{shuffled:?}");
    assert_eq!((found.len(), report.shuffled_losses.len()), (6, 4));
    // Afterwards, the model is unchanged.
    assert_eq!(whole.evaluate(&[Gate::OPEN; 6]).headline, report.validation_loss);
}

#[test]
fn only_the_existing_blocks_of_a_growing_model_are_probed() {
    let bench = Bench::new();
    let mut recipe = pretrain(10);
    recipe["layer_drop"] = json!(null);
    recipe["growth"] = json!({"stages": [{"blocks": 2, "until": 0.5}], "new": "copy"});
    let mut model = training(&bench, recipe.clone());
    recipe["growth"] = json!(null);
    recipe["model"]["blocks"] = json!(2);
    let mut of_two = training(&bench, recipe);
    for (step, blocks) in [(5, 2), (6, 3)] {
        let from = Box::new(model.recipe().clone());
        let rule = Probe { from, published: None, from_seeds: Seeds::default(), sequences: 8, shuffles: 1 };
        let report = probed(&mut model, &rule, 7, step);
        assert_eq!(report.blocks.len(), blocks);
        assert_eq!(report.blocks.last().unwrap().swapped_loss, None);
        if blocks == 2 {
            let rule = Probe { from: Box::new(of_two.recipe().clone()), ..rule };
            assert_eq!(probed(&mut of_two, &rule, 7, step), report);
        }
    }
}

#[test]
fn the_gradient_norm_of_a_block_is_that_of_the_mean_loss() {
    let bench = Bench::new();
    let training = training(&bench, pretrain(5));
    let gates = vec![Gate::OPEN; 6];
    let found = training.block_states(&gates);
    let batches: Vec<_> = training.held_out().collect();
    let labels_in_step = batches.iter().map(PretrainBatch::label_count).sum();
    for batch in &batches {
        let replacements = ReplacementKey { seed: 0, step: 0, micro_batch: 0 };
        let micro_batches = batches.len() as u32;
        let context = LossContext { labels_in_step, micro_batches, noise: None, replacements };
        let loss = training.objective().loss(batch, &gates, &context, None);
        Tape::default().differentiate(training.weights(), &loss, &[true; 7]);
    }
    for (block, found) in found.iter().enumerate() {
        let both = Tensor::cat(&[1, 2].map(|half| training.weights().groups()[2 * block + half].gradient()), 0);
        let expected = both.norm().double_value(&[]);
        assert!((found.gradient_norm - expected).abs() < 1e-5 * expected, "{found:?}, expected {expected}");
    }
}

#[test]
fn the_program_probes_the_checkpoint_of_the_recipe_and_refuses_another() {
    let bench = Bench::new();
    let mut recipe = pretrain(10);
    recipe["validation_sequences"] = json!(16);
    recipe["probe"] = json!(true);
    let trained = finish(&mut bench.command("pretrain", "pretrain", &spec(recipe.clone()))).succeeded();
    for name in ["block_1_cosine", "block_2_distance", "block_3_gradient_norm"] {
        assert_eq!(trained.points(name).len(), 1, "{name}: one value at each validation");
    }
    let probe = |recipe: &Value| {
        json!({"stage": "probe", "from": without_stage(recipe.clone()),
        "from_seeds": spec(json!({}))["seeds"], "sequences": 16, "shuffles": 2})
    };
    let run = |out: &str, recipe: &Value| {
        let mut command = bench.command(out, out, &spec(probe(recipe)));
        finish(command.arg("--from").arg(bench.checkpoint("pretrain")))
    };
    let report = run("probe", &recipe).succeeded().report();
    assert_eq!(report["step"], 10);
    let (loss, expected) = (&report["validation_loss"], &trained.report()["validation_loss"]);
    assert!((loss.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-6, "{loss}, expected {expected}");
    let (_, bits) = trained.points("block_3_gradient_norm")[0];
    assert_eq!(report["blocks"][2]["gradient_norm"].as_f64().map(f64::to_bits), Some(bits));
    let other = run("other", &pretrain(11));
    assert_eq!(other.failure().kind, FailureKind::CorruptCheckpoint);
    let mut empty = probe(&recipe);
    empty["sequences"] = json!(0);
    let refused = finish(&mut bench.command("empty", "empty", &spec(empty)));
    assert!(refused.failure().message.contains("--from") || refused.failure().message.contains("/recipe/sequences"));
}

#[test]
fn a_published_checkpoint_gives_the_same_probe_as_one_of_a_pretrain_trial() {
    let bench = Bench::new();
    let recipe = without_stage(changed(pretrain(5), &json!({"layer_drop": null})));
    finish(&mut bench.command("pretrain", "pretrain", &spec(pretrain(5)))).succeeded();
    let folder = bench.path("published");
    fs::create_dir(&folder).unwrap();
    for file in ["config.json", "model.safetensors", "vocab.txt"] {
        fs::copy(bench.checkpoint("pretrain").join(file), folder.join(file)).unwrap();
    }
    let checkpoint = json!({"name": "somebody's"});
    let run = |out: &str, from: &Path, change: Value| {
        let probe = json!({"stage": "probe", "from": recipe, "from_seeds": spec(json!({}))["seeds"], "sequences": 16, "shuffles": 2});
        finish(bench.command(out, out, &spec(changed(probe, &change))).arg("--from").arg(from))
    };
    let own = json!({"from": {"layer_drop": {"theta_limit": 0.5}}});
    let mut expected = run("own", &bench.checkpoint("pretrain"), own).succeeded().report();
    let of_file = json!({"kind": "file", "dataset": checkpoint, "size": null});
    let published = json!({"published": checkpoint, "from": {"vocabulary": of_file}});
    let report = run("other", &folder, published.clone()).succeeded().report();
    expected["step"] = json!(0);
    assert_eq!(report, expected);
    // The model may be left out, because the file describes it.
    let unsaid = json!({"published": checkpoint, "from": {"vocabulary": of_file, "model": null}});
    assert_eq!(run("unsaid", &folder, unsaid).succeeded().report(), expected);

    // A checkpoint that transformers saved, with more rows in the embeddings than tokens.
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published/bert");
    let model = json!({"blocks": 2, "hidden": 32, "heads": 4, "intermediate": 37, "positions": 40, "norm": "post"});
    let padded = changed(published.clone(), &json!({"from": {"model": model}}));
    let report = run("theirs", &theirs, padded).succeeded().report();
    assert_eq!(report["blocks"].as_array().unwrap().len(), 2);
    // The checkpoint was never trained, so its loss is about ln 29, for 29 rows.
    assert!((report["validation_loss"].as_f64().unwrap() - f64::ln(29.0)).abs() < 0.5, "{report}");

    for (name, change, message) in [
        ("model", json!({"from": {"model": {"blocks": 2}}}), "/recipe/from/model/blocks"),
        ("head", json!({"from": {"objective": {"next_sentence": true}}}), "/recipe/published"),
        (
            "trained",
            json!({"from": {"vocabulary": {"kind": "trained", "size": 200, "dataset": null}}}),
            "/recipe/published",
        ),
    ] {
        let refused = run(name, &folder, changed(published.clone(), &change));
        let failure = refused.failure();
        assert_eq!(failure.kind, FailureKind::InvalidRecipe, "{failure:?}");
        assert!(failure.message.contains(message) || refused.log.contains(message), "{failure:?}");
    }
}

#[test]
fn memory_grows_with_the_open_sublayers_and_is_less_with_recomputation() {
    let bench = Bench::new();
    let timed = |out: &str, changes: &[Value], largest: Value| {
        let arm = |(index, change): (usize, &Value)| {
            let mut recipe = without_stage(pretrain(100));
            recipe["layer_drop"] = json!({"schedule": "constant", "theta_limit": 0.3, "unit": "independent"});
            for (key, value) in change.as_object().unwrap() {
                recipe[key] = value.clone();
            }
            json!({"name": index.to_string(), "recipe": recipe})
        };
        let arms: Vec<Value> = changes.iter().enumerate().map(arm).collect();
        let mut recipe = json!({"stage": "timing", "arms": arms, "rounds": 12, "steps_per_turn": 1, "warmup_steps": 2});
        if !largest.is_null() {
            recipe["largest_batch"] = largest;
        }
        finish(&mut bench.command(out, out, &spec(recipe))).succeeded().report()["arms"].clone()
    };
    let arms = timed("memory", &[json!({}), json!({"recompute": true}), json!({"precision": "bfloat16"})], json!(null));
    let elements = training(&bench, pretrain(5)).weights().elements() as u64;
    let memory = |arm: usize, field: &str| arms[arm]["memory"][field].as_u64().unwrap();
    // Float32 weights, their gradient and its two moments; with bfloat16, a copy of the weights.
    assert_eq!(memory(0, "state_bytes"), 16 * elements);
    assert_eq!(memory(2, "state_bytes"), 18 * elements);
    assert!(memory(1, "peak_bytes") < memory(0, "peak_bytes"), "{arms}");
    assert!(memory(2, "peak_bytes") - memory(2, "state_bytes") < memory(0, "peak_bytes") - memory(0, "state_bytes"));
    let rows = arms[0]["memory"]["by_open"].as_array().unwrap();
    let peaks: Vec<u64> = rows.iter().map(|row| row["peak_bytes"].as_u64().unwrap()).collect();
    assert!(rows.len() > 1 && peaks.first() < peaks.last(), "{arms}");
    assert_eq!(rows.iter().map(|row| row["steps"].as_u64().unwrap()).sum::<u64>(), 24);
    assert!(memory(0, "state_bytes") < memory(0, "mean_bytes") && memory(0, "mean_bytes") < memory(0, "peak_bytes"));

    // The largest batch is the largest that fits.
    let limit = memory(0, "peak_bytes") + 3_000_000;
    let plain = json!({"layer_drop": null});
    let found = timed("largest", std::slice::from_ref(&plain), json!({"limit_bytes": limit}));
    let batch = found[0]["largest_batch"].as_u64().unwrap();
    let peak = |batch: u64| {
        let out = format!("batch-{batch}");
        let arms = timed(&out, &[json!({"layer_drop": null, "batch": batch})], json!(null));
        arms[0]["memory"]["peak_bytes"].as_u64().unwrap()
    };
    assert!(batch > 5 && peak(batch) <= limit, "{batch}: {} of {limit}", peak(batch));
    assert!(peak(batch + 1) > limit, "{batch}: one more takes {} of {limit}", peak(batch + 1));
    assert_eq!(timed("none", &[plain], json!({"limit_bytes": 1}))[0]["largest_batch"], 0);
}

/// The report of a probe that is not interrupted.
fn probed(training: &mut Pretraining, rule: &Probe, seed: u64, step: u64) -> ProbeReport {
    let ended = probe(training, rule, seed, step, |_, _| Ok(ControlFlow::Continue(())));
    let Ok(Ended::Finished(report)) = ended else { panic!("{ended:?}") };
    report
}

/// A model at its starting values, on the bench's text.
fn training(bench: &Bench, recipe: Value) -> Pretraining {
    let recipe: Pretrain = serde_json::from_value(without_stage(recipe)).unwrap();
    let source = VocabularySource::Trained { size: 200 };
    let (corpus, cache) = (bench.path("text.txt"), bench.path("cache"));
    let shards =
        Shards::build_or_open(&corpus, &source, &cache, recipe.held_out, recipe.length, &mut |_, _, _| ()).unwrap();
    Pretraining::new(recipe, Seeds::default(), Arc::new(shards), Device::Cpu)
}

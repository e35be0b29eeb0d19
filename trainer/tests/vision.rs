//! Layer drop on images: a classifier and a pixel model, with the blocks, gates, schedules, probes and checkpoints of
//! BERT.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use images::Images;
use program::{Bench, Exited, Running, changed, finish, learned, pretrain, spec, without_stage};
use recipe::seeds::{Purpose, below, generator};
use recipe::{Event, FailureKind, Gate, Moment, Pretrain, Seeds};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::bert::{Encoder, Family, Input, LabelHead};
use trainer::data::material::Material;
use trainer::pretraining::Pretraining;
use trainer::recompute::Tape;
use trainer::train::Training;

const CLASSES: u32 = 3;
const SIDE: u32 = 8;
const KINDS: [&str; 2] = ["classifier", "pixels"];

/// A bench whose images are 8 x 8 pixels of noise with a bright band: at the top, in the middle or at the bottom.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("images")).unwrap();
    for (part, count) in [("train", 150), ("t10k", 45)] {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for image in 0..count {
            let class = image % CLASSES;
            let mut draws = generator(u64::from(count), Purpose::Shuffle, image.into(), 0);
            values.extend((0..SIDE * SIDE).map(|pixel| {
                let bright = pixel / SIDE * CLASSES / SIDE == class;
                (below(&mut draws, 56) + if bright { 200 } else { 0 }) as u8
            }));
            labels.push(class as u8);
        }
        let path = |what: &str| bench.path("images").join(format!("{part}-{what}-ubyte"));
        fs::write(path("images-idx3"), idx(&[count, SIDE, SIDE], &values)).unwrap();
        fs::write(path("labels-idx1"), idx(&[count], &labels)).unwrap();
    }
    bench
}

fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let sizes_bytes = sizes.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes_bytes).chain(elements.iter().copied()).collect()
}

/// The plain recipe of `program::pretrain` on images.
fn recipe(kind: &str, change: &Value, steps: u64) -> Value {
    let images = match kind {
        "classifier" => json!({"images": {"kind": "classifier", "patch": 2}, "length": 17}),
        _ => json!({"images": {"kind": "pixels", "levels": 4}, "length": 64}),
    };
    let plain = json!({"vocabulary": null, "learning_rate": {"peak": 3e-3}, "batch": 6});
    changed(changed(changed(pretrain(steps), &plain), &images), change)
}

fn methods() -> Vec<(&'static str, Value)> {
    let stages = json!([{"blocks": 1, "until": 0.3}, {"blocks": 2, "until": 0.6}]);
    vec![
        ("pre-ln", json!({"layer_drop": null, "model": {"embedding_norm": false}})),
        ("post-ln", json!({"layer_drop": null, "model": {"norm": "post"}})),
        ("pld", json!({})),
        ("per-sequence", json!({"layer_drop": {"draw": "sequence", "unit": "independent"}, "micro_batches": 2})),
        ("recompute", json!({"recompute": true})),
        ("bfloat16", json!({"precision": "bfloat16", "recompute": true, "layer_drop": {"draw": "sequence"}})),
        ("stacked", json!({"layer_drop": null, "growth": {"stages": stages}})),
    ]
}

/// Further methods that are only tested for learning. Killing and resuming them is tested with text.
fn more_methods() -> Vec<(&'static str, Value)> {
    let drop = |settings: Value| json!({"layer_drop": settings});
    let stages = json!([{"blocks": 1, "until": 0.3}, {"blocks": 2, "until": 0.6}]);
    vec![
        ("sandwich", json!({"layer_drop": null, "model": {"order": "ssfsff"}})),
        ("stochastic-depth", drop(json!({"schedule": "constant", "depth": "uniform", "theta_limit": 0.7}))),
        ("layerdrop", drop(json!({"schedule": "constant", "depth": "uniform", "theta_limit": 0.8, "scale": false}))),
        ("decreasing", drop(json!({"schedule": "linear", "direction": "decreasing"}))),
        ("cosine-attention-only", drop(json!({"schedule": "cosine", "unit": "attention"}))),
        ("systematic", drop(json!({"sampler": "systematic", "theta_limit": 0.6}))),
        ("top", drop(json!({"sampler": "top", "theta_limit": 0.6}))),
        ("grown", json!({"layer_drop": null, "growth": {"stages": stages, "new": "fresh", "optimizer": "reset"}})),
        ("lamb", json!({"optimizer": {"algorithm": "lamb"}, "learning_rate": {"peak": 0.02}})),
    ]
}

fn values(run: &Exited, name: &str) -> Vec<f64> {
    run.points(name).into_iter().map(|(_, bits)| f64::from_bits(bits)).collect()
}

#[test]
fn both_models_learn_with_every_method() {
    let bench = bench();
    for kind in KINDS {
        let more = if kind == "classifier" { more_methods() } else { Vec::new() };
        for (method, change) in methods().into_iter().chain(more) {
            let name = format!("{kind}-{method}");
            let run = finish(&mut bench.command(&name, &name, &spec(recipe(kind, &change, 120)))).succeeded();
            let (losses, accuracies) = (values(&run, "validation_loss"), values(&run, "validation_accuracy"));
            assert_eq!(losses.len(), 12);
            assert!(losses[11] < losses[0] - 0.1, "{name}: {losses:?}");
            let answers = if kind == "classifier" { f64::from(CLASSES) } else { 4.0 };
            assert_eq!(run.report()["guess_loss"].as_f64(), Some(answers.ln()), "{name}");
            if kind == "classifier" {
                // Chance would give one third. Information reaches the class token only through the blocks.
                assert!(accuracies[11] > 0.8, "{name}: {accuracies:?}");
            } else {
                // Without the intensities before it, each of the four levels would cost ln 4.
                assert!(losses[11] < 4f64.ln() / 2.0, "{name}: {losses:?}");
                assert!(accuracies.is_empty());
            }
        }
    }
}

#[test]
fn killed_twice_and_resumed_both_models_end_like_uninterrupted_runs() {
    const STEPS: u64 = 20;
    let bench = bench();
    for kind in KINDS {
        for (method, change) in methods() {
            let name = format!("{kind}-{method}");
            let spec = spec(recipe(kind, &change, STEPS));
            let [whole, broken] = ["whole", "broken"].map(|what| format!("{name}-{what}"));
            let uninterrupted = finish(&mut bench.command(&name, &whole, &spec)).succeeded();
            for after in [6, 12] {
                let mut command = bench.command(&name, &broken, &spec);
                let mut running = Running::start(command.args(["--resume", "--checkpoint-seconds", "0"]));
                assert!(running.until(|event| matches!(event, Event::Checkpointed { step, .. } if *step >= after)));
                running.kill();
            }
            let resumed = finish(bench.command(&name, &broken, &spec).arg("--resume")).succeeded();
            assert!(resumed.resumed_from() >= Some(12), "{name}");
            assert_eq!(resumed.report()["digest"], uninterrupted.report()["digest"], "{name}");
            assert_eq!(resumed.report()["validation_loss"], uninterrupted.report()["validation_loss"], "{name}");
            assert!(learned(&bench.checkpoint(&whole)) == learned(&bench.checkpoint(&broken)), "{name}");
            let folder = bench.checkpoint(&broken);
            assert!(!folder.join("vocab.txt").exists());
            let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
            assert!(config["model_type"].as_str().unwrap().starts_with("lamina-"), "{config}");
        }
    }
}

#[test]
fn a_closed_block_runs_nothing() {
    let bench = bench();
    for kind in KINDS {
        let mut training = training(&bench, recipe(kind, &json!({"recompute": true}), 10));
        for (name, mut value) in training.weights().named() {
            if name.contains(".layer.1.") {
                let _ = no_grad(|| value.fill_(f64::NAN));
            }
        }
        let moment = Moment::of_step(3, 10);
        let mut gates = vec![Gate::OPEN; 6];
        let mut loss = |gates: &[Gate]| {
            let mut tape = Tape::default();
            training.loss(&moment, 0, gates, &mut tape).double_value(&[])
        };
        assert!(loss(&gates).is_nan(), "{kind}: the weights of an open block are used");
        (gates[2], gates[3]) = (Gate::CLOSED, Gate::CLOSED);
        assert!(loss(&gates).is_finite(), "{kind}: the weights of a closed block are not");
    }
}

#[test]
fn recomputation_changes_no_loss() {
    let bench = bench();
    for kind in KINDS {
        let run = |recompute: bool| {
            let name = format!("{kind}-{recompute}");
            let change = json!({"recompute": recompute, "layer_drop": {"draw": "sequence", "theta_limit": 0.3}});
            let run = finish(&mut bench.command(&name, &name, &spec(recipe(kind, &change, 20)))).succeeded();
            run.points("train_loss")
        };
        assert_eq!(run(true), run(false), "{kind}");
    }
}

#[test]
fn an_intensity_is_predicted_only_from_those_before_it() {
    let bench = bench();
    for change in [json!({}), json!({"model": {"norm": "post"}}), json!({"precision": "bfloat16"})] {
        let training = training(&bench, recipe("pixels", &change, 10));
        let held_out = training.held_out().next().unwrap();
        let (length, levels) = (64, 4);
        let weights = training.weights();
        let encoder = Encoder::new(weights, Family::Pixels, &training.recipe().model, -1);
        let logits = |ids: &[i64]| {
            let input = Input::packed(Tensor::from_slice(ids).view([-1, length]), None);
            no_grad(|| LabelHead::new(weights).forward(&encoder.forward(&input, &[Gate::OPEN; 6], None)))
        };
        let shown = &held_out.pixels().ids;
        let before = logits(shown);
        assert_eq!(before.size(), [6, length, levels]);
        // The token at a place is the intensity of the place before.
        for place in [1, 17, 63] {
            let mut other = shown.clone();
            for sequence in other.chunks_mut(length as usize) {
                sequence[place] = (sequence[place] + 1) % levels;
            }
            let off = (logits(&other) - &before).abs().amax([0, 2].as_slice(), false).to_kind(Kind::Double);
            let off: Vec<f64> = Vec::try_from(off).unwrap();
            assert!(off[..place].iter().all(|&off| off < 1e-6), "{change}, place {place}: {off:?}");
            assert!(off[place] > 1e-4, "{change}, place {place}: {off:?}");
        }
    }
}

#[test]
fn the_class_depends_on_every_patch_of_its_image_only() {
    let bench = bench();
    let training = training(&bench, recipe("classifier", &json!({}), 10));
    let held_out = training.held_out().next().unwrap();
    let weights = training.weights();
    let encoder = Encoder::new(weights, Family::Patches, &training.recipe().model, -1);
    let logits = |patches: &[f32]| {
        let input = Input::patches(Tensor::from_slice(patches).view([6, 16, 4]));
        let hidden = encoder.forward(&input, &[Gate::OPEN; 6], None);
        no_grad(|| LabelHead::new(weights).forward(&hidden.select(1, 0)))
    };
    let shown = &held_out.patches().values;
    let before = logits(shown);
    assert_eq!(before.size(), [6, 3]);
    for patch in 0..16 {
        let mut other = shown.clone();
        // Only the first image is changed.
        other[patch * 4] += 0.5;
        let off: Tensor = (logits(&other) - &before).abs().amax([1].as_slice(), false);
        let off: Vec<f64> = Vec::try_from(off.to_kind(Kind::Double)).unwrap();
        assert!(off[0] > 0.0 && off[1..].iter().all(|&off| off < 1e-6), "patch {patch}: {off:?}");
    }
}

#[test]
fn both_models_are_probed() {
    let bench = bench();
    for kind in KINDS {
        let recipe = recipe(kind, &json!({"probe": true, "validation_sequences": 16}), 10);
        let trained = finish(&mut bench.command(kind, kind, &spec(recipe.clone()))).succeeded();
        assert_eq!(trained.points("block_2_cosine").len(), 1, "{kind}");
        let probe = json!({"stage": "probe", "from": without_stage(recipe),
            "from_seeds": spec(json!({}))["seeds"], "sequences": 16, "shuffles": 2});
        let out = format!("{kind}-probe");
        let mut command = bench.command(&out, &out, &spec(probe));
        let report = finish(command.arg("--from").arg(bench.checkpoint(kind))).succeeded().report();
        let (loss, expected) = (&report["validation_loss"], &trained.report()["validation_loss"]);
        assert!((loss.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-6, "{loss}, expected {expected}");
        assert_eq!((&report["sequences"], report["blocks"].as_array().unwrap().len()), (&json!(16), 3));
        let (_, bits) = trained.points("block_3_gradient_norm")[0];
        assert_eq!(report["blocks"][2]["gradient_norm"].as_f64().map(f64::to_bits), Some(bits), "{kind}");
    }
}

#[test]
fn both_models_are_timed_against_each_other() {
    let bench = bench();
    let arms: Vec<Value> = KINDS
        .iter()
        .chain(&["classifier"])
        .map(|kind| json!({"name": kind, "recipe": without_stage(recipe(kind, &json!({}), 50))}))
        .collect();
    let timing = json!({"stage": "timing", "arms": arms, "rounds": 2, "steps_per_turn": 2, "warmup_steps": 1});
    let report = finish(&mut bench.command("timing", "timing", &spec(timing))).succeeded().report();
    let tokens: Vec<&Value> = (0..3).map(|arm| &report["arms"][arm]["tokens_per_step"]).collect();
    assert_eq!(tokens, [6 * 17, 6 * 64, 6 * 17]);
    assert!(report["arms"][1]["memory"]["peak_bytes"].as_u64() > Some(0));
}

#[test]
fn cifar_is_learned() {
    let bench = Bench::new();
    fs::create_dir(bench.path("images")).unwrap();
    // Class 0 is red, class 1 is green and class 2 is blue.
    let record = |image: u64| {
        let mut draws = generator(3, Purpose::Shuffle, image, 0);
        let class = image % 3;
        let plane = |plane: u64| if plane == class { 150 } else { 0 };
        let planes: Vec<u8> = (0..3072).map(|at| (plane(at / 1024) + below(&mut draws, 100)) as u8).collect();
        [vec![class as u8], planes].concat()
    };
    for (file, images) in [("data_batch_1.bin", 0..40), ("data_batch_2.bin", 40..80), ("test_batch.bin", 80..110)] {
        fs::write(bench.path("images").join(file), images.flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
    let recipe = recipe("classifier", &json!({"images": {"patch": 8}}), 60);
    let run = finish(&mut bench.command("cifar", "cifar", &spec(recipe))).succeeded();
    let accuracies = values(&run, "validation_accuracy");
    assert!(accuracies[accuracies.len() - 1] > 0.8, "{accuracies:?}");
}

#[test]
fn a_broken_file_is_bad_data_that_names_it_and_is_left_unchanged() {
    let bench = bench();
    let path = bench.path("images/train-images-idx3-ubyte");
    let sound = fs::read(&path).unwrap();
    for bytes in [&sound[..sound.len() - 1], &sound[..9], b"", b"no images at all"] {
        fs::write(&path, bytes).unwrap();
        let refused = finish(&mut bench.command("broken", "broken", &spec(recipe("classifier", &json!({}), 5))));
        assert_eq!(refused.failure().kind, FailureKind::BadData, "{:?}", refused.failure());
        assert!(refused.failure().message.contains("train-images-idx3-ubyte"), "{:?}", refused.failure());
        assert!(fs::read(&path).unwrap() == bytes);
        assert!(!bench.path("broken/checkpoints").exists());
    }
    // All images are of one class.
    fs::write(&path, &sound).unwrap();
    for (part, count) in [("train", 150), ("t10k", 45)] {
        let labels = bench.path(&format!("images/{part}-labels-idx1-ubyte"));
        fs::write(labels, idx(&[count], &vec![0; count as usize])).unwrap();
    }
    let refused = finish(&mut bench.command("one", "one", &spec(recipe("classifier", &json!({}), 5))));
    assert_eq!(refused.failure().kind, FailureKind::BadData);
    assert!(refused.failure().message.contains("one class"), "{:?}", refused.failure());
}

#[test]
fn settings_that_do_not_apply_to_images_are_refused_at_their_pointer() {
    let bench = bench();
    let trained = json!({"kind": "trained", "size": 200});
    let mut cases = vec![
        (
            recipe("classifier", &json!({"vocabulary": trained}), 5),
            "/recipe/vocabulary: `vocabulary` applies to text only",
        ),
        (
            recipe("pixels", &json!({"objective": {"rate": 0.3}}), 5),
            "/recipe/objective: `objective` applies to text only",
        ),
        (
            recipe("pixels", &json!({"objective": {"electra": {}}}), 5),
            "/recipe/objective: `objective` applies to text only",
        ),
        (
            recipe("pixels", &json!({"objective": {"next_sentence": true}}), 5),
            "/recipe/objective: `objective` applies to text only",
        ),
        (recipe("classifier", &json!({"model": {"embedding": 16}}), 5), "/recipe/model/embedding"),
        (recipe("classifier", &json!({"images": {"patch": 0}}), 5), "/recipe/images/patch"),
        (recipe("pixels", &json!({"images": {"levels": 257}}), 5), "/recipe/images/levels"),
        (recipe("pixels", &json!({"length": 65}), 5), "/recipe/length: 65 tokens: 2 to the model's 64 positions"),
        // These can be found only when the images are read.
        (
            recipe("classifier", &json!({"length": 16}), 5),
            "/recipe/length: 16 tokens: images of 8 x 8 x 1 make sequences of 17",
        ),
        (recipe("classifier", &json!({"images": {"patch": 3}}), 5), "/recipe/images/patch: the patch does not divide"),
        (recipe("text", &json!({"images": null}), 5), "/recipe/vocabulary: a vocabulary is required for text"),
    ];
    let mut finetune = program::finetune(recipe("classifier", &json!({}), 5), 1);
    finetune["length"] = json!(32);
    cases.push((finetune, "/recipe/from/images: a GLUE task reads text"));
    for (recipe, pointer) in cases {
        let mut command = bench.command("odd", "odd", &spec(recipe.clone()));
        let refused = finish(command.arg("--from").arg("/nowhere"));
        assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe, "{:?}", refused.failure());
        assert!(refused.failure().message.contains(pointer), "{pointer} in {:?}", refused.failure());
        assert!(!bench.path("odd/checkpoints").exists(), "nothing was written");
    }
}

/// A model at its starting values, on the bench's images.
fn training(bench: &Bench, recipe: Value) -> Pretraining {
    let recipe: Pretrain = serde_json::from_value(without_stage(recipe)).unwrap();
    let folder: &Path = &bench.path("images");
    let images = Arc::new(Images::read(folder, recipe.held_out).unwrap());
    let material = Material::Images { images, rule: recipe.images.unwrap() };
    Pretraining::new(recipe, Seeds::default(), material, Device::Cpu)
}

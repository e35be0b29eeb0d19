//! `lamina-trainer run` as a process: its events, its errors and the files that it writes.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use program::{Bench, changed, finetune, finish, pretrain, spec, without_stage};
use recipe::report::ArmTiming;
use recipe::seeds::is_held_out;
use recipe::{Event, FailureKind};
use serde_json::{Value, json};

#[test]
fn a_pretrain_learns_and_writes_a_report_and_a_checkpoint() {
    let bench = Bench::new();
    let mut recipe = pretrain(300);
    recipe["learning_rate"]["peak"] = json!(3e-3);
    let run = finish(&mut bench.command("run", "run", &spec(recipe))).succeeded();
    assert!(matches!(&run.events[0], Event::Started { total_steps: 300, resumed_from: None, .. }));
    assert!(run.events.iter().any(|event| matches!(event, Event::Preparing { .. })));

    let losses: Vec<f64> = run.points("validation_loss").into_iter().map(|(_, bits)| f64::from_bits(bits)).collect();
    assert_eq!(losses.len(), 30);
    assert!(losses[29] < losses[0] - 0.3, "{losses:?}");
    let open: Vec<f64> = run.points("open_blocks").into_iter().map(|(_, bits)| f64::from_bits(bits)).collect();
    assert_eq!(open.len(), 300);
    // Theta falls to 0.5, so block 3 of 3 is closed at half of the steps.
    assert!(open.iter().any(|&open| open < 3.0) && open.contains(&3.0));

    let report = run.report();
    assert_eq!(report["steps"], 300);
    assert_eq!(report["tokens"], 300 * 5 * 24);
    assert_eq!(report["validation_loss"].as_f64(), Some(losses[29]));
    let on_disk: Value = serde_json::from_slice(&fs::read(bench.path("run/report.json")).unwrap()).unwrap();
    assert_eq!(on_disk, report);

    let folder = bench.checkpoint("run");
    let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let words = fs::read_to_string(folder.join("vocab.txt")).unwrap().lines().count();
    assert_eq!(config["vocab_size"], words);
    assert_eq!(report["guess_loss"].as_f64(), Some((words as f64).ln()));
    let manifest = sha256(&fs::read(folder.join("manifest.json")).unwrap());
    assert_eq!(report["checkpoint"], manifest);
}

#[test]
fn equal_seeds_give_equal_runs_and_each_seed_changes_the_run() {
    let bench = Bench::new();
    let digest =
        |name: &str, spec: &Value| finish(&mut bench.command(name, name, spec)).succeeded().report()["digest"].clone();
    let first = spec(pretrain(12));
    let here = digest("a", &first);
    assert_eq!(here, digest("b", &first));
    for seed in ["init", "data", "dropout", "gate"] {
        let mut other = first.clone();
        other["seeds"][seed] = json!(99);
        assert_ne!(here, digest(seed, &other), "{seed}");
    }
}

/// Both parts have at least one document; a document of 40 words fills one sequence of 32 tokens.
#[test]
fn pairs_of_texts_are_refused_where_a_part_has_one_sequence() {
    let bench = Bench::new();
    let mut recipe = changed(pretrain(4), &json!({"length": 32, "objective": {"next_sentence": true}}));
    let held_out = |share: f64| (0..40).filter(|&document| is_held_out(document, share)).count();
    let share = (1..1000).map(|n| f64::from(n) / 1000.0).find(|&share| held_out(share) == 1).unwrap();
    let text =
        |count: usize| (0..count).map(|n| format!("{}\n\n", ["ba", "de"][n % 2].repeat(2) + &" fi go".repeat(20)));
    fs::write(bench.path("text.txt"), text(40).collect::<String>()).unwrap();
    recipe["held_out"] = json!(share);
    let refused = finish(&mut bench.command("one", "one", &spec(recipe.clone())));
    assert_eq!(refused.failure().kind, FailureKind::BadData);
    let message = &refused.failure().message;
    assert!(message.contains("text.txt: the held-out part is one sequence of 32 tokens"), "{message}");

    // Without pairs, the same text is enough; and with two held-out documents, the pairs are.
    let single = changed(recipe.clone(), &json!({"objective": null}));
    finish(&mut bench.command("single", "single", &spec(single))).succeeded();
    recipe["held_out"] = json!((1..1000).map(|n| f64::from(n) / 1000.0).find(|&share| held_out(share) >= 3).unwrap());
    finish(&mut bench.command("more", "more", &spec(recipe))).succeeded();
}

#[test]
fn a_finetune_starts_from_the_checkpoint_and_scores_dev_after_each_epoch() {
    let bench = Bench::new();
    let from = pretrain(5);
    finish(&mut bench.command("from", "from", &spec(from.clone()))).succeeded();
    let checkpoint = bench.checkpoint("from");
    let run = |spec: &Value| finish(bench.command("tune", "tune", spec).arg("--from").arg(&checkpoint));
    let tuned = run(&spec(finetune(from.clone(), 2))).succeeded();
    assert_eq!(tuned.points("dev_accuracy").iter().map(|(step, _)| *step).collect::<Vec<_>>(), [12, 24]);
    let report = tuned.report();
    assert_eq!(report["score"], report["metrics"]["accuracy"]);
    // 11 of the 21 dev lines are labelled "entailment".
    assert_eq!(report["majority_score"].as_f64(), Some(11.0 / 21.0));

    let mut other = from;
    other["steps"] = json!(6);
    let refused = run(&spec(finetune(other, 2)));
    assert_eq!(refused.failure().kind, FailureKind::CorruptCheckpoint);
    assert!(refused.failure().message.contains("belongs to the recipe"), "{:?}", refused.failure());

    let mut bytes = fs::read(checkpoint.join("model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(checkpoint.join("model.safetensors"), bytes).unwrap();
    let refused = run(&spec(finetune(pretrain(5), 2)));
    assert_eq!(refused.failure().kind, FailureKind::CorruptCheckpoint);
    assert!(refused.failure().message.contains("model.safetensors"), "{:?}", refused.failure());
}

#[test]
fn a_timing_reports_every_timed_step_of_every_arm() {
    let bench = Bench::new();
    let mut plain = pretrain(1000);
    plain.as_object_mut().unwrap().remove("layer_drop");
    let arms = json!([
        {"name": "plain", "recipe": without_stage(plain.clone())},
        {"name": "pld", "recipe": without_stage(pretrain(1000))},
        {"name": "plain (again)", "recipe": without_stage(plain), "repeats": "plain"},
    ]);
    let timing = json!({"stage": "timing", "arms": arms, "rounds": 3, "steps_per_turn": 4, "warmup_steps": 1,
                        "largest_batch": {"limit_bytes": 1}});
    let report = finish(&mut bench.command("time", "time", &spec(timing))).succeeded().report();
    let arms: Vec<ArmTiming> = serde_json::from_value(report["arms"].clone()).unwrap();
    for (arm, name) in arms.iter().zip(["plain", "pld", "plain (again)"]) {
        assert_eq!((arm.name.as_str(), arm.blocks, arm.tokens_per_step), (name, 3, 120));
        assert_eq!(arm.turns.len(), 3);
        for turn in &arm.turns {
            assert!(turn.is_sound(), "{turn:?}");
            assert_eq!((turn.warmup_seconds.len(), turn.seconds.len()), (1, 4));
            assert!(turn.open_blocks.iter().all(|open| (open * 2.0).fract() == 0.0 && *open <= 3.0), "{turn:?}");
        }
        let is_full = arm.turns.iter().flat_map(|turn| &turn.open_blocks).all(|open| *open == 3.0);
        assert_eq!(is_full, name != "pld", "{arm:?}");
    }
    assert_eq!(arms.iter().map(|arm| arm.largest_batch).collect::<Vec<_>>(), [Some(0), Some(0), None]);
    for round in 0..3 {
        let mut places: Vec<u32> = arms.iter().map(|arm| arm.turns[round].place).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2]);
    }
}

#[test]
fn an_invalid_recipe_is_refused_with_every_problem_at_its_pointer() {
    let bench = Bench::new();
    let mut recipe = pretrain(0);
    recipe["layer_drop"]["theta_limit"] = json!(2);
    let refused = finish(&mut bench.command("bad", "bad", &spec(recipe)));
    let failure = refused.failure();
    assert_eq!(failure.kind, FailureKind::InvalidRecipe);
    for part in ["bad.json", "/recipe/steps: 0 steps", "/recipe/layer_drop/theta_limit: a theta limit of 2"] {
        assert!(failure.message.contains(part), "{part} in {failure:?}");
    }
    assert!(!bench.path("bad").exists(), "nothing was written");

    let mut unknown = pretrain(5);
    unknown["theta"] = json!(0.5);
    let refused = finish(&mut bench.command("unknown", "bad", &spec(unknown)));
    assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe);
    assert!(refused.failure().message.contains("unknown field `theta`"), "{:?}", refused.failure());
}

#[test]
fn an_error_names_every_missing_input() {
    let bench = Bench::new();
    fs::write(bench.path("tune.json"), spec(finetune(pretrain(5), 1)).to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamina-trainer"));
    command.arg("run").arg("--recipe").arg(bench.path("tune.json")).arg("--out").arg(bench.path("tune"));
    let refused = finish(&mut command);
    assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe);
    assert!(refused.failure().message.contains("--from and --glue"), "{:?}", refused.failure());
}

#[test]
fn bad_data_is_not_reported_as_a_bad_recipe() {
    let bench = Bench::new();
    fs::write(bench.path("text.txt"), "").unwrap();
    let refused = finish(&mut bench.command("empty", "empty", &spec(pretrain(5))));
    assert_eq!(refused.failure().kind, FailureKind::BadData);
    assert!(refused.failure().message.contains("text.txt"), "{:?}", refused.failure());
}

#[test]
fn a_truncated_file_of_the_corpus_is_an_error_that_names_it_and_nothing_is_trained() {
    let bench = Bench::new();
    let text = fs::read(bench.path("text.txt")).unwrap();
    let mut packed = Vec::new();
    xz2::read::XzEncoder::new(&text[..], 6).read_to_end(&mut packed).unwrap();
    // The corpus is a folder with two files, of which the first is whole and the second is truncated.
    fs::remove_file(bench.path("text.txt")).unwrap();
    fs::create_dir(bench.path("text.txt")).unwrap();
    let file = |name: &str| bench.path("text.txt").join(name);
    fs::write(file("a.txt.xz"), &packed).unwrap();
    for kept in [packed.len() / 2, packed.len() - 1] {
        fs::write(file("b.txt.xz"), &packed[..kept]).unwrap();
        let ended = finish(&mut bench.command("cut", "cut", &spec(pretrain(5))));
        assert_eq!(ended.code, Some(65));
        assert_eq!(ended.failure().kind, FailureKind::BadData);
        let message = &ended.failure().message;
        assert!(message.contains("b.txt.xz, line ") && message.contains("the compressed file is damaged"), "{message}");
        assert_eq!(fs::read(file("b.txt.xz")).unwrap(), packed[..kept]);
        assert!(!bench.path("cut/checkpoints").exists());
        let cached = fs::read_dir(bench.path("cache")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(cached.filter(|path| path.is_dir()).count(), 0, "the text that could be read leaves no tokens");
    }
    fs::write(file("b.txt.xz"), &packed).unwrap();
    finish(&mut bench.command("cut", "cut", &spec(pretrain(5)))).succeeded();
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_at_its_step() {
    let bench = Bench::new();
    let mut recipe = pretrain(200);
    recipe["learning_rate"] = json!({"peak": 10.0, "warmup": 0.0});
    // Each update multiplies the matrices by 1 - 10 * 0.99 until they overflow.
    recipe["optimizer"] = json!({"weight_decay": 0.99, "clip_norm": null});
    let ended = finish(&mut bench.command("diverges", "diverges", &spec(recipe)));
    assert_eq!(ended.failure().kind, FailureKind::NonFiniteLoss);
    assert!(ended.failure().message.starts_with("the loss of step "), "{:?}", ended.failure());
}

#[test]
fn a_full_disk_under_stdout_is_reported_as_disk_full() {
    let bench = Bench::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = bench.command("full", "full", &spec(pretrain(5))).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(i32::from(FailureKind::DiskFull.exit_code())));
}

#[test]
fn a_full_disk_under_the_checkpoints_is_reported_and_the_last_complete_checkpoint_is_usable() {
    // The disk has one MiB and is mounted in its own namespace: two checkpoints fit, a third does not.
    const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=1m none "$1" || exit 99; disk=$1; copy=$2; shift 2
        "$@"; status=$?; cp -r "$disk/." "$copy"; exit $status"#;
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: a_full_disk_under_its_checkpoints needs unshare(1) and user namespaces");
        return;
    }
    let bench = Bench::new();
    let (disk, copy) = (bench.path("disk"), bench.path("copy"));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&copy).unwrap();
    let recipe = spec(pretrain(6));
    let trainer = bench.command("full", "disk", &recipe);
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", ON_A_SMALL_DISK, "sh"]).arg(&disk).arg(&copy);
    command.arg(trainer.get_program()).args(trainer.get_args()).args(["--checkpoint-seconds", "0"]);
    let ended = finish(&mut command);
    assert_eq!(ended.failure().kind, FailureKind::DiskFull, "{:?}", ended.failure());
    assert!(ended.failure().message.contains("safetensors"), "{:?}", ended.failure());

    let resumed = finish(bench.command("full", "copy", &recipe).arg("--resume")).succeeded();
    let saved = |event: &Event| if let Event::Checkpointed { step, .. } = event { Some(*step) } else { None };
    assert_eq!(resumed.resumed_from(), ended.events.iter().filter_map(saved).max());
    assert_eq!(resumed.report()["digest"], finish(&mut bench.command("whole", "whole", &recipe)).report()["digest"]);
}

#[test]
fn a_step_that_runs_out_of_memory_is_reported_as_out_of_memory() {
    let bench = Bench::new();
    let mut recipe = pretrain(2);
    // The attention weights of one block alone, [B, A, S, S] in float32, are 32 GiB.
    recipe["batch"] = json!(65_536);
    recipe["model"]["heads"] = json!(32);
    recipe["length"] = json!(64);
    let trainer = bench.command("huge", "huge", &spec(recipe));
    let mut command = Command::new("sh");
    // The limit, in KiB of address space, is enough for the libraries, the data and the batch.
    command.args(["-c", r#"ulimit -v 8000000 && exec "$@""#, "sh"]).arg(trainer.get_program()).args(trainer.get_args());
    let ended = finish(&mut command);
    assert_eq!(ended.failure().kind, FailureKind::OutOfMemory, "{:?}", ended.failure());
    assert!(ended.failure().message.contains("bytes"), "{:?}", ended.failure());
    assert!(!bench.path("huge/checkpoints").exists());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

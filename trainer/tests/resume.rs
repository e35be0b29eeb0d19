//! A run that was killed and resumed equals an uninterrupted one, bit for bit, with dropout and layer drop.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::process::Command;

use program::{Bench, Exited, Running, finetune, finish, learned, pretrain, spec};
use recipe::{Event, FailureKind};
use serde_json::Value;

const STEPS: u64 = 60;

#[test]
fn a_pretrain_killed_at_random_steps_ends_like_an_uninterrupted_run() {
    let bench = Bench::new();
    let spec = spec(pretrain(STEPS));
    let whole = finish(bench.command("whole", "whole", &spec).args(["--checkpoint-seconds", "60"])).succeeded();
    let broken = killed_and_resumed(STEPS, || bench.command("broken", "broken", &spec));

    same_points(&whole, &broken);
    let (whole, broken) = (whole.report(), broken.last().unwrap().report());
    assert_eq!(whole["digest"], broken["digest"]);
    assert_eq!(whole["validation_loss"], broken["validation_loss"]);
    assert!(
        learned(&bench.checkpoint("whole")) == learned(&bench.checkpoint("broken")),
        "weights and moments are equal"
    );
}

#[test]
fn a_finetune_killed_at_random_steps_ends_like_an_uninterrupted_run() {
    let bench = Bench::new();
    let from = pretrain(5);
    finish(&mut bench.command("from", "from", &spec(from.clone()))).succeeded();
    let from_folder = bench.checkpoint("from");
    let spec = spec(finetune(from, 4));
    let command = |out: &str| {
        let mut command = bench.command(out, out, &spec);
        command.arg("--from").arg(&from_folder);
        command
    };
    // 45 examples in batches of 4 are 12 steps per epoch.
    let whole = finish(&mut command("whole")).succeeded();
    let broken = killed_and_resumed(48, || command("broken"));

    same_points(&whole, &broken);
    let (mut whole, mut broken) = (whole.report(), broken.last().unwrap().report());
    for report in [&mut whole, &mut broken] {
        // The digest covers every loss, the final weights and their moments. Only the duration may differ.
        report["trained_seconds"].take();
    }
    assert_eq!(whole, broken);
    assert!(!bench.path("broken/checkpoints").exists(), "a finished fine-tune leaves no checkpoint");
}

#[test]
fn after_sigterm_a_run_continues_from_the_checkpoint_that_it_wrote() {
    let bench = Bench::new();
    let spec = spec(pretrain(400));
    let whole = finish(&mut bench.command("whole", "whole", &spec)).succeeded();
    let mut running = Running::start(&mut bench.command("broken", "broken", &spec));
    assert!(running.until(|event| matches!(event, Event::Progress { .. })));
    running.terminate();
    let stopped = running.exited();
    assert_eq!(stopped.code, Some(75), "{}", stopped.log);
    let Some(Event::Interrupted { step }) = stopped.events.last() else { panic!("{:?}", stopped.events.last()) };
    assert!(bench.checkpoint("broken").ends_with(format!("step-{step:012}")));

    let refused = finish(&mut bench.command("broken", "broken", &spec));
    assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe);
    assert!(refused.failure().message.contains("--resume"), "{:?}", refused.failure());

    let resumed = finish(bench.command("broken", "broken", &spec).arg("--resume")).succeeded();
    assert_eq!(resumed.resumed_from(), Some(*step));
    assert_eq!(resumed.report()["digest"], whole.report()["digest"]);
    assert!(learned(&bench.checkpoint("whole")) == learned(&bench.checkpoint("broken")));
}

#[test]
fn a_changed_byte_in_any_file_of_a_checkpoint_is_a_failure_that_names_the_file() {
    let bench = Bench::new();
    let spec = spec(pretrain(3));
    let whole = finish(&mut bench.command("run", "run", &spec)).succeeded();
    let folder = bench.checkpoint("run");
    for file in [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "config.json",
        "vocab.txt",
        "tokenizer_config.json",
        "modeling_lamina.py",
        "manifest.json",
    ] {
        let path = folder.join(file);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = finish(bench.command("run", "run", &spec).arg("--resume"));
        assert_eq!(refused.failure().kind, FailureKind::CorruptCheckpoint, "{file}");
        assert!(refused.failure().message.contains(file), "{:?}", refused.failure());
        assert!(fs::read(&path).unwrap() == bytes, "{file} is left unchanged");
        fs::write(&path, sound).unwrap();
    }
    // With the original files, the finished run gives the same report as before.
    let again = finish(bench.command("run", "run", &spec).arg("--resume")).succeeded();
    assert_eq!(again.report(), whole.report());
}

/// Earlier versions wrote neither the settings of the tokenizer nor the Python module.
#[test]
fn a_checkpoint_without_the_files_for_transformers_is_still_used() {
    let bench = Bench::new();
    let trial = spec(pretrain(3));
    finish(&mut bench.command("run", "run", &trial)).succeeded();
    let folder = bench.checkpoint("run");
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let later = ["tokenizer_config.json", "modeling_lamina.py"];
    manifest["files"].as_array_mut().unwrap().retain(|file| !later.iter().any(|name| file["name"] == *name));
    assert_eq!(manifest["files"].as_array().unwrap().len(), 5);
    fs::write(&path, manifest.to_string()).unwrap();
    later.iter().for_each(|name| fs::remove_file(folder.join(name)).unwrap());
    let resumed = finish(bench.command("run", "run", &trial).arg("--resume")).succeeded();
    assert_eq!(resumed.resumed_from(), Some(3));
    let tune = spec(finetune(pretrain(3), 1));
    finish(bench.command("tune", "tune", &tune).arg("--from").arg(&folder)).succeeded();
}

#[test]
fn a_run_does_not_continue_from_a_checkpoint_of_other_seeds_or_another_recipe() {
    let bench = Bench::new();
    finish(&mut bench.command("run", "run", &spec(pretrain(3)))).succeeded();
    let mut seeds = spec(pretrain(3));
    seeds["seeds"]["gate"] = 7.into();
    for other in [seeds, spec(pretrain(4))] {
        let refused = finish(bench.command("run", "run", &other).arg("--resume"));
        assert_eq!(refused.failure().kind, FailureKind::CorruptCheckpoint, "{:?}", refused.failure());
    }
}

#[test]
fn only_the_last_two_checkpoints_are_left_on_disk() {
    let bench = Bench::new();
    let run = finish(bench.command("run", "run", &spec(pretrain(5))).args(["--checkpoint-seconds", "0"])).succeeded();
    let saved = run.events.iter().filter(|event| matches!(event, Event::Checkpointed { .. })).count();
    assert_eq!(saved, 5);
    let mut left: Vec<_> =
        fs::read_dir(bench.path("run/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["step-000000000004", "step-000000000005"]);
}

/// Runs `command` with a checkpoint after every step, kills it twice with SIGKILL soon after the checkpoint of a random
/// step, and lets it end. Returns all three attempts.
fn killed_and_resumed(steps: u64, command: impl Fn() -> Command) -> Vec<Exited> {
    let mut attempts = Vec::new();
    let mut from = 0;
    for _ in 0..2 {
        // Some steps remain for the next attempt.
        let after = from + 1 + RandomState::new().hash_one(from) % ((steps - from) / 2);
        let mut running = Running::start(command().args(["--resume", "--checkpoint-seconds", "0"]));
        let reached = running.until(|event| matches!(event, Event::Checkpointed { step, .. } if *step >= after));
        assert!(reached, "{}", running.exited().log);
        let killed = running.kill();
        assert_eq!(killed.code, None, "ended before it could be killed after step {after}");
        attempts.push(killed);
        from = after;
    }
    let last = finish(command().args(["--resume"])).succeeded();
    assert!(last.resumed_from() >= Some(from), "{:?} after {from}", last.resumed_from());
    attempts.push(last);
    attempts
}

/// Checks that the attempts together have the points of the uninterrupted run, and no others.
fn same_points(whole: &Exited, broken: &[Exited]) {
    for name in ["train_loss", "gradient_norm", "open_blocks", "theta", "validation_loss", "dev_accuracy"] {
        let expected: BTreeMap<u64, u64> = whole.points(name).into_iter().collect();
        let found: BTreeMap<u64, u64> = broken.iter().flat_map(|attempt| attempt.points(name)).collect();
        assert_eq!(found, expected, "{name}");
        for (step, value) in broken.iter().flat_map(|attempt| attempt.points(name)) {
            assert_eq!(expected[&step], value, "{name} at {step}");
        }
    }
    assert!(!whole.points("train_loss").is_empty());
}

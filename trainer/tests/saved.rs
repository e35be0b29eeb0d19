//! Checkpoints are the same model to the trainer and to Hugging Face's transformers. Those of pre-training and
//! fine-tuning give the logits that transformers computed from their folders (`fixtures/saved.py`), and a fine-tune
//! from a checkpoint that transformers saved computes what transformers computed (`fixtures/published.py`).

#[expect(dead_code, reason = "other tests use the rest")]
mod computed;

use std::fs;
use std::path::{Path, PathBuf};

use computed::{close, hidden, logits, tensors};
use recipe::{Electra, Finetune, Model, Norm, Seeds, Size};
use serde_json::{Value, json};
use tch::{Device, no_grad};
use trainer::bert::{TextFamily, TextHead, Weights, published};
use trainer::origin::Origin;

const SIZE: Size = Size { blocks: 3, hidden: 24, heads: 4, intermediate: 37 };

#[test]
fn bert_gives_the_logits_of_transformers() {
    agrees("bert", &model(Norm::Post), TextFamily::Bert, TextHead::MLM);
}

#[test]
fn megatron_bert_gives_the_logits_of_transformers() {
    agrees("megatron-bert", &model(Norm::Pre), TextFamily::Bert, TextHead::MLM);
}

#[test]
fn electra_gives_the_logits_of_transformers() {
    agrees("electra", &model(Norm::Post), TextFamily::Electra, TextHead::Electra(Electra::default()));
}

#[test]
fn a_checkpoint_that_transformers_saved_gives_its_hidden_states_and_logits() {
    for (name, norm) in [("bert", Norm::Post), ("megatron-bert", Norm::Pre)] {
        let folder = fixture("published").join(name);
        let size = Size { blocks: 2, hidden: 32, heads: 4, intermediate: 37 };
        let model = Model { positions: 40, embedding_norm: norm == Norm::Post, ..Model::of_size(size, norm) };
        let from = json!({"kind": "published", "model": model, "checkpoint": {"name": "transformers"}});
        let recipe = json!({"from": from, "task": "rte", "glue": {"name": "none"}, "epochs": 1, "batch": 3, "length": 16,
                            "learning_rate": {"peak": 1e-4}});
        let recipe: Finetune = serde_json::from_value(recipe).unwrap();
        let origin = Origin::open(&recipe.from, &folder).unwrap();
        assert_eq!((origin.rows, origin.vocabulary.size(), origin.family), (29, 21, TextFamily::Bert), "{name}");
        let case = tensors(&folder.join("outputs.safetensors"));
        for head in [TextHead::MLM, TextHead::Classifier { outputs: 2, family: TextFamily::Bert }] {
            let fresh = || Weights::new(&model, origin.rows, head, &Seeds::default(), Device::Cpu);
            let weights = fresh();
            origin.restore(&weights, &recipe.from, recipe.keep).unwrap();
            let hidden = no_grad(|| hidden(&case, &weights, &model, TextFamily::Bert, 0));
            close(&format!("{name}, hidden states"), &hidden, &case["hidden"]);
            if head == TextHead::MLM {
                let logits = no_grad(|| logits(&case, &weights, &model, head, 0));
                close(&format!("{name}, logits"), &logits, &case["logits"]);
            }
            // A model for masked words has neither of these heads, so they keep their starting values.
            let untrained = |name: &String| ["classifier.", "bert.pooler."].iter().any(|head| name.starts_with(head));
            let start = fresh().named();
            for (weight, values) in weights.named().iter().filter(|(name, _)| untrained(name)) {
                assert_eq!(*values, start[weight], "{name}, {weight}");
            }
        }
    }
}

fn model(norm: Norm) -> Model {
    Model { positions: 48, embedding_norm: norm == Norm::Post, ..Model::of_size(SIZE, norm) }
}

/// Compares both checkpoints of one architecture with transformers; the pre-trained one has the head `pretrained`.
fn agrees(name: &str, model: &Model, family: TextFamily, pretrained: TextHead) {
    for (stage, head) in [("pretrained", pretrained), ("finetuned", TextHead::Classifier { outputs: 2, family })] {
        let folder = fixture("saved").join(format!("{name}-{stage}"));
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let words = fs::read_to_string(folder.join("vocab.txt")).unwrap().lines().count() as u32;
        let padding = config["pad_token_id"].as_i64().unwrap();
        assert_eq!(config["vocab_size"], json!(words));
        assert_eq!(config, published::config(model, words, padding as u32, head), "{name}, {stage}");

        let weights = Weights::new(model, words, head, &Seeds::default(), Device::Cpu);
        let stored = tensors(&folder.join("model.safetensors"));
        assert!(weights.named().keys().eq(stored.keys()), "{name}, {stage}: the file has every weight, and no other");
        for (weight, mut values) in weights.named() {
            assert_eq!(values.size(), stored[&weight].size(), "{weight}");
            no_grad(|| values.copy_(&stored[&weight]));
        }
        let case = tensors(&folder.join("logits.safetensors"));
        let found = no_grad(|| logits(&case, &weights, model, head, padding));
        close(&format!("{name}, {stage}"), &found, &case["logits"]);
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

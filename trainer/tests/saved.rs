//! Checkpoints are the same model to the trainer and to Hugging Face's transformers. Those of pre-training and
//! fine-tuning give the logits that transformers computed from their folders (`fixtures/saved.py`), and a fine-tune
//! from a checkpoint that transformers saved computes what transformers computed (`fixtures/published.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use recipe::{Electra, Finetune, Gate, Model, Norm, Seeds, Size};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::bert::{Classifier, Detector, Encoder, Input, MlmHead, TextFamily, TextHead, Weights, published};
use trainer::origin::Origin;

/// Largest norm of a difference over the norm of the expected logits.
const TOLERANCE: f64 = 1e-5;
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
                let logits = no_grad(|| logits(&case, &weights, &model, TextFamily::Bert, head, 0));
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
        let found = no_grad(|| logits(&case, &weights, model, family, head, padding));
        close(&format!("{name}, {stage}"), &found, &case["logits"]);
    }
}

/// Logits of every position, or of every sequence for a classifier, without dropout.
fn logits(
    case: &BTreeMap<String, Tensor>,
    weights: &Weights,
    model: &Model,
    family: TextFamily,
    head: TextHead,
    padding: i64,
) -> Tensor {
    let hidden = hidden(case, weights, model, family, padding);
    match head {
        TextHead::Mlm { .. } => {
            let every = Tensor::arange(case["input_ids"].numel() as i64, (Kind::Int64, Device::Cpu));
            MlmHead::new(weights).forward(&hidden, &every).view(&case["logits"].size()[..])
        }
        TextHead::Electra(_) => Detector::new(weights).forward(&hidden),
        TextHead::Classifier { .. } => Classifier::new(weights, family, model).forward(&hidden, None),
    }
}

/// The last hidden state, without dropout.
fn hidden(
    case: &BTreeMap<String, Tensor>,
    weights: &Weights,
    model: &Model,
    family: TextFamily,
    padding: i64,
) -> Tensor {
    let [ids, types] = ["input_ids", "token_type_ids"].map(|name| case[name].shallow_clone());
    let input = Input::padded(ids, types, &case["attention_mask"]);
    let gates = vec![Gate::OPEN; 2 * model.blocks as usize];
    Encoder::new(weights, family, model, padding).forward(&input, &gates, None)
}

fn close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let error = norm(&(found - expected)) / norm(expected);
    assert!(error <= TOLERANCE, "{what}: off by {error:e}");
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => panic!("{name} is {other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        (name, Tensor::from_data_size(view.data(), &shape, kind))
    };
    stored.tensors().into_iter().map(tensor).collect()
}

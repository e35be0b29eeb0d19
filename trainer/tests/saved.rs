//! Checkpoints that were saved here and opened in transformers (`fixtures/saved.py`): both compute the same logits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use recipe::{Gate, Model, Norm, Seeds, Size};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor, no_grad};
use trainer::bert::{Classifier, Encoder, Family, Head, Input, MlmHead, Weights};

const VOCABULARY: u32 = 70;
const FAMILY: Family = Family::Bert;

#[test]
fn a_saved_pre_training_gives_equal_logits_in_transformers() {
    for (name, norm) in [("saved_mlm_post_ln", Norm::Post), ("saved_mlm_pre_ln", Norm::Pre)] {
        check(name, norm, Head::MLM, |weights, _, hidden| {
            let tokens = hidden.size()[0] * hidden.size()[1];
            let positions = Tensor::arange(tokens, (Kind::Int64, Device::Cpu));
            MlmHead::new(weights, FAMILY).forward(hidden, &positions)
        });
    }
}

#[test]
fn a_saved_fine_tuning_gives_equal_logits_in_transformers() {
    for (name, norm) in [("saved_classifier_post_ln", Norm::Post), ("saved_classifier_pre_ln", Norm::Pre)] {
        check(name, norm, Head::Classifier { outputs: 2, family: FAMILY }, |weights, model, hidden| {
            Classifier::new(weights, FAMILY, model).forward(hidden, false)
        });
    }
}

fn check(name: &str, norm: Norm, head: Head, logits: impl Fn(&Weights, &Model, &Tensor) -> Tensor) {
    let saved = tensors(name);
    let size = Size { blocks: 3, hidden: 24, heads: 4, intermediate: 37 };
    let model = Model { positions: 32, embedding_norm: norm == Norm::Post, ..Model::of_size(size, norm) };
    let weights = Weights::new(&model, VOCABULARY, head, &Seeds::all(9), Device::Cpu);
    for (name, mut weight) in weights.named() {
        no_grad(|| weight.copy_(&saved[&format!("weight.{name}")]));
    }
    let [ids, types, mask] =
        ["ids", "token_types", "attention_mask"].map(|what| saved[&format!("input.{what}")].shallow_clone());
    let hidden = Encoder::new(&weights, FAMILY, &model, 0).forward(
        &Input::padded(ids, types, &mask),
        &vec![Gate::OPEN; 2 * model.blocks as usize],
        false,
    );
    let expected = &saved["output.logits"];
    let found = logits(&weights, &model, &hidden).reshape(expected.size());
    let norm = |tensor: &Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
    let error = norm(&(found - expected)) / norm(expected);
    assert!(error <= 1e-5, "{name}: off by {error:e}");
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.safetensors"));
    let bytes = fs::read(&path).unwrap();
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let kind = if view.dtype() == Dtype::I64 { Kind::Int64 } else { Kind::Float };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        (name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind))
    };
    SafeTensors::deserialize(&bytes).unwrap().iter().map(tensor).collect()
}

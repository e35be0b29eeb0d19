//! What the trainer's model computes from given inputs and weights, without dropout, and how close it is to what another
//! implementation computes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use recipe::{Gate, Model};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};
use trainer::bert::{Classifier, Detector, Encoder, Input, MlmHead, NextSentenceHead, TextFamily, TextHead, Weights};

/// Largest norm of a difference over the norm of the expected values, which allows for float32 rounding in another
/// order of operations.
const TOLERANCE: f64 = 1e-5;

/// `input_ids`, `token_type_ids` and `attention_mask` `[B, S]`, int64, among other tensors.
pub(crate) type Case = BTreeMap<String, Tensor>;

/// Logits of every position, or of every sequence for a classifier.
pub(crate) fn logits(case: &Case, weights: &Weights, model: &Model, head: TextHead, padding: i64) -> Tensor {
    let hidden = hidden(case, weights, model, family(head), padding);
    match head {
        TextHead::Mlm { .. } => {
            let every = Tensor::arange(case["input_ids"].numel() as i64, (Kind::Int64, Device::Cpu));
            let [batch, length] = hidden.size()[..2] else { panic!("{hidden:?} has three dimensions") };
            MlmHead::new(weights).forward(&hidden, &every).view([batch, length, -1])
        }
        TextHead::Electra(_) => Detector::new(weights).forward(&hidden),
        TextHead::Classifier { family, .. } => Classifier::new(weights, family, model).forward(&hidden, None),
    }
}

/// Logits of next-sentence prediction, `[B, 2]`.
pub(crate) fn pair_logits(case: &Case, weights: &Weights, model: &Model, padding: i64) -> Tensor {
    NextSentenceHead::new(weights).forward(&hidden(case, weights, model, TextFamily::Bert, padding))
}

/// The last hidden state, `[B, S, H]`.
pub(crate) fn hidden(case: &Case, weights: &Weights, model: &Model, family: TextFamily, padding: i64) -> Tensor {
    let [ids, types] = ["input_ids", "token_type_ids"].map(|name| case[name].shallow_clone());
    let input = Input::padded(ids, types, &case["attention_mask"]);
    let gates = vec![Gate::OPEN; 2 * model.blocks as usize];
    Encoder::new(weights, family, model, padding).forward(&input, &gates, None)
}

fn family(head: TextHead) -> TextFamily {
    match head {
        TextHead::Mlm { .. } => TextFamily::Bert,
        TextHead::Electra(_) => TextFamily::Electra,
        TextHead::Classifier { family, .. } => family,
    }
}

/// Fails unless `found` is `expected` but for float32 rounding.
pub(crate) fn close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let error = norm(&(found - expected)) / norm(expected);
    assert!(error <= TOLERANCE, "{what}: off by {error:e}");
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

/// The tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> Case {
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

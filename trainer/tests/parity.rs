//! The model against Hugging Face's, on tensors that its own code made (`fixtures/README.md`): float32, sizes that all
//! differ, so that a swapped axis cannot pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use recipe::{DecayOn, Gate, Model, Norm, Optimizer, Seeds};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Reduction, Tensor, no_grad};
use trainer::bert::{Encoder, Head, Input, MlmHead, Weights};
use trainer::optimizer::AdamW;

const BLOCKS: usize = 5;
/// Largest norm of a difference over the norm of the expected tensor.
const TOLERANCE: f64 = 1e-5;
/// Hugging Face leaves the `[PAD]` row of the word embedding without a gradient from below.
const PADDING: i64 = 0;

#[test]
fn post_ln_computes_what_transformers_computes() {
    Case::open("bert_post_ln", Norm::Post).check_plain();
}

#[test]
fn pre_ln_computes_what_transformers_computes() {
    Case::open("bert_pre_ln", Norm::Pre).check_plain();
}

#[test]
fn ten_updates_of_adamw_give_the_losses_that_torch_gives() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let mut case = Case::open(name, norm);
        let rule = Optimizer { decay_on: DecayOn::All, clip_norm: None, ..Optimizer::default() };
        let mut optimizer = AdamW::new(rule, &case.weights);
        let open = Weights::open(&OPEN);
        let expected: Vec<f64> = Vec::try_from(&case.expected["losses"]).unwrap();
        for (step, expected) in expected.into_iter().enumerate() {
            let loss = case.forward(&OPEN).loss;
            let found = loss.double_value(&[]);
            assert!((found - expected).abs() <= 1e-5, "{name}, step {step}: {found}, expected {expected}");
            let _ = optimizer.differentiate(&case.weights, &loss, &open);
            optimizer.update(&mut case.weights, &open, 1e-3);
        }
    }
}

#[test]
fn closed_blocks_and_scaled_branches_give_the_losses_and_gradients_of_the_papers_block() {
    let mut case = Case::open("bert_pre_ln", Norm::Pre);
    case.expected = tensors("pld_gated");
    let gates = case.gates();
    assert_eq!(gates.iter().map(|gate| gate.open).collect::<Vec<_>>(), [true, false, true, true, false]);

    let forward = case.forward(&gates);
    for (index, hidden) in forward.hidden.iter().enumerate() {
        case.agrees(&format!("output.hidden.{index}"), hidden);
    }
    case.agrees("output.loss", &forward.loss.view([1]));
    case.agrees("output.logits", &case.logits(&gates));
    let gradients = case.gradients(&forward.loss, &gates);
    case.gradients_agree(&gradients);
    let expected = case.expected.keys().filter_map(|name| name.strip_prefix("grad."));
    assert_eq!(gradients.keys().map(String::as_str).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_closed_block_runs_no_forward_and_no_backward() {
    let case = Case::open("bert_pre_ln", Norm::Pre);
    let gates = Case { expected: tensors("pld_gated"), ..Case::open("bert_pre_ln", Norm::Pre) }.gates();
    let before = case.forward(&gates);
    let gradients = case.gradients(&before.loss, &gates);
    // Whatever touches a weight that is not a number becomes not a number.
    for (name, mut weight) in case.weights.named() {
        if name.contains("layer.1.") || name.contains("layer.4.") {
            let _ = no_grad(|| weight.fill_(f64::NAN));
        }
    }
    let after = case.forward(&gates);
    assert_eq!(before.loss.double_value(&[]), after.loss.double_value(&[]));
    for (name, gradient) in case.gradients(&after.loss, &gates) {
        assert_eq!(gradient, gradients[&name], "{name}");
    }
    assert!(!case.forward(&OPEN).loss.double_value(&[]).is_finite(), "an open block would have been seen");
}

#[test]
fn when_every_block_is_closed_the_embeddings_come_through() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let closed = [Gate { open: false, scale: 2.0 }; BLOCKS];
        let hidden = case.forward(&closed).hidden;
        assert_eq!(hidden.len(), BLOCKS + 1);
        assert!(hidden.iter().all(|state| *state == hidden[0]), "{name}");
    }
}

#[test]
fn open_gates_at_keep_probability_one_are_the_plain_encoder_bit_for_bit() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let drop = recipe::LayerDrop {
            schedule: recipe::ThetaSchedule::Exponential,
            theta_limit: 1.0,
            gamma: None,
            depth_index: recipe::DepthIndex::One,
            scale: true,
        };
        let (gated, plain) = (case.forward(&drop.gates(BLOCKS as u32, 700, 1000, 3)), case.forward(&OPEN));
        assert_eq!(gated.loss.double_value(&[]).to_bits(), plain.loss.double_value(&[]).to_bits(), "{name}");
        assert_eq!(gated.hidden, plain.hidden, "{name}");
    }
}

#[test]
fn a_sequence_alone_is_the_sequence_in_a_padded_batch() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let [ids, types, mask] = ["ids", "token_types", "attention_mask"].map(|what| &case.inputs[what]);
        let together = no_grad(|| case.encoder.forward(&case.input(), &OPEN, false));
        for row in 0..ids.size()[0] {
            let tokens = mask.get(row).sum(Kind::Int64).int64_value(&[]);
            let alone = |all: &Tensor| all.narrow(0, row, 1).narrow(1, 0, tokens);
            let input = Input::padded(alone(ids), alone(types), &alone(mask));
            let alone = no_grad(|| case.encoder.forward(&input, &OPEN, false));
            close(&format!("{name}, row {row}"), &alone, &together.narrow(0, row, 1).narrow(1, 0, tokens));
        }
    }
}

const OPEN: [Gate; BLOCKS] = [Gate::OPEN; BLOCKS];

/// A published model with its inputs and the values that transformers computed.
struct Case {
    weights: Weights,
    encoder: Encoder,
    head: MlmHead,
    inputs: BTreeMap<&'static str, Tensor>,
    expected: BTreeMap<String, Tensor>,
}

struct Forward {
    loss: Tensor,
    /// Output of the embeddings, then of each block, before the last LayerNorm.
    hidden: Vec<Tensor>,
    last: Tensor,
}

impl Case {
    fn open(name: &str, norm: Norm) -> Self {
        let model = Model {
            blocks: BLOCKS as u32,
            hidden: 32,
            heads: 4,
            intermediate: 37,
            positions: 19,
            norm,
            embedding_norm: norm == Norm::Post,
            dropout: 0.0,
            attention_dropout: 0.0,
        };
        let expected = tensors(name);
        let weights = Weights::new(&model, 99, Head::Mlm, &Seeds::default(), Device::Cpu);
        let published = expected.keys().filter_map(|key| key.strip_prefix("weight."));
        assert!(weights.named().keys().map(String::as_str).eq(published), "names are the published ones");
        for (name, mut weight) in weights.named() {
            let source = &expected[&format!("weight.{name}")];
            assert_eq!(weight.size(), source.size(), "{name}");
            no_grad(|| weight.copy_(source));
        }
        let inputs = ["ids", "attention_mask", "token_types", "labels"];
        let inputs = inputs.map(|what| (what, expected[&format!("input.{what}")].shallow_clone()));
        Self {
            encoder: Encoder::new(&weights, &model, PADDING),
            head: MlmHead::new(&weights),
            weights,
            inputs: inputs.into(),
            expected,
        }
    }

    fn check_plain(&self) {
        let forward = self.forward(&OPEN);
        // Hugging Face lists the last hidden state after the last LayerNorm, where there is one.
        for (index, hidden) in forward.hidden[..BLOCKS].iter().chain([&forward.last]).enumerate() {
            self.agrees(&format!("output.hidden.{index}"), hidden);
        }
        self.agrees("output.logits", &self.logits(&OPEN));
        self.agrees("output.loss", &forward.loss.view([1]));
        let gradients = self.gradients(&forward.loss, &OPEN);
        assert_eq!(gradients.len(), self.expected.keys().filter(|name| name.starts_with("grad.")).count());
        self.gradients_agree(&gradients);
    }

    fn gradients_agree(&self, gradients: &BTreeMap<String, Tensor>) {
        for (name, gradient) in gradients {
            let expected = &self.expected[&format!("grad.{name}")];
            match name.strip_suffix("key.bias") {
                // A bias on every key shifts all scores of a query alike, which softmax does not see: the exact gradient is
                // zero, and both implementations hold nothing but rounding of the query's.
                Some(prefix) => {
                    let rounding = TOLERANCE * norm(&gradients[&format!("{prefix}query.bias")]);
                    assert!(norm(gradient) < rounding && norm(expected) < rounding, "{name}");
                }
                None => close(name, gradient, expected),
            }
        }
    }

    fn input(&self) -> Input {
        let [ids, types] = ["ids", "token_types"].map(|what| self.inputs[what].shallow_clone());
        Input::padded(ids, types, &self.inputs["attention_mask"])
    }

    fn gates(&self) -> Vec<Gate> {
        let open: Vec<i64> = Vec::try_from(&self.expected["gates"]).unwrap();
        let keep: Vec<f64> = Vec::try_from(&self.expected["keep"]).unwrap();
        open.into_iter().zip(keep).map(|(open, p)| Gate { open: open == 1, scale: 1.0 / p }).collect()
    }

    /// The loss over the labelled positions, as in training: the head sees no others.
    fn forward(&self, gates: &[Gate]) -> Forward {
        let mut hidden = Vec::new();
        let mut seen = |state: &Tensor| hidden.push(state.detach());
        let last = self.encoder.forward_seen(&self.input(), gates, true, &mut seen);
        let labels = self.inputs["labels"].flatten(0, -1);
        let positions = labels.ne(-100).nonzero().squeeze_dim(1);
        let logits = self.head.forward(&last, &positions);
        let labels = labels.index_select(0, &positions);
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        Forward { loss, hidden, last: last.detach() }
    }

    /// Logits of every position, `[13, 7, 99]`.
    fn logits(&self, gates: &[Gate]) -> Tensor {
        let hidden = self.encoder.forward(&self.input(), gates, true);
        let every = Tensor::arange(13 * 7, (Kind::Int64, Device::Cpu));
        self.head.forward(&hidden, &every).view([13, 7, 99])
    }

    /// Gradients of the open groups, by published name.
    fn gradients(&self, loss: &Tensor, gates: &[Gate]) -> BTreeMap<String, Tensor> {
        let mut optimizer = AdamW::new(Optimizer { clip_norm: None, ..Optimizer::default() }, &self.weights);
        let open = Weights::open(gates);
        let _ = optimizer.differentiate(&self.weights, loss, &open);
        let groups = self.weights.groups().iter().enumerate().filter(|(index, _)| open[*index]);
        groups.flat_map(|(index, group)| group.named(optimizer.gradient(index))).collect()
    }

    fn agrees(&self, name: &str, found: &Tensor) {
        close(name, found, &self.expected[name]);
    }
}

fn close(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{name}");
    let error = norm(&(found - expected)) / norm(expected);
    assert!(error <= TOLERANCE, "{name}: off by {error:e}");
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.safetensors"));
    let bytes = fs::read(&path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => panic!("{name} is {other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        (name, Tensor::from_data_size(view.data(), &shape, kind))
    };
    stored.tensors().into_iter().map(tensor).collect()
}

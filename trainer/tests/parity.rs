//! Compares the model with Hugging Face's, on tensors that transformers computed (`fixtures/README.md`). Everything is
//! float32, and all sizes differ, so that a swapped axis cannot pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use recipe::gate::Ask;
use recipe::{Algorithm, DecayOn, Electra, Gate, LayerDrop, Model, Norm, Optimizer as Rule, Rows, Seeds};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Reduction, Tensor, no_grad};
use trainer::bert::weights::Group;
use trainer::bert::{Detector, Encoder, Input, MlmHead, TextFamily, TextHead, Weights};
use trainer::optimizer::Optimizer;
use trainer::recompute::Tape;

const BLOCKS: usize = 5;
/// Largest norm of a difference over the norm of the expected tensor.
const TOLERANCE: f64 = 1e-5;
/// In Hugging Face's models, the `[PAD]` row of the word embedding gets no gradient from the embeddings.
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
fn replaced_token_detection_computes_what_transformers_computes() {
    Case::open("electra", Norm::Post).check_plain();
}

#[test]
fn ten_updates_of_adamw_give_the_losses_that_torch_gives() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre), ("electra", Norm::Post)] {
        let mut case = Case::open(name, norm);
        let rule = Rule { decay_on: DecayOn::All, clip_norm: None, ..Rule::default() };
        let mut optimizer = Optimizer::new(rule, &case.weights);
        let expected: Vec<f64> = Vec::try_from(&case.expected["losses"]).unwrap();
        for (step, expected) in expected.into_iter().enumerate() {
            let loss = case.forward(&open()).loss;
            let found = loss.double_value(&[]);
            assert!((found - expected).abs() <= 1e-5, "{name}, step {step}: {found}, expected {expected}");
            Tape::default().differentiate(&case.weights, &loss, &case.weights.open(&open()));
            let _ = optimizer.clip(&case.weights);
            optimizer.update(&mut case.weights, 1e-3);
        }
    }
}

#[test]
fn lamb_moves_each_weight_by_its_own_norm_along_adamws_step() {
    const RATE: f64 = 1e-2;
    let rule = |algorithm| Rule { algorithm, decay_on: DecayOn::All, clip_norm: None, ..Rule::default() };
    let mut case = Case::open("bert_pre_ln", Norm::Pre);
    let mut optimizer = Optimizer::new(rule(Algorithm::Lamb), &case.weights);
    let before: BTreeMap<_, _> = case.weights.named().into_iter().map(|(name, value)| (name, value.copy())).collect();
    let loss = case.forward(&open()).loss;
    Tape::default().differentiate(&case.weights, &loss, &case.weights.open(&open()));
    let gradients = case.held(&open());
    let _ = optimizer.clip(&case.weights);
    optimizer.update(&mut case.weights, RATE);
    for (name, after) in case.weights.named() {
        let (w, g) = (&before[&name], &gradients[&name]);
        // At the first step m/c1 = g and v/c2 = g^2 (You et al. 2020, algorithm 2).
        let step = g / (g.abs() + 1e-8) + w * 0.01;
        let expected = w - &step * (RATE * norm(w) / norm(&step));
        close(&name, &after, &expected);
    }
}

#[test]
fn micro_batches_add_up_to_the_gradient_of_the_batch() {
    let case = Case::open("bert_pre_ln", Norm::Pre);
    // Sublayer 3 is open in the first part only.
    let mut closed = open();
    closed[3] = Gate::CLOSED;
    let whole = case.gradients(&case.forward(&open()).loss, &open());
    let partial = case.gradients(&case.forward(&closed).loss, &closed);
    for gates in [open(), closed] {
        let loss = case.forward(&gates).loss * 0.5;
        Tape::default().differentiate(&case.weights, &loss, &case.weights.open(&gates));
    }
    for (name, found) in case.held(&open()) {
        let second = partial.get(&name).map_or_else(|| whole[&name].zeros_like(), Tensor::shallow_clone);
        let expected = (&whole[&name] + second) * 0.5;
        // The gradient of a key's bias is zero except for rounding.
        if !name.ends_with("key.bias") {
            close(&name, &found, &expected);
        }
    }
}

#[test]
fn closed_blocks_and_scaled_branches_compute_the_block_of_the_paper() {
    let mut case = Case::open("bert_pre_ln", Norm::Pre);
    case.expected = tensors("pld_gated");
    let gates = case.gates();
    let open: Vec<bool> = gates.iter().step_by(2).map(Gate::is_open).collect();
    assert_eq!(open, [true, false, true, true, false]);

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
    // Whatever uses a weight that is NaN becomes NaN.
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
    assert!(!case.forward(&open()).loss.double_value(&[]).is_finite(), "an open block uses these weights");
}

#[test]
fn with_every_block_closed_the_output_is_the_embeddings() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let hidden = case.forward(&vec![Gate { rows: Rows::None, scale: 2.0 }; 2 * BLOCKS]).hidden;
        assert_eq!(hidden.len(), BLOCKS + 1);
        assert!(hidden.iter().all(|state| *state == hidden[0]), "{name}");
    }
}

#[test]
fn gates_with_keep_probability_one_give_the_plain_encoder_bit_for_bit() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let ask = Ask { seed: 3, step: 700, micro_batch: 0, batch: 13 };
        let gates = LayerDrop::progressive(1.0).gates(&model(norm, TextFamily::Bert).sublayers(), 1.0, &ask);
        let (gated, plain) = (case.forward(&gates), case.forward(&open()));
        assert_eq!(gated.loss.double_value(&[]).to_bits(), plain.loss.double_value(&[]).to_bits(), "{name}");
        assert_eq!(gated.hidden, plain.hidden, "{name}");
    }
}

#[test]
fn a_sequence_alone_gives_the_same_as_in_a_padded_batch() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let [ids, types, mask] = ["ids", "token_types", "attention_mask"].map(|what| &case.inputs[what]);
        let together = no_grad(|| case.encoder.forward(&case.input(), &open(), None));
        for row in 0..ids.size()[0] {
            let tokens = mask.get(row).sum(Kind::Int64).int64_value(&[]);
            let alone = |all: &Tensor| all.narrow(0, row, 1).narrow(1, 0, tokens);
            let input = Input::padded(alone(ids), alone(types), &alone(mask));
            let alone = no_grad(|| case.encoder.forward(&input, &open(), None));
            close(&format!("{name}, row {row}"), &alone, &together.narrow(0, row, 1).narrow(1, 0, tokens));
        }
    }
}

/// Gates that are drawn per sequence are tested too: an open sublayer then works on some sequences of the batch.
#[test]
fn a_sequence_alone_gives_the_same_as_in_a_packed_batch_with_any_gates() {
    for (name, norm) in [("bert_post_ln", Norm::Post), ("bert_pre_ln", Norm::Pre)] {
        let case = Case::open(name, norm);
        let ids = &case.inputs["ids"];
        let rows = ids.size()[0] as u32;
        // Each sublayer is open to most rows, not to the same ones, and has its own scale.
        let is_open = |place: usize, row: u32| !row.is_multiple_of(place as u32 + 2);
        let scale = |place: usize| 1.0 + place as f64 / 10.0;
        let gate = |place: usize| {
            let open = (0..rows).filter(|&row| is_open(place, row)).collect();
            Gate { rows: Rows::Some(open), scale: scale(place) }
        };
        let gates: Vec<Gate> = (0..2 * BLOCKS).map(gate).collect();
        let packed = |ids: Tensor| Input::packed(ids, None);
        let together = no_grad(|| case.encoder.forward(&packed(ids.shallow_clone()), &gates, None));
        for row in 0..rows {
            let own = |place: usize| {
                let rows = if is_open(place, row) { Rows::All } else { Rows::None };
                Gate { rows, scale: scale(place) }
            };
            let own: Vec<Gate> = (0..2 * BLOCKS).map(own).collect();
            let at = i64::from(row);
            let alone = no_grad(|| case.encoder.forward(&packed(ids.narrow(0, at, 1)), &own, None));
            close(&format!("{name}, row {row}"), &alone, &together.narrow(0, at, 1));
        }
    }
}

fn open() -> Vec<Gate> {
    vec![Gate::OPEN; 2 * BLOCKS]
}

fn model(norm: Norm, family: TextFamily) -> Model {
    Model {
        blocks: BLOCKS as u32,
        hidden: 32,
        heads: 4,
        intermediate: 37,
        positions: 19,
        norm,
        order: None,
        embedding: (family == TextFamily::Electra).then_some(24),
        embedding_norm: norm == Norm::Post,
        dropout: 0.0,
        attention_dropout: 0.0,
    }
}

/// A published model with its inputs and the values that transformers computed.
struct Case {
    weights: Weights,
    encoder: Encoder,
    head: AnyHead,
    inputs: BTreeMap<&'static str, Tensor>,
    expected: BTreeMap<String, Tensor>,
}

enum AnyHead {
    Mlm(MlmHead),
    Detector(Detector),
}

struct Forward {
    loss: Tensor,
    /// Output of the embeddings, then of each block, before the last LayerNorm.
    hidden: Vec<Tensor>,
    last: Tensor,
}

impl Case {
    fn open(name: &str, norm: Norm) -> Self {
        let family = if name == "electra" { TextFamily::Electra } else { TextFamily::Bert };
        let model = model(norm, family);
        let expected = tensors(name);
        let head = match family {
            TextFamily::Electra => TextHead::Electra(Electra::default()),
            TextFamily::Bert => TextHead::MLM,
        };
        let weights = Weights::new(&model, 99, head, &Seeds::default(), Device::Cpu);
        let published = expected.keys().filter_map(|key| key.strip_prefix("weight."));
        // The fixture of the detector has no generator.
        let ours = || weights.named().into_iter().filter(|(name, _)| !name.starts_with("generator"));
        assert!(ours().map(|(name, _)| name).eq(published), "names are the published ones");
        for (name, mut weight) in ours() {
            let source = &expected[&format!("weight.{name}")];
            assert_eq!(weight.size(), source.size(), "{name}");
            no_grad(|| weight.copy_(source));
        }
        let inputs = ["ids", "attention_mask", "token_types", "labels"];
        let inputs = inputs.map(|what| (what, expected[&format!("input.{what}")].shallow_clone()));
        Self {
            encoder: Encoder::new(&weights, family, &model, PADDING),
            head: match family {
                TextFamily::Electra => AnyHead::Detector(Detector::new(&weights)),
                TextFamily::Bert => AnyHead::Mlm(MlmHead::new(&weights)),
            },
            weights,
            inputs: inputs.into(),
            expected,
        }
    }

    fn check_plain(&self) {
        let forward = self.forward(&open());
        // Hugging Face lists the last hidden state after the last LayerNorm, if there is one.
        for (index, hidden) in forward.hidden[..BLOCKS].iter().chain([&forward.last]).enumerate() {
            self.agrees(&format!("output.hidden.{index}"), hidden);
        }
        self.agrees("output.logits", &self.logits(&open()));
        self.agrees("output.loss", &forward.loss.view([1]));
        let gradients = self.gradients(&forward.loss, &open());
        assert_eq!(gradients.len(), self.expected.keys().filter(|name| name.starts_with("grad.")).count());
        self.gradients_agree(&gradients);
    }

    fn gradients_agree(&self, gradients: &BTreeMap<String, Tensor>) {
        for (name, gradient) in gradients {
            let expected = &self.expected[&format!("grad.{name}")];
            match name.strip_suffix("key.bias") {
                // A bias on every key shifts all scores of a query by the same amount, which softmax ignores. So
                // the exact gradient is zero, and both implementations have only rounding errors of the query's.
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
        let gate = |(open, p): (i64, f64)| {
            let rows = if open == 1 { Rows::All } else { Rows::None };
            vec![Gate { rows, scale: 1.0 / p }; 2]
        };
        open.into_iter().zip(keep).flat_map(gate).collect()
    }

    /// The loss over the labelled positions only, as in training.
    fn forward(&self, gates: &[Gate]) -> Forward {
        let mut hidden = Vec::new();
        let mut observe = |state: &Tensor| hidden.push(state.detach());
        let last = self.encoder.forward_observed(&self.input(), gates, &mut observe);
        // The output of the embeddings, then of every second sublayer.
        let hidden = hidden.into_iter().step_by(2).collect();
        let labels = self.inputs["labels"].flatten(0, -1);
        let loss = match &self.head {
            AnyHead::Mlm(head) => {
                let positions = labels.ne(-100).nonzero().squeeze_dim(1);
                let (logits, labels) = (head.forward(&last, &positions), labels.index_select(0, &positions));
                logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)
            }
            AnyHead::Detector(head) => {
                let tokens = self.inputs["attention_mask"].flatten(0, -1).nonzero().squeeze_dim(1);
                let of_tokens = |all: &Tensor| all.flatten(0, -1).index_select(0, &tokens);
                let (logits, labels) = (of_tokens(&head.forward(&last)), of_tokens(&labels).to_kind(Kind::Float));
                logits.binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Mean)
            }
        };
        Forward { loss, hidden, last: last.detach() }
    }

    /// Logits of every position, `[13, 7, 99]`, or `[13, 7]` of the detector.
    fn logits(&self, gates: &[Gate]) -> Tensor {
        let hidden = self.encoder.forward(&self.input(), gates, None);
        match &self.head {
            AnyHead::Mlm(head) => {
                head.forward(&hidden, &Tensor::arange(13 * 7, (Kind::Int64, Device::Cpu))).view([13, 7, 99])
            }
            AnyHead::Detector(head) => head.forward(&hidden),
        }
    }

    /// Gradients of the open groups, by published name.
    fn gradients(&self, loss: &Tensor, gates: &[Gate]) -> BTreeMap<String, Tensor> {
        Tape::default().differentiate(&self.weights, loss, &self.weights.open(gates));
        let held = self.held(gates);
        self.weights.groups().iter().for_each(Group::forget_gradient);
        held
    }

    /// The gradients that the groups opened by `gates` hold, by published name.
    fn held(&self, gates: &[Gate]) -> BTreeMap<String, Tensor> {
        let open = self.weights.open(gates);
        let groups = self.weights.groups().iter().zip(open).filter(|(_, open)| *open);
        let named = groups.flat_map(|(group, _)| group.named(group.gradient()));
        named.filter(|(name, _)| !name.starts_with("generator")).map(|(name, value)| (name, value.copy())).collect()
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

//! Compares bfloat16 with float32: the loss and every gradient of one step, and the loss after some training.

use recipe::{Gate, Model, Norm, Optimizer as Rule, Precision, Seeds, Size};
use tch::{Device, Kind, Tensor};
use trainer::bert::{Encoder, Family, Input, MlmHead, TextHead, Weights};
use trainer::kernel::Noise;
use trainer::optimizer::Optimizer;
use trainer::recompute::Tape;

const VOCABULARY: u32 = 97;
const B: i64 = 5;
const S: i64 = 33;

struct Case {
    weights: Weights,
    encoder: Encoder,
    head: MlmHead,
    optimizer: Optimizer,
}

impl Case {
    fn new(precision: Precision, norm: Norm) -> Self {
        let model = Model::of_size(Size { blocks: 3, hidden: 48, heads: 3, intermediate: 80 }, norm);
        let weights =
            Weights::new(&model, VOCABULARY, TextHead::MLM, &Seeds::default(), Device::Cpu).with_precision(precision);
        Self {
            encoder: Encoder::new(&weights, Family::Bert, &model, 0),
            head: MlmHead::new(&weights),
            optimizer: Optimizer::new(Rule::default(), &weights),
            weights,
        }
    }

    /// The loss at `step`; the weights hold its gradients afterwards. Every third token is predicted, and its label is
    /// its id.
    fn differentiated(&self, step: u64) -> f64 {
        let numbers = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu));
        let ids = (numbers(B * S) * (7 + step as i64)).remainder(i64::from(VOCABULARY)).view([B, S]);
        let positions = numbers(B * S / 3) * 3;
        let labels = ids.flatten(0, -1).index_select(0, &positions);
        let hidden = self.encoder.forward_at(
            &Input::packed(ids, None),
            &[Gate::OPEN; 6],
            &positions,
            Some(&Noise::new(1, step, 0)),
            None,
        );
        let loss = self.head.loss(&hidden, &labels, 1.0 / positions.numel() as f64);
        Tape::default().differentiate(&self.weights, &loss, &vec![true; self.weights.groups().len()]);
        loss.double_value(&[])
    }
}

/// The dropout is equal, since its draws do not depend on the precision.
#[test]
fn loss_and_gradients_equal_those_of_float32_within_the_precision() {
    for norm in [Norm::Pre, Norm::Post] {
        let [single, half] = [Precision::Float32, Precision::Bfloat16].map(|precision| Case::new(precision, norm));
        let (expected, found) = (single.differentiated(0), half.differentiated(0));
        assert!((found - expected).abs() < 2e-3 * expected, "{norm:?}: {found}, expected {expected}");
        for index in 0..single.weights.groups().len() {
            let (expected, found) =
                (single.weights.groups()[index].gradient(), half.weights.groups()[index].gradient());
            let error = (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
            assert!(error < 0.03, "{norm:?}, group {index}: off by {error}");
        }
    }
}

#[test]
fn training_in_bfloat16_reaches_the_loss_of_float32() {
    let [single, half] = [Precision::Float32, Precision::Bfloat16].map(|precision| {
        let mut case = Case::new(precision, Norm::Pre);
        let mut last = 0.0;
        for step in 0..60 {
            last = case.differentiated(step);
            let _ = case.optimizer.clip(&case.weights);
            case.optimizer.update(&mut case.weights, 3e-3);
        }
        last
    });
    assert!(single < 3.0, "{single} from {}", f64::from(VOCABULARY).ln());
    assert!((half - single).abs() < 0.1 * single, "bfloat16 ends at {half}, float32 at {single}");
}

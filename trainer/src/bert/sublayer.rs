//! One half of a block, with the gate that switches it (Zhang & He 2020, section 3).

use recipe::{Gate, Model, Norm, Rows, Sublayer as Half};
use tch::Tensor;

use super::attention::Attention;
use super::layout::{Family, norm_name};
use super::linear::{LayerNorm, Linear};
use super::weights::Weights;
use crate::device::upload;
use crate::kernel::{self, Dropout, Noise};

#[derive(Debug)]
pub struct Sublayer {
    placement: Norm,
    norm: LayerNorm,
    body: Body,
    dropout: f64,
    /// The first of its [`SITES`] dropout sites.
    site: u32,
}

/// Number of dropout sites in a sublayer: its branch, its attention weights.
pub(super) const SITES: u32 = 2;

#[derive(Debug)]
enum Body {
    Attention(Attention),
    FeedForward(FeedForward),
}

impl Sublayer {
    /// One half of a block (from 0) in the encoder of a family. `site` is its first dropout site.
    pub(super) fn new(weights: &Weights, family: Family, (block, half): (u32, Half), model: &Model, site: u32) -> Self {
        let prefix = &family.block(block);
        Self {
            placement: model.norm,
            norm: LayerNorm::new(weights, &format!("{prefix}.{}", norm_name(model.norm, half))),
            body: match half {
                Half::Attention => Body::Attention(Attention::new(weights, prefix, model, family.is_causal())),
                Half::FeedForward => Body::FeedForward(FeedForward::new(weights, prefix)),
            },
            dropout: model.dropout,
            site,
        }
    }

    /// True if the output at a token depends on that token alone.
    pub(super) fn is_token_wise(&self) -> bool {
        matches!(self.body, Body::FeedForward(_))
    }

    /// `x` `[B, S, H]` to `[B, S, H]`; `mask` is as in [`Attention`]. If the gate is closed, nothing runs and `x` is
    /// returned; if it is open to some sequences, the sublayer runs on these only. Without `noise`, nothing is dropped
    /// out.
    pub(super) fn forward(&self, x: Tensor, mask: Option<&Tensor>, gate: &Gate, noise: Option<&Noise>) -> Tensor {
        match &gate.rows {
            Rows::None => x,
            Rows::All => self.forward_open(&x, mask, gate.scale, noise),
            Rows::Some(rows) => {
                let rows: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
                let rows = upload(&rows, x.device());
                let mask = mask.map(|mask| mask.index_select(0, &rows));
                let selected_rows = x.index_select(0, &rows);
                let output = self.forward_open(&selected_rows, mask.as_ref(), gate.scale, noise);
                x.index_copy(0, &rows, &output)
            }
        }
    }

    /// Pre-LN: `x + F(LN x) scale`. Post-LN: `LN(x + F(x) scale)`.
    fn forward_open(&self, x: &Tensor, mask: Option<&Tensor>, scale: f64, noise: Option<&Noise>) -> Tensor {
        let dropout = |site: u32, rate: f64| noise.map_or(Dropout::NONE, |noise| noise.at(self.site + site, rate));
        let (y, residual) = match self.placement {
            Norm::Pre => self.norm.split_residual(x),
            Norm::Post => (self.norm.product_input(x), x.shallow_clone()),
        };
        let (y, output_projection) = match &self.body {
            Body::Attention(attention) => attention.forward(&y, mask, |rate| dropout(1, rate)),
            Body::FeedForward(feed_forward) => feed_forward.forward(&y),
        };
        let branch = output_projection.product(&y);
        let sum = kernel::drop(&branch, &output_projection.bias, &residual, dropout(0, self.dropout), scale);
        match self.placement {
            Norm::Pre => sum,
            Norm::Post => self.norm.forward(&sum),
        }
    }
}

/// `W2 gelu(W1 x)`, with the exact GELU.
#[derive(Debug)]
struct FeedForward {
    /// `[I, H]`
    widen: Linear,
    /// `[H, I]`
    narrow: Linear,
}

impl FeedForward {
    fn new(weights: &Weights, prefix: &str) -> Self {
        Self {
            widen: Linear::new(weights, &format!("{prefix}.intermediate.dense")),
            narrow: Linear::new(weights, &format!("{prefix}.output.dense")),
        }
    }

    /// `[B, S, H]` to `[B, S, I]`, and the output projection, which the caller applies to it.
    fn forward(&self, x: &Tensor) -> (Tensor, &Linear) {
        (kernel::gelu(&self.widen.product(x), &self.widen.bias), &self.narrow)
    }
}

#[cfg(test)]
mod tests {
    use recipe::{Seeds, Size};
    use tch::{Device, Kind};

    use super::*;
    use crate::bert::TextHead;
    use crate::bert::weights::Group;
    use crate::recompute::Tape;

    #[test]
    fn a_gate_that_is_open_to_some_sequences_leaves_the_others_unchanged() {
        let size = Size { blocks: 1, hidden: 12, heads: 3, intermediate: 20 };
        for norm in [Norm::Pre, Norm::Post] {
            let model = Model::of_size(size, norm);
            let weights = Weights::new(&model, 30, TextHead::MLM, &Seeds::default(), Device::Cpu);
            let x = Tensor::randn([5, 7, 12], (Kind::Float, Device::Cpu));
            let mask = Tensor::arange(5 * 7, (Kind::Int64, Device::Cpu)).remainder(7).lt(5).view([5, 1, 1, 7]);
            for half in [Half::Attention, Half::FeedForward] {
                let sublayer = Sublayer::new(&weights, Family::Bert, (0, half), &model, 0);
                let gate = |rows| Gate { rows, scale: 1.5 };
                let run = |rows| sublayer.forward(x.shallow_clone(), Some(&mask), &gate(rows), None);
                let (all, some) = (run(Rows::All), run(Rows::Some(vec![1, 4])));
                for row in 0..5 {
                    let expected = if [1, 4].contains(&row) { all.get(row) } else { x.get(row) };
                    let error = (some.get(row) - expected).abs().max().double_value(&[]);
                    assert!(error < 1e-6, "{norm:?} {half:?} row {row}: {error}");
                }
            }
        }
    }

    /// Zero times NaN is NaN: had the other sequences been computed and then masked out, their NaN would reach the
    /// gradients.
    #[test]
    fn a_gate_that_is_open_to_some_sequences_computes_no_others() {
        let model = Model::of_size(Size { blocks: 1, hidden: 12, heads: 3, intermediate: 20 }, Norm::Pre);
        let weights = Weights::new(&model, 30, TextHead::MLM, &Seeds::default(), Device::Cpu);
        let x = Tensor::randn([5, 7, 12], (Kind::Float, Device::Cpu));
        let rows = Tensor::from_slice(&[1i64, 4]);
        let some = x.full_like(f64::NAN).index_copy(0, &rows, &x.index_select(0, &rows));
        for (group, half) in [(1, Half::Attention), (2, Half::FeedForward)] {
            let sublayer = Sublayer::new(&weights, Family::Bert, (0, half), &model, 0);
            let run = |x: &Tensor, rows| {
                let out = sublayer.forward(x.shallow_clone(), None, &Gate { rows, scale: 1.5 }, None);
                Tape::default().differentiate(&weights, &(&out * out.detach()).sum(Kind::Float), &[true; 3]);
                let gradient = weights.groups()[group].gradient().copy();
                weights.groups().iter().for_each(Group::forget_gradient);
                (out, gradient)
            };
            let (found, gradient) = run(&some, Rows::Some(vec![1, 4]));
            let (alone, expected) = run(&x.index_select(0, &rows), Rows::All);
            assert!(expected.norm().double_value(&[]) > 0.0);
            for (found, expected) in [(found.index_select(0, &rows), alone), (gradient, expected)] {
                let error = (found - expected).abs().max().double_value(&[]);
                assert!(error < 1e-5, "{half:?}: {error}");
            }
        }
    }
}

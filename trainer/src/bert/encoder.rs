//! The encoder: embeddings, sublayers, and the last LayerNorm of Pre-LN.

use std::rc::Rc;

use recipe::{Gate, Model, Norm, Rows};
use tch::Tensor;

use super::embeddings::Embeddings;
use super::input::Input;
use super::layout::{Family, places};
use super::linear::{LayerNorm, Linear};
use super::patches::PatchEmbeddings;
use super::sublayer::{SITES, Sublayer};
use super::weights::Weights;
use crate::kernel::Noise;
use crate::recompute::Tape;

/// The embeddings, which come before the blocks.
#[derive(Debug)]
enum Front {
    Words(Embeddings),
    Patches(PatchEmbeddings),
}

#[derive(Debug)]
pub struct Encoder {
    front: Front,
    /// From the embeddings' width to the encoder's, if they differ.
    project: Option<Linear>,
    sublayers: Vec<Rc<Sublayer>>,
    /// Index of the first sublayer's group of weights; those of the other sublayers follow.
    first_group: usize,
    /// Places of the sublayers that a forward pass uses, in forward order.
    order: Vec<usize>,
    /// Pre-LN leaves the sum of its branches unnormalised, so one more LayerNorm ends the stack.
    norm: Option<LayerNorm>,
}

impl Encoder {
    /// `padding` is the id of `[PAD]`, or -1 if there is none.
    pub fn new(weights: &Weights, family: impl Into<Family>, model: &Model, padding: i64) -> Self {
        let family = family.into();
        let prefix = family.prefix();
        let projects = model.embedding_width() != model.hidden;
        Self {
            front: match family {
                Family::Patches => Front::Patches(PatchEmbeddings::new(weights, model)),
                _ => Front::Words(Embeddings::new(weights, family, model, padding)),
            },
            project: projects.then(|| Linear::new(weights, &format!("{prefix}.embeddings_project"))),
            sublayers: (0..)
                .zip(places(model))
                .map(|(place, (block, half))| {
                    let site = family.first_site() + 1 + place * SITES;
                    Rc::new(Sublayer::new(weights, family, (block, half), model, site))
                })
                .collect(),
            first_group: family.first_group(model),
            order: (0..2 * model.blocks as usize).collect(),
            norm: (model.norm == Norm::Pre).then(|| LayerNorm::new(weights, &format!("{prefix}.encoder.ln"))),
        }
    }

    /// From now on, a forward pass uses only the sublayers at the places `order` (from 0), in that order.
    ///
    /// # Panics
    /// If there is no sublayer at one of the places.
    pub fn set_order(&mut self, order: Vec<usize>) {
        assert!(order.iter().all(|&place| place < self.sublayers.len()), "{order:?}");
        self.order = order;
    }

    /// The last hidden state, `[B, S, H]`. `gates` holds one gate per sublayer, in forward order; without `noise`,
    /// nothing is dropped out.
    pub fn forward(&self, input: &Input, gates: &[Gate], noise: Option<&Noise>) -> Tensor {
        self.forward_recorded(input, gates, noise, None)
    }

    /// The same as [`Encoder::forward`]. With a `tape`, the intermediate values of open sublayers are not kept: the
    /// backward pass recomputes them.
    pub fn forward_recorded(
        &self,
        input: &Input,
        gates: &[Gate],
        noise: Option<&Noise>,
        mut tape: Option<&mut Tape>,
    ) -> Tensor {
        let mut x = self.embed(input, gates, noise, tape.as_deref_mut());
        for &place in &self.order {
            x = self.apply(place, x, input, &gates[place], noise, tape.as_deref_mut());
        }
        self.normalise(x)
    }

    /// The same as [`Encoder::forward`] without noise. `observe` gets the input of the first sublayer, then the output
    /// of each sublayer.
    pub fn forward_observed(&self, input: &Input, gates: &[Gate], observe: &mut dyn FnMut(&Tensor)) -> Tensor {
        let mut x = self.embed(input, gates, None, None);
        observe(&x);
        for &place in &self.order {
            x = self.apply(place, x, input, &gates[place], None, None);
            observe(&x);
        }
        self.normalise(x)
    }

    /// The rows of [`Encoder::forward_recorded`] at `positions` `[M]`, int64 indexes into the `B * S` tokens: `[M, H]`.
    /// If the last open sublayer is a feed-forward one, it computes these tokens only, because its output at a
    /// token depends on that token alone.
    pub fn forward_at(
        &self,
        input: &Input,
        gates: &[Gate],
        positions: &Tensor,
        noise: Option<&Noise>,
        mut tape: Option<&mut Tape>,
    ) -> Tensor {
        let mut x = self.embed(input, gates, noise, tape.as_deref_mut());
        let last = self.order.iter().rev().copied().find(|&place| gates[place].is_open());
        let partial =
            last.filter(|&last| self.sublayers[last].is_token_wise() && matches!(gates[last].rows, Rows::All));
        for &place in &self.order {
            let gate = &gates[place];
            if Some(place) == partial {
                // The tape needs no entry: so few tokens cost little memory, and the loss follows in the same graph.
                x = self.apply(place, at(&x, positions), input, gate, noise, None);
            } else {
                x = self.apply(place, x, input, gate, noise, tape.as_deref_mut());
            }
        }
        self.normalise(if partial.is_some() { x } else { at(&x, positions) })
    }

    /// The output of the sublayer at `place` for the input `x`.
    fn apply(
        &self,
        place: usize,
        x: Tensor,
        input: &Input,
        gate: &Gate,
        noise: Option<&Noise>,
        tape: Option<&mut Tape>,
    ) -> Tensor {
        let mask = input.mask.as_ref();
        match tape.filter(|_| gate.is_open()) {
            None => self.sublayers[place].forward(x, mask, gate, noise),
            Some(tape) => {
                let sublayer = Rc::clone(&self.sublayers[place]);
                let (mask, gate, noise) = (mask.map(Tensor::shallow_clone), gate.clone(), noise.copied());
                tape.recompute(x, self.first_group + place, move |x| {
                    sublayer.forward(x.shallow_clone(), mask.as_ref(), &gate, noise.as_ref())
                })
            }
        }
    }

    /// The input of the first sublayer, `[B, S, H]`.
    fn embed(&self, input: &Input, gates: &[Gate], noise: Option<&Noise>, tape: Option<&mut Tape>) -> Tensor {
        assert_eq!(gates.len(), self.sublayers.len(), "one gate per sublayer");
        let x = match &self.front {
            Front::Words(embeddings) => embeddings.forward(input, noise),
            Front::Patches(embeddings) => embeddings.forward(&input.shown, noise),
        };
        let x = match &self.project {
            Some(project) => project.forward(&x),
            None => x,
        };
        match tape {
            Some(tape) => tape.cut(x),
            None => x,
        }
    }

    fn normalise(&self, x: Tensor) -> Tensor {
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        }
    }
}

/// The tokens of `x` `[B, S, H]` at `positions` `[M]`, int64 indexes into all `B * S`: `[M, H]`.
pub fn at(x: &Tensor, positions: &Tensor) -> Tensor {
    x.flatten(0, 1).index_select(0, positions)
}

#[cfg(test)]
mod tests {
    use recipe::{Seeds, Size};
    use tch::{Device, Kind, no_grad};

    use super::*;
    use crate::bert::TextHead;

    #[test]
    fn selected_positions_match_the_full_output_and_gradients() {
        let size = Size { blocks: 2, hidden: 12, heads: 3, intermediate: 20 };
        let (all, none) = (|| Gate { rows: Rows::All, scale: 1.5 }, || Gate { rows: Rows::None, scale: 1.5 });
        let some = || Gate { rows: Rows::Some(vec![0, 3]), scale: 1.5 };
        let cases = [
            [all(), all(), all(), all()],
            [all(), all(), all(), none()],
            [all(), all(), none(), none()],
            [all(), all(), none(), some()],
            [none(), none(), none(), none()],
        ];
        let ids = Tensor::arange(5 * 7, (Kind::Int64, Device::Cpu)).remainder(30).view([5, 7]);
        let positions = Tensor::from_slice(&[0i64, 5, 8, 21, 34]);
        for norm in [Norm::Pre, Norm::Post] {
            let model = Model::of_size(size, norm);
            let weights = Weights::new(&model, 30, TextHead::MLM, &Seeds::default(), Device::Cpu);
            let encoder = Encoder::new(&weights, Family::Bert, &model, 0);
            let input = Input::packed(ids.shallow_clone(), None);
            for gates in &cases {
                let expected = at(&encoder.forward(&input, gates, None), &positions);
                let found = encoder.forward_at(&input, gates, &positions, None, None);
                let gradients = |x: &Tensor| {
                    let group = &weights.groups()[0];
                    group.forget_gradient();
                    let words = weights.matrix("bert.embeddings.word_embeddings.weight");
                    Tensor::run_backward(&[(x * x.sin()).sum(Kind::Float)], &[words.value], false, false);
                    words.sink.map(|sink| sink.gradient.copy()).unwrap_or_default()
                };
                for (found, expected) in [(&found, &expected), (&gradients(&found), &gradients(&expected))] {
                    let error = (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
                    assert!(error < 1e-5, "{norm:?} {gates:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn sublayers_follow_each_other_in_the_order_of_the_model() {
        use recipe::Sublayer::{Attention as A, FeedForward as F};
        let size = Size { blocks: 4, hidden: 12, heads: 3, intermediate: 20 };
        let written = [(0, A), (1, A), (0, F), (1, F), (2, F), (2, A), (3, A), (3, F)];
        for norm in [Norm::Pre, Norm::Post] {
            let model = Model { order: Some("ssfffssf".into()), ..Model::of_size(size, norm) };
            assert_eq!(places(&model).collect::<Vec<_>>(), written);
            let weights = Weights::new(&model, 30, TextHead::MLM, &Seeds::default(), Device::Cpu);
            for (group, (block, half)) in weights.groups()[1..].iter().zip(written) {
                // The weights are made so large that the order matters.
                let _ = no_grad(|| group.buffer().narrow(0, 0, group.matrices()).g_mul_scalar_(20.0));
                let matrix = if half == A { "attention.self.query" } else { "intermediate.dense" };
                let (name, _) = &group.named(group.buffer())[0];
                assert_eq!(*name, format!("bert.encoder.layer.{block}.{matrix}.weight"));
            }
            let encoder = Encoder::new(&weights, Family::Bert, &model, 0);
            let ids = Tensor::arange(5 * 7, (Kind::Int64, Device::Cpu)).remainder(30).view([5, 7]);
            let input = Input::packed(ids, None);
            let by_hand = |order: &[(u32, recipe::Sublayer)]| {
                let apply = |x: Tensor, &place: &(u32, recipe::Sublayer)| {
                    Sublayer::new(&weights, Family::Bert, place, &model, 0).forward(x, None, &Gate::OPEN, None)
                };
                encoder.normalise(order.iter().fold(encoder.embed(&input, &[Gate::OPEN; 8], None, None), apply))
            };
            let found = encoder.forward(&input, &[Gate::OPEN; 8], None);
            assert_eq!(found, by_hand(&written), "{norm:?}");
            let plain: Vec<_> = (0..4).flat_map(|block| [(block, A), (block, F)]).collect();
            assert!((found - by_hand(&plain)).abs().max().double_value(&[]) > 0.01, "{norm:?}: the order matters");
            // Gate 4 belongs to the fifth sublayer in the order of the model.
            let mut gates = [Gate::OPEN; 8].to_vec();
            gates[4] = Gate::CLOSED;
            let found = encoder.forward(&input, &gates, None);
            assert_eq!(found, by_hand(&[&written[..4], &written[5..]].concat()), "{norm:?}");
        }
    }
}

//! Embeddings, sublayers, and the last LayerNorm of Pre-LN.

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

/// What comes before the blocks.
#[derive(Debug)]
enum Front {
    Words(Embeddings),
    Patches(PatchEmbeddings),
}

#[derive(Debug)]
pub struct Encoder {
    front: Front,
    /// From the embeddings' width to the encoder's, where these differ.
    project: Option<Linear>,
    sublayers: Vec<Rc<Sublayer>>,
    /// The group of weights of the first sublayer; the others follow.
    first_group: usize,
    /// The places of the sublayers that are gone through, in forward order.
    order: Vec<usize>,
    /// Pre-LN leaves its sum unnormalised; one more LayerNorm ends the stack.
    norm: Option<LayerNorm>,
}

impl Encoder {
    /// `padding` is the id of `[PAD]`, -1 where there is none.
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

    /// Goes through the sublayers at the places `order` (from 0) alone from here on, in that order.
    pub fn set_order(&mut self, order: Vec<usize>) {
        assert!(order.iter().all(|&place| place < self.sublayers.len()), "{order:?}");
        self.order = order;
    }

    /// Last hidden state, `[B, S, H]`. `gates` holds one gate per sublayer, in forward order; without
    /// `noise`, nothing is dropped.
    pub fn forward(&self, input: &Input, gates: &[Gate], noise: Option<&Noise>) -> Tensor {
        self.forward_recorded(input, gates, noise, None)
    }

    /// As [`Encoder::forward`]; with a `tape`, what open sublayers make on the way is not kept but made again.
    pub fn forward_recorded(
        &self,
        input: &Input,
        gates: &[Gate],
        noise: Option<&Noise>,
        mut tape: Option<&mut Tape>,
    ) -> Tensor {
        let mut x = self.embedded(input, gates, noise, tape.as_deref_mut());
        for &place in &self.order {
            x = self.through(place, x, input, &gates[place], noise, tape.as_deref_mut());
        }
        self.normed(x)
    }

    /// As [`Encoder::forward`] without noise; shows `seen` what goes into the first sublayer and then the output of each,
    /// before the last LayerNorm.
    pub fn forward_seen(&self, input: &Input, gates: &[Gate], seen: &mut dyn FnMut(&Tensor)) -> Tensor {
        let mut x = self.embedded(input, gates, None, None);
        seen(&x);
        for &place in &self.order {
            x = self.through(place, x, input, &gates[place], None, None);
            seen(&x);
        }
        self.normed(x)
    }

    /// [`Encoder::forward_recorded`] at `positions` `[M]`, int64 indexes into the `B * S` tokens: `[M, H]`. What no token at
    /// them depends on is not computed: the last open sublayer, where it is a feed-forward one, sees these tokens alone.
    pub fn forward_at(
        &self,
        input: &Input,
        gates: &[Gate],
        positions: &Tensor,
        noise: Option<&Noise>,
        mut tape: Option<&mut Tape>,
    ) -> Tensor {
        let mut x = self.embedded(input, gates, noise, tape.as_deref_mut());
        let last = self.order.iter().rev().copied().find(|&place| gates[place].is_open());
        let alone = last.filter(|&last| self.sublayers[last].is_token_wise() && matches!(gates[last].rows, Rows::All));
        for &place in &self.order {
            let gate = &gates[place];
            if Some(place) == alone {
                // So few tokens are not worth a second pass, and what follows the tape's last piece is in one graph.
                x = self.through(place, at(&x, positions), input, gate, noise, None);
            } else {
                x = self.through(place, x, input, gate, noise, tape.as_deref_mut());
            }
        }
        self.normed(if alone.is_some() { x } else { at(&x, positions) })
    }

    /// What comes out of the sublayer at `place`.
    fn through(
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
                tape.again(x, self.first_group + place, move |x| {
                    sublayer.forward(x.shallow_clone(), mask.as_ref(), &gate, noise.as_ref())
                })
            }
        }
    }

    /// What goes into the first sublayer, `[B, S, H]`.
    fn embedded(&self, input: &Input, gates: &[Gate], noise: Option<&Noise>, tape: Option<&mut Tape>) -> Tensor {
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

    fn normed(&self, x: Tensor) -> Tensor {
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
    fn at_some_positions_it_says_what_it_says_at_all_and_has_the_same_gradients() {
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
    fn an_order_of_sublayers_is_gone_through_as_it_is_written() {
        use recipe::Sublayer::{Attention as A, FeedForward as F};
        let size = Size { blocks: 4, hidden: 12, heads: 3, intermediate: 20 };
        let written = [(0, A), (1, A), (0, F), (1, F), (2, F), (2, A), (3, A), (3, F)];
        for norm in [Norm::Pre, Norm::Post] {
            let model = Model { order: Some("ssfffssf".into()), ..Model::of_size(size, norm) };
            assert_eq!(places(&model).collect::<Vec<_>>(), written);
            let weights = Weights::new(&model, 30, TextHead::MLM, &Seeds::default(), Device::Cpu);
            for (group, (block, half)) in weights.groups()[1..].iter().zip(written) {
                // So far from where they start, that the order counts.
                let _ = no_grad(|| group.buffer().narrow(0, 0, group.matrices()).g_mul_scalar_(20.0));
                let what = if half == A { "attention.self.query" } else { "intermediate.dense" };
                let (name, _) = &group.named(group.buffer())[0];
                assert_eq!(*name, format!("bert.encoder.layer.{block}.{what}.weight"));
            }
            let encoder = Encoder::new(&weights, Family::Bert, &model, 0);
            let ids = Tensor::arange(5 * 7, (Kind::Int64, Device::Cpu)).remainder(30).view([5, 7]);
            let input = Input::packed(ids, None);
            let by_hand = |order: &[(u32, recipe::Sublayer)]| {
                let through = |x: Tensor, &place: &(u32, recipe::Sublayer)| {
                    Sublayer::new(&weights, Family::Bert, place, &model, 0).forward(x, None, &Gate::OPEN, None)
                };
                encoder.normed(order.iter().fold(encoder.embedded(&input, &[Gate::OPEN; 8], None, None), through))
            };
            let found = encoder.forward(&input, &[Gate::OPEN; 8], None);
            assert_eq!(found, by_hand(&written), "{norm:?}");
            let plain: Vec<_> = (0..4).flat_map(|block| [(block, A), (block, F)]).collect();
            assert!((found - by_hand(&plain)).abs().max().double_value(&[]) > 0.01, "{norm:?}: the order counts");
            // The gate at a place is that of the sublayer which stands there.
            let mut gates = [Gate::OPEN; 8].to_vec();
            gates[4] = Gate::CLOSED;
            let found = encoder.forward(&input, &gates, None);
            assert_eq!(found, by_hand(&[&written[..4], &written[5..]].concat()), "{norm:?}");
        }
    }
}

//! AdamW (Loshchilov & Hutter 2019) and LAMB (You et al. 2020) with bias correction, over one flat buffer per group of
//! weights.

use recipe::{Algorithm, ClosedBlocks, DecayOn, Optimizer as Rule};
use tch::{Device, Tensor, no_grad};

use crate::bert::Weights;
use crate::bert::weights::{Group, bytes};
use crate::kernel::{self, Adam, Buffers};

/// State of the optimiser. A group that was closed at a step keeps moments and step count as they were.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    moments: Vec<Moments>,
    /// As long as the longest group; empty where an update is one pass over the buffers.
    scratch: Tensor,
    /// What the gradients of this step are to be multiplied with, a scalar on the device.
    factor: Option<Tensor>,
}

/// Moments of one group's gradient.
#[derive(Debug)]
pub struct Moments {
    /// Mean of the gradient, `[elements]`.
    pub first: Tensor,
    /// Mean of its square, `[elements]`.
    pub second: Tensor,
    /// Updates that this group took part in, for the bias correction.
    pub updates: u64,
}

impl Optimizer {
    pub fn new(rule: Rule, weights: &Weights) -> Self {
        let like =
            |group: &Group| group.leaves().next().map(|leaf| (group.elements(), (tch::Kind::Float, leaf.device())));
        let sizes: Vec<_> = weights.groups().iter().filter_map(like).collect();
        let zeros = |&(elements, options): &(i64, _)| Tensor::zeros([elements], options);
        let longest = sizes.iter().max_by_key(|(elements, _)| *elements);
        let is_one_pass = rule.algorithm == Algorithm::AdamW;
        Self {
            rule,
            moments: sizes.iter().map(|size| Moments { first: zeros(size), second: zeros(size), updates: 0 }).collect(),
            scratch: longest.filter(|_| !is_one_pass).map(zeros).unwrap_or_default(),
            factor: None,
        }
    }

    /// Clips the gradients of this step. Returns their global norm before that, a scalar on the device, where it stays: the
    /// host never waits for it. What [`Group::gradient`] gives stays as it is: it is the update that sees clipped gradients.
    pub fn clip(&mut self, weights: &Weights) -> Tensor {
        no_grad(|| {
            let held = weights.groups().iter().filter(|group| group.has_gradient()).map(Group::gradient);
            let (here, there): (Vec<_>, Vec<_>) = held.partition(|buffer| buffer.device() == Device::Cpu);
            let norm = if there.is_empty() {
                Tensor::from(here.into_iter().map(kernel::square_sum).sum::<f64>().sqrt())
            } else {
                Tensor::stack(&there.into_iter().map(Tensor::norm).collect::<Vec<_>>(), 0).norm()
            };
            let factor = |largest: f64| ((&norm + 1e-6).reciprocal() * largest).clamp_max(1.0);
            self.factor = self.rule.clip_norm.map(factor);
            norm
        })
    }

    /// Moves the weights that have a gradient of this step, which ends it. The others stay or are only decayed, as the rule
    /// says.
    pub fn update(&mut self, weights: &mut Weights, rate: f64) {
        no_grad(|| {
            for (index, group) in weights.groups_mut().iter_mut().enumerate() {
                if group.has_gradient() {
                    group.forget_gradient();
                    match self.rule.algorithm {
                        Algorithm::AdamW => {
                            self.adam(index, group, rate);
                            continue;
                        }
                        Algorithm::Lamb => self.lamb(index, group, rate),
                    }
                } else if self.rule.closed_blocks == ClosedBlocks::Decay {
                    self.decay(group, rate);
                } else {
                    continue;
                }
                group.refresh();
            }
        });
        self.factor = None;
    }

    /// With the clip, in one pass.
    fn adam(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Rule { beta1, beta2, epsilon, weight_decay, .. } = self.rule;
        let decayed = self.decayed(group);
        let Moments { first, second, updates } = &mut self.moments[index];
        *updates += 1;
        let rule = Adam { rate, beta1, beta2, epsilon, weight_decay, updates: *updates as i64 };
        let (values, half, gradient) = group.buffers();
        rule.update(Buffers { values, first, second, gradient, half }, self.factor.as_ref(), decayed);
    }

    /// How many elements at the front of a group's buffer are decayed.
    fn decayed(&self, group: &Group) -> i64 {
        match self.rule.decay_on {
            _ if self.rule.weight_decay <= 0.0 => 0,
            DecayOn::Matrices => group.matrices(),
            DecayOn::All => group.elements(),
        }
    }

    fn decay(&self, group: &mut Group, rate: f64) {
        let decayed = self.decayed(group);
        if decayed > 0 {
            let _ = group.values().narrow(0, 0, decayed).g_mul_scalar_(1.0 - rate * self.rule.weight_decay);
        }
    }

    fn lamb(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Rule { beta1, beta2, epsilon, weight_decay, .. } = self.rule;
        let decayed = self.decayed(group);
        let (moments, gradient) = (&mut self.moments[index], group.gradient());
        moments.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powf(moments.updates as f64);
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let mut scratch = self.scratch.narrow(0, 0, group.elements());
        if let Some(factor) = &self.factor {
            let _ = gradient.shallow_clone().g_mul_(factor);
        }

        // m <- b1 m + (1 - b1) g ; v <- b2 v + (1 - b2) g^2
        let _ = moments.first.lerp_(gradient, 1.0 - beta1);
        let _ = gradient.square_out(&scratch);
        let _ = moments.second.lerp_(&scratch, 1.0 - beta2);
        // u = (m / c1) / (sqrt(v / c2) + eps) + decay w
        let _ = moments.second.sqrt_out(&scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction2.sqrt());
        let _ = scratch.g_add_scalar_(epsilon);
        let _ = moments.first.divide_out(&scratch.shallow_clone(), &scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction1);
        if decayed > 0 {
            let values = group.values().narrow(0, 0, decayed);
            let _ = scratch.narrow(0, 0, decayed).g_add_(&(values * weight_decay));
        }
        // w <- w - rate |w|/|u| u, weight by weight
        for ((_, mut weight), (_, step)) in group.named(group.buffer()).into_iter().zip(group.named(&scratch)) {
            let (norm, of_step) = (weight.norm(), step.norm());
            // A weight that is still zero, or a step that is: the plain step. Stays on the device.
            let trust =
                (&norm / &of_step).where_self(&norm.greater(0.0).logical_and(&of_step.greater(0.0)), &norm.ones_like());
            let _ = weight.g_sub_(&(step * (trust * rate)));
        }
    }

    /// Bytes of the moments.
    pub fn bytes(&self) -> u64 {
        let moments = self.moments.iter().flat_map(|moments| [&moments.first, &moments.second]);
        moments.chain([&self.scratch]).map(bytes).sum()
    }

    /// Gives the group at `to` the moments of the one at `from`, of the same layout.
    pub(crate) fn copy_group(&mut self, from: usize, to: usize) {
        let source = &self.moments[from];
        let moments = Moments { first: source.first.copy(), second: source.second.copy(), updates: source.updates };
        self.moments[to] = moments;
    }

    /// Starts all moments again from zero.
    pub(crate) fn reset(&mut self) {
        for moments in &mut self.moments {
            let _ = moments.first.zero_();
            let _ = moments.second.zero_();
            moments.updates = 0;
        }
    }

    /// Moments of each group, in the order of [`Weights::groups`].
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Mutable access to the moments, for a resumed run.
    pub(crate) fn moments_mut(&mut self) -> &mut [Moments] {
        &mut self.moments
    }
}

#[cfg(test)]
mod tests {
    use recipe::{Model, Norm, Seeds, Size};
    use tch::Kind;

    use super::*;
    use crate::bert::TextHead;
    use crate::recompute::Tape;

    /// A weight with its moments, moved by hand.
    struct Hand {
        group: usize,
        value: Tensor,
        first: Tensor,
        second: Tensor,
    }

    fn together(of: &[Hand], group: usize, part: fn(&Hand) -> &Tensor) -> Tensor {
        let parts = of.iter().filter(|hand| hand.group == group).map(|hand| part(hand).flatten(0, -1));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    #[test]
    fn an_update_clips_by_the_norm_of_all_and_decays_matrices_and_closed_blocks_where_it_should() {
        const RATE: f64 = 0.01;
        const OPEN: [bool; 5] = [true, true, true, false, false];
        for algorithm in [Algorithm::AdamW, Algorithm::Lamb] {
            for closed_blocks in [ClosedBlocks::Skip, ClosedBlocks::Decay] {
                let what = format!("{algorithm:?}, {closed_blocks:?}");
                let rule =
                    Rule { algorithm, closed_blocks, clip_norm: Some(0.5), weight_decay: 0.1, ..Rule::default() };
                let model = Model::of_size(Size { blocks: 2, hidden: 6, heads: 2, intermediate: 10 }, Norm::Pre);
                let mut weights = Weights::new(&model, 20, TextHead::MLM, &Seeds::default(), Device::Cpu);
                let mut optimizer = Optimizer::new(rule, &weights);
                // By published name: LAMB takes query, key and value each by itself.
                let named = |(group, values): (usize, Tensor)| {
                    let parts = weights.groups()[group].named(&values).into_iter();
                    parts.map(move |(_, part)| (group, part.copy())).collect::<Vec<_>>()
                };
                let buffers = weights.groups().iter().map(|group| group.buffer().shallow_clone()).enumerate();
                let hand = |(group, value): (usize, Tensor)| Hand {
                    group,
                    first: value.zeros_like(),
                    second: value.zeros_like(),
                    value,
                };
                let mut hands: Vec<Hand> = buffers.flat_map(named).map(hand).collect();
                // The first gradient is clipped, the second is not.
                for (updates, size) in [(1, 3.0), (2, 1e-3)] {
                    let drawn: Vec<Tensor> =
                        weights.groups().iter().map(|group| group.buffer().randn_like() * size).collect();
                    let mut parts = Vec::new();
                    for (group, by) in
                        weights.groups().iter().zip(&drawn).zip(OPEN).filter_map(|(of, open)| open.then_some(of))
                    {
                        let mut offset = 0;
                        for leaf in group.leaves() {
                            let elements = leaf.numel() as i64;
                            parts.push((leaf.flatten(0, -1) * by.narrow(0, offset, elements)).sum(Kind::Float));
                            offset += elements;
                        }
                    }
                    Tape::default().differentiate(&weights, &Tensor::stack(&parts, 0).sum(Kind::Float), &OPEN);
                    let named = |(group, values): (usize, &Tensor)| {
                        weights.groups()[group].named(values).into_iter().map(|(_, part)| part).collect::<Vec<_>>()
                    };
                    let gradients: Vec<Tensor> = drawn.iter().enumerate().flat_map(named).collect();
                    let open = || hands.iter().zip(&gradients).filter(|(hand, _)| OPEN[hand.group]);
                    let norm = open().map(|(_, g)| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
                    assert_eq!(norm > 0.5, updates == 1);
                    let said = optimizer.clip(&weights).double_value(&[]);
                    assert!((said - norm).abs() < 1e-5 * norm, "{what}: {said}, expected {norm}");
                    optimizer.update(&mut weights, RATE);

                    for (hand, gradient) in hands.iter_mut().zip(&gradients) {
                        let decay = if hand.value.dim() > 1 { 0.1 } else { 0.0 };
                        if !OPEN[hand.group] {
                            if closed_blocks == ClosedBlocks::Decay {
                                hand.value = &hand.value * (1.0 - RATE * decay);
                            }
                            continue;
                        }
                        let g = gradient * (0.5 / norm).min(1.0);
                        hand.first = &hand.first * 0.9 + &g * 0.1;
                        hand.second = &hand.second * 0.999 + g.square() * 0.001;
                        let root = (&hand.second / (1.0 - 0.999f64.powi(updates))).sqrt();
                        let step = &hand.first / (1.0 - 0.9f64.powi(updates)) / (root + 1e-8);
                        hand.value = match algorithm {
                            Algorithm::AdamW => &hand.value * (1.0 - RATE * decay) - step * RATE,
                            Algorithm::Lamb => {
                                let step = step + &hand.value * decay;
                                let norm = hand.value.norm().double_value(&[]);
                                let trust = if norm > 0.0 { norm / step.norm().double_value(&[]) } else { 1.0 };
                                &hand.value - step * (trust * RATE)
                            }
                        };
                    }
                    for (number, group) in weights.groups().iter().enumerate() {
                        let moments = &optimizer.moments()[number];
                        assert_eq!(moments.updates, if OPEN[number] { updates as u64 } else { 0 }, "{what}");
                        let found = [group.buffer(), &moments.first, &moments.second];
                        let parts: [fn(&Hand) -> &Tensor; 3] =
                            [|hand| &hand.value, |hand| &hand.first, |hand| &hand.second];
                        for (found, part) in found.into_iter().zip(parts) {
                            let expected = together(&hands, number, part);
                            let error = (found - &expected).abs().max().double_value(&[]);
                            let largest = expected.abs().max().double_value(&[]);
                            assert!(error <= 1e-5 * largest, "{what}, group {number}: {error} of {largest}");
                        }
                    }
                }
            }
        }
    }
}

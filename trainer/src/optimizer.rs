//! AdamW (Loshchilov & Hutter 2019) and LAMB (You et al. 2020) with bias correction, over one flat buffer per group of
//! weights.

use recipe::{Algorithm, ClosedBlocks, DecayOn, Optimizer as Rule};
use tch::{Device, Tensor, no_grad};

use crate::bert::Weights;
use crate::bert::weights::{Group, bytes};
use crate::kernel::{self, Adam, Buffers};

/// The rule of the update and its state. A step leaves the state of a closed group unchanged.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    groups: Vec<GroupState>,
    /// Working memory for LAMB, as long as the longest group. Undefined with AdamW, which is one pass over the buffers.
    scratch: Tensor,
    /// The clipping factor of this step's gradients, a scalar on the device. None without clipping.
    factor: Option<Tensor>,
}

/// The state of one group: averages of its gradient (Adam's two moments), and the number of its updates.
#[derive(Debug)]
pub struct GroupState {
    /// Moving average of the gradient, `[elements]`.
    pub first: Tensor,
    /// Moving average of the gradient's square, `[elements]`.
    pub second: Tensor,
    /// Number of updates of this group, for the bias correction.
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
            groups: sizes
                .iter()
                .map(|size| GroupState { first: zeros(size), second: zeros(size), updates: 0 })
                .collect(),
            scratch: longest.filter(|_| !is_one_pass).map(zeros).unwrap_or_default(),
            factor: None,
        }
    }

    /// Computes the clipping factor of this step, and returns the global norm of the gradients before clipping. Both
    /// are scalars that stay on the device, so the host does not wait. The gradients themselves are not changed: the
    /// update applies the factor.
    pub fn clip(&mut self, weights: &Weights) -> Tensor {
        no_grad(|| {
            let gradients = weights.groups().iter().filter(|group| group.has_gradient()).map(Group::gradient);
            let (on_cpu, on_gpu): (Vec<_>, Vec<_>) = gradients.partition(|buffer| buffer.device() == Device::Cpu);
            let norm = if on_gpu.is_empty() {
                Tensor::from(on_cpu.into_iter().map(kernel::square_sum).sum::<f64>().sqrt())
            } else {
                Tensor::stack(&on_gpu.into_iter().map(Tensor::norm).collect::<Vec<_>>(), 0).norm()
            };
            let factor = |largest: f64| ((&norm + 1e-6).reciprocal() * largest).clamp_max(1.0);
            self.factor = self.rule.clip_norm.map(factor);
            norm
        })
    }

    /// Updates the weights that have a gradient, and discards the gradient. The rule decides if the other weights are
    /// decayed or stay unchanged.
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

    /// AdamW with the clipping, in one pass over the buffers.
    fn adam(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Rule { beta1, beta2, epsilon, weight_decay, .. } = self.rule;
        let decayed = self.decayed(group);
        let GroupState { first, second, updates } = &mut self.groups[index];
        *updates += 1;
        let rule = Adam { rate, beta1, beta2, epsilon, weight_decay, updates: *updates as i64 };
        let (values, half, gradient) = group.buffers();
        rule.update(Buffers { values, first, second, gradient, half }, self.factor.as_ref(), decayed);
    }

    /// Number of elements at the front of a group's buffer that are decayed.
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
        let (state, gradient) = (&mut self.groups[index], group.gradient());
        state.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powf(state.updates as f64);
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let mut scratch = self.scratch.narrow(0, 0, group.elements());
        if let Some(factor) = &self.factor {
            let _ = gradient.shallow_clone().g_mul_(factor);
        }

        // m <- b1 m + (1 - b1) g ; v <- b2 v + (1 - b2) g^2
        let _ = state.first.lerp_(gradient, 1.0 - beta1);
        let _ = gradient.square_out(&scratch);
        let _ = state.second.lerp_(&scratch, 1.0 - beta2);
        // u = (m / c1) / (sqrt(v / c2) + eps) + decay w
        let _ = state.second.sqrt_out(&scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction2.sqrt());
        let _ = scratch.g_add_scalar_(epsilon);
        let _ = state.first.divide_out(&scratch.shallow_clone(), &scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction1);
        if decayed > 0 {
            let values = group.values().narrow(0, 0, decayed);
            let _ = scratch.narrow(0, 0, decayed).g_add_(&(values * weight_decay));
        }
        // w <- w - rate |w|/|u| u, weight by weight
        for ((_, mut weight), (_, step)) in group.named(group.buffer()).into_iter().zip(group.named(&scratch)) {
            let (weight_norm, step_norm) = (weight.norm(), step.norm());
            // If the weight or the step is zero, the trust ratio is 1. The comparison stays on the device.
            let are_positive = weight_norm.greater(0.0).logical_and(&step_norm.greater(0.0));
            let trust = (&weight_norm / &step_norm).where_self(&are_positive, &weight_norm.ones_like());
            let _ = weight.g_sub_(&(step * (trust * rate)));
        }
    }

    /// Bytes of the averages and the working memory.
    pub fn bytes(&self) -> u64 {
        let averages = self.groups.iter().flat_map(|group| [&group.first, &group.second]);
        averages.chain([&self.scratch]).map(bytes).sum()
    }

    /// Copies the state of the group `from` to the group `to`, which has the same layout.
    pub(crate) fn copy_group(&mut self, from: usize, to: usize) {
        let GroupState { first, second, updates } = &self.groups[from];
        self.groups[to] = GroupState { first: first.copy(), second: second.copy(), updates: *updates };
    }

    /// Sets all averages and numbers of updates to zero.
    pub(crate) fn reset(&mut self) {
        for group in &mut self.groups {
            let _ = group.first.zero_();
            let _ = group.second.zero_();
            group.updates = 0;
        }
    }

    /// The state of each group, in the order of [`Weights::groups`].
    pub fn group_states(&self) -> &[GroupState] {
        &self.groups
    }

    /// Mutable access to the state of each group, to restore a checkpoint.
    pub(crate) fn group_states_mut(&mut self) -> &mut [GroupState] {
        &mut self.groups
    }
}

#[cfg(test)]
mod tests {
    use recipe::{Model, Norm, Seeds, Size};
    use tch::Kind;

    use super::*;
    use crate::bert::TextHead;
    use crate::recompute::Tape;

    /// A weight with the averages of its gradient, updated by the formulas of the test.
    struct Reference {
        group: usize,
        value: Tensor,
        first: Tensor,
        second: Tensor,
    }

    fn concatenated(references: &[Reference], group: usize, part: fn(&Reference) -> &Tensor) -> Tensor {
        let parts = references.iter().filter(|weight| weight.group == group).map(|weight| part(weight).flatten(0, -1));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    #[test]
    fn an_update_clips_by_the_global_norm_and_decays_what_the_rule_says() {
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
                // By published name, since LAMB updates query, key and value separately.
                let named = |(group, values): (usize, Tensor)| {
                    let parts = weights.groups()[group].named(&values).into_iter();
                    parts.map(move |(_, part)| (group, part.copy())).collect::<Vec<_>>()
                };
                let buffers = weights.groups().iter().map(|group| group.buffer().shallow_clone()).enumerate();
                let reference = |(group, value): (usize, Tensor)| Reference {
                    group,
                    first: value.zeros_like(),
                    second: value.zeros_like(),
                    value,
                };
                let mut references: Vec<Reference> = buffers.flat_map(named).map(reference).collect();
                // The first gradient is clipped, the second is not.
                for (updates, size) in [(1, 3.0), (2, 1e-3)] {
                    let drawn: Vec<Tensor> =
                        weights.groups().iter().map(|group| group.buffer().randn_like() * size).collect();
                    let mut parts = Vec::new();
                    let groups = weights.groups().iter().zip(&drawn).zip(OPEN);
                    for (group, gradient) in groups.filter_map(|(group, open)| open.then_some(group)) {
                        let mut offset = 0;
                        for leaf in group.leaves() {
                            let elements = leaf.numel() as i64;
                            let gradient = gradient.narrow(0, offset, elements);
                            parts.push((leaf.flatten(0, -1) * gradient).sum(Kind::Float));
                            offset += elements;
                        }
                    }
                    Tape::default().differentiate(&weights, &Tensor::stack(&parts, 0).sum(Kind::Float), &OPEN);
                    let named = |(group, values): (usize, &Tensor)| {
                        weights.groups()[group].named(values).into_iter().map(|(_, part)| part).collect::<Vec<_>>()
                    };
                    let gradients: Vec<Tensor> = drawn.iter().enumerate().flat_map(named).collect();
                    let open = || references.iter().zip(&gradients).filter(|(weight, _)| OPEN[weight.group]);
                    let norm = open().map(|(_, g)| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
                    assert_eq!(norm > 0.5, updates == 1);
                    let found = optimizer.clip(&weights).double_value(&[]);
                    assert!((found - norm).abs() < 1e-5 * norm, "{what}: {found}, expected {norm}");
                    optimizer.update(&mut weights, RATE);

                    for (weight, gradient) in references.iter_mut().zip(&gradients) {
                        let decay = if weight.value.dim() > 1 { 0.1 } else { 0.0 };
                        if !OPEN[weight.group] {
                            if closed_blocks == ClosedBlocks::Decay {
                                weight.value = &weight.value * (1.0 - RATE * decay);
                            }
                            continue;
                        }
                        let g = gradient * (0.5 / norm).min(1.0);
                        weight.first = &weight.first * 0.9 + &g * 0.1;
                        weight.second = &weight.second * 0.999 + g.square() * 0.001;
                        let root = (&weight.second / (1.0 - 0.999f64.powi(updates))).sqrt();
                        let step = &weight.first / (1.0 - 0.9f64.powi(updates)) / (root + 1e-8);
                        weight.value = match algorithm {
                            Algorithm::AdamW => &weight.value * (1.0 - RATE * decay) - step * RATE,
                            Algorithm::Lamb => {
                                let step = step + &weight.value * decay;
                                let norm = weight.value.norm().double_value(&[]);
                                let trust = if norm > 0.0 { norm / step.norm().double_value(&[]) } else { 1.0 };
                                &weight.value - step * (trust * RATE)
                            }
                        };
                    }
                    for (number, group) in weights.groups().iter().enumerate() {
                        let state = &optimizer.group_states()[number];
                        assert_eq!(state.updates, if OPEN[number] { updates as u64 } else { 0 }, "{what}");
                        let found = [group.buffer(), &state.first, &state.second];
                        let parts: [fn(&Reference) -> &Tensor; 3] =
                            [|weight| &weight.value, |weight| &weight.first, |weight| &weight.second];
                        for (found, part) in found.into_iter().zip(parts) {
                            let expected = concatenated(&references, number, part);
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

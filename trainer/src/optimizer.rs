//! AdamW with bias correction (Loshchilov & Hutter 2019), over one flat buffer per group of weights.

use recipe::{ClosedBlocks, DecayOn, Optimizer};
use tch::{Tensor, no_grad};

use crate::bert::Weights;
use crate::bert::weights::Group;

/// State of the optimiser. A group that was closed at a step keeps moments and step count as they were.
#[derive(Debug)]
pub struct AdamW {
    rule: Optimizer,
    moments: Vec<Moments>,
    /// One gradient buffer per group, overwritten at each step.
    gradients: Vec<Tensor>,
    /// As long as the longest group.
    scratch: Tensor,
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

impl AdamW {
    pub fn new(rule: Optimizer, weights: &Weights) -> Self {
        let like =
            |group: &Group| group.leaves().next().map(|leaf| (group.elements(), (tch::Kind::Float, leaf.device())));
        let sizes: Vec<_> = weights.groups().iter().filter_map(like).collect();
        let zeros = |&(elements, options): &(i64, _)| Tensor::zeros([elements], options);
        let longest = sizes.iter().max_by_key(|(elements, _)| *elements);
        Self {
            rule,
            moments: sizes.iter().map(|size| Moments { first: zeros(size), second: zeros(size), updates: 0 }).collect(),
            gradients: sizes.iter().map(zeros).collect(),
            scratch: longest.map(zeros).unwrap_or_default(),
        }
    }

    /// Differentiates the scalar `loss` by the weights of the `open` groups (one flag per group) and by no others: closed
    /// blocks have no gradient, not a zero one. Returns the gradients' global norm before clipping, a scalar on the
    /// device; the gradients stay, clipped, in [`AdamW::gradient`].
    pub fn differentiate(&mut self, weights: &Weights, loss: &Tensor, open: &[bool]) -> Tensor {
        let groups = || weights.groups().iter().zip(open).filter(|&(_, &open)| open).map(|(group, _)| group);
        let leaves: Vec<&Tensor> = groups().flat_map(Group::leaves).collect();
        let mut gradients = Tensor::run_backward(&[loss], &leaves, false, false).into_iter();
        no_grad(|| {
            let open_buffers = || self.gradients.iter().zip(open).filter(|&(_, &open)| open).map(|(buffer, _)| buffer);
            for (group, buffer) in groups().zip(open_buffers()) {
                let parts: Vec<Tensor> =
                    group.leaves().zip(&mut gradients).map(|(_, part)| part.flatten(0, -1)).collect();
                let _ = Tensor::cat_out(buffer, &parts, 0);
            }
            let norm = Tensor::stack(&open_buffers().map(Tensor::norm).collect::<Vec<_>>(), 0).norm();
            if let Some(largest) = self.rule.clip_norm {
                // Stays on the device: the host never waits for the norm.
                let factor = ((&norm + 1e-6).reciprocal() * largest).clamp_max(1.0);
                for buffer in open_buffers() {
                    let _ = buffer.shallow_clone().g_mul_(&factor);
                }
            }
            norm
        })
    }

    /// The gradient of the group at `index`, `[elements]`, as the last [`AdamW::differentiate`] that saw it open left it.
    pub fn gradient(&self, index: usize) -> &Tensor {
        &self.gradients[index]
    }

    /// Moves the `open` groups' weights by the gradients that are held. Closed ones stay or are only decayed, as the rule
    /// says.
    pub fn update(&mut self, weights: &mut Weights, open: &[bool], rate: f64) {
        no_grad(|| {
            for (index, group) in weights.groups_mut().iter_mut().enumerate() {
                if open[index] {
                    self.decay(group, rate);
                    self.step(index, group, rate);
                } else if self.rule.closed_blocks == ClosedBlocks::Decay {
                    self.decay(group, rate);
                }
            }
        });
    }

    fn decay(&self, group: &mut Group, rate: f64) {
        let decayed = match self.rule.decay_on {
            DecayOn::Matrices => group.matrices(),
            DecayOn::All => group.elements(),
        };
        if self.rule.weight_decay > 0.0 {
            let _ = group.values().narrow(0, 0, decayed).g_mul_scalar_(1.0 - rate * self.rule.weight_decay);
        }
    }

    fn step(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Optimizer { beta1, beta2, epsilon, .. } = self.rule;
        let (moments, gradient) = (&mut self.moments[index], &self.gradients[index]);
        moments.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powf(moments.updates as f64);
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let mut scratch = self.scratch.narrow(0, 0, group.elements());

        // m <- b1 m + (1 - b1) g ; v <- b2 v + (1 - b2) g^2
        let _ = moments.first.lerp_(gradient, 1.0 - beta1);
        let _ = gradient.square_out(&scratch);
        let _ = moments.second.lerp_(&scratch, 1.0 - beta2);
        // w <- w - rate (m / c1) / (sqrt(v / c2) + eps)
        let _ = moments.second.sqrt_out(&scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction2.sqrt());
        let _ = scratch.g_add_scalar_(epsilon);
        let _ = moments.first.divide_out(&scratch.shallow_clone(), &scratch);
        let _ = scratch.g_mul_scalar_(-rate / correction1);
        let _ = group.values().g_add_(&scratch);
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

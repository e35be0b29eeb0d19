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
    /// As long as the longest group; empty where clipping and update are one pass.
    scratch: Tensor,
    /// Whether clipping and update are one pass over the buffers.
    fused: bool,
    /// What the gradients of this step are multiplied with, where they are.
    factor: f64,
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
        let on_cpu = sizes.iter().all(|(_, (_, device))| *device == Device::Cpu);
        let zeros = |&(elements, options): &(i64, _)| Tensor::zeros([elements], options);
        let longest = sizes.iter().max_by_key(|(elements, _)| *elements);
        let fused = rule.algorithm == Algorithm::AdamW && on_cpu;
        Self {
            rule,
            moments: sizes.iter().map(|size| Moments { first: zeros(size), second: zeros(size), updates: 0 }).collect(),
            scratch: longest.filter(|_| !fused).map(zeros).unwrap_or_default(),
            fused,
            factor: 1.0,
        }
    }

    /// Clips the gradients of this step. Returns their global norm before that, a scalar on the device; what
    /// [`Group::gradient`] gives may stay as it is: it is the update that sees clipped gradients.
    pub fn clip(&mut self, weights: &Weights) -> Tensor {
        let held = || weights.groups().iter().filter(|group| group.has_gradient()).map(Group::gradient);
        if self.fused {
            let norm = held().map(kernel::square_sum).sum::<f64>().sqrt();
            self.factor = self.rule.clip_norm.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0));
            return Tensor::from(norm as f32);
        }
        no_grad(|| {
            let norm = Tensor::stack(&held().map(Tensor::norm).collect::<Vec<_>>(), 0).norm();
            if let Some(largest) = self.rule.clip_norm {
                // Stays on the device: the host never waits for the norm.
                let factor = ((&norm + 1e-6).reciprocal() * largest).clamp_max(1.0);
                for buffer in held() {
                    let _ = buffer.shallow_clone().g_mul_(&factor);
                }
            }
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
                    if self.fused {
                        self.fused_step(index, group, rate);
                        continue;
                    }
                    self.step(index, group, rate);
                } else if self.rule.closed_blocks == ClosedBlocks::Decay {
                    self.decay(group, rate);
                } else {
                    continue;
                }
                group.refresh();
            }
        });
        self.factor = 1.0;
    }

    /// AdamW with the clip, in one pass.
    fn fused_step(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Rule { beta1, beta2, epsilon, weight_decay, .. } = self.rule;
        let decayed = self.decayed(group);
        let moments = &mut self.moments[index];
        moments.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powf(moments.updates as f64);
        let adam = Adam {
            mix1: (1.0 - beta1) as f32,
            mix2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
            rate: (rate / correction(beta1)) as f32,
            root: (1.0 / correction(beta2).sqrt()) as f32,
            keep: (1.0 - rate * weight_decay) as f32,
        };
        let (values, half, gradient) = group.buffers();
        let (first, second) = (&mut moments.first, &mut moments.second);
        adam.update(Buffers { values, first, second, gradient, half }, self.factor, decayed);
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

    fn step(&mut self, index: usize, group: &mut Group, rate: f64) {
        let Rule { beta1, beta2, epsilon, algorithm, weight_decay, .. } = self.rule;
        let decayed = self.decayed(group);
        if algorithm == Algorithm::AdamW {
            self.decay(group, rate);
        }
        let (moments, gradient) = (&mut self.moments[index], group.gradient());
        moments.updates += 1;
        let correction = |beta: f64| 1.0 - beta.powf(moments.updates as f64);
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let mut scratch = self.scratch.narrow(0, 0, group.elements());

        // m <- b1 m + (1 - b1) g ; v <- b2 v + (1 - b2) g^2
        let _ = moments.first.lerp_(gradient, 1.0 - beta1);
        let _ = gradient.square_out(&scratch);
        let _ = moments.second.lerp_(&scratch, 1.0 - beta2);
        // r = (m / c1) / (sqrt(v / c2) + eps)
        let _ = moments.second.sqrt_out(&scratch);
        let _ = scratch.g_mul_scalar_(1.0 / correction2.sqrt());
        let _ = scratch.g_add_scalar_(epsilon);
        let _ = moments.first.divide_out(&scratch.shallow_clone(), &scratch);
        match algorithm {
            // w <- w - rate r
            Algorithm::AdamW => {
                let _ = scratch.g_mul_scalar_(-rate / correction1);
                let _ = group.values().g_add_(&scratch);
            }
            // u = r + decay w ; w <- w - rate |w|/|u| u, weight by weight
            Algorithm::Lamb => {
                let _ = scratch.g_mul_scalar_(1.0 / correction1);
                if decayed > 0 {
                    let values = group.values().narrow(0, 0, decayed);
                    let _ = scratch.narrow(0, 0, decayed).g_add_(&(values * weight_decay));
                }
                for ((_, mut weight), (_, step)) in group.named(group.buffer()).into_iter().zip(group.named(&scratch)) {
                    let (norm, of_step) = (weight.norm(), step.norm());
                    // A weight that is still zero, or a step that is: the plain step. Stays on the device.
                    let trust = (&norm / &of_step)
                        .where_self(&norm.greater(0.0).logical_and(&of_step.greater(0.0)), &norm.ones_like());
                    let _ = weight.g_sub_(&(step * (trust * rate)));
                }
            }
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

//! Measures each block of a model: how much it changes its input, and the gradient of the loss by its weights.

use recipe::Gate;
use recipe::report::BlockState;
use tch::{Kind, Tensor, no_grad};

use crate::bert::Weights;
use crate::bert::weights::Group;
use crate::data::pretrain_batch::PretrainBatch;
use crate::objective::{LossContext, Objective, ReplacementKey};
use crate::recompute::Tape;

/// The state of each open block, in the mean over the tokens of `batches`, sequences of `length` tokens. `gates` opens
/// the first blocks, without scale, and closes those that do not exist yet.
pub fn block_states(
    objective: &dyn Objective,
    weights: &Weights,
    batches: &[PretrainBatch],
    length: usize,
    gates: &[Gate],
) -> Vec<BlockState> {
    let count = gates.iter().step_by(2).filter(|gate| gate.is_open()).count();
    // Sums over tokens of cosine and distance, by block.
    let mut sums = vec![(0.0, 0.0); count];
    let mut tokens = 0;
    for batch in batches {
        no_grad(|| {
            let (mut before, mut place): (Option<Tensor>, usize) = (None, 0);
            let mut look = |x: &Tensor| {
                // The input of a block is every second tensor, and is also the output of the block before.
                if place.is_multiple_of(2) {
                    // A block that does not exist yet has no sums, and changes nothing.
                    if let Some(before) = &before
                        && let Some((cosine, distance)) = sums.get_mut(place / 2 - 1)
                    {
                        let cosines = Tensor::cosine_similarity(x, before, -1, 1e-12);
                        *cosine += cosines.sum(Kind::Double).double_value(&[]);
                        let off = (x - before).norm_scalaropt_dim(2.0, [-1], false);
                        *distance += off.sum(Kind::Double).double_value(&[]);
                    }
                    before = Some(x.shallow_clone());
                }
                place += 1;
            };
            let input = objective.input(batch);
            let _ = objective.encoder().forward_observed(&input, gates, &mut look);
        });
        tokens += batch.sequences(length) * length;
    }
    let norms = gradient_norms(objective, weights, batches, gates);
    let mean = |sum: f64| sum / tokens as f64;
    let state = |(block, (&(cosine, distance), gradient_norm)): (u32, (&(f64, f64), f64))| BlockState {
        block,
        cosine: mean(cosine),
        distance: mean(distance),
        gradient_norm,
    };
    (1..).zip(sums.iter().zip(norms)).map(state).collect()
}

/// For each block, the norm of the gradient of the mean loss over `batches` by its weights; 0 for a closed block.
fn gradient_norms(objective: &dyn Objective, weights: &Weights, batches: &[PretrainBatch], gates: &[Gate]) -> Vec<f64> {
    let open = weights.open(gates);
    let labels_in_step = batches.iter().map(|batch| batch.label_count()).sum();
    for (batch, number) in batches.iter().zip(0..) {
        let context = LossContext {
            labels_in_step,
            micro_batches: batches.len() as u32,
            noise: None,
            // The same draws as at every evaluation.
            replacements: ReplacementKey { seed: 0, step: u64::MAX, micro_batch: number },
        };
        let loss = objective.loss(batch, gates, &context, None);
        Tape::default().differentiate(weights, &loss, &open);
    }
    let square = |(group, &open): (&Group, &bool)| {
        let norm = if open { group.whole_gradient().norm().double_value(&[]) } else { 0.0 };
        group.forget_gradient();
        norm * norm
    };
    let squares: Vec<f64> = weights.groups().iter().zip(&open).map(square).collect();
    // Group 0 holds the weights outside the blocks; two groups per block follow.
    (0..gates.len() / 2).map(|block| (squares[1 + 2 * block] + squares[2 + 2 * block]).sqrt()).collect()
}

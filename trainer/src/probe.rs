//! Stage `probe`: what each block of a checkpoint does, and what the model is without it (Veit et al. 2016).

use recipe::report::{BlockProbe, BlockState, ProbeReport};
use recipe::seeds::{generator, permutation};
use recipe::{Gate, Pretrain, Probe, Purpose};
use tch::{Kind, Tensor, no_grad};

use crate::bert::weights::Group;
use crate::data::material::PretrainBatch;
use crate::objective::{Part, Replacement};
use crate::pretrain::Pretraining;
use crate::recompute::Tape;
use crate::train::Training;

/// Looks into `training`, which holds the weights of the checkpoint of `step` and as many held-out sequences as are to be
/// looked at; of a model that has not grown to its end, into the blocks that it had. Says after each of its parts how many of how many are done.
///
/// # Errors
/// Those of `progress`.
pub fn run<E>(
    training: &mut Pretraining,
    probe: &Probe,
    seed: u64,
    step: u64,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<ProbeReport, E> {
    let count = grown(&probe.from, step) as usize;
    let whole: Vec<usize> = (0..count).collect();
    let parts = 2 * count as u64 + u64::from(probe.shuffles);
    let mut done = 0;
    let mut loss = |training: &mut Pretraining, blocks: &[usize]| {
        let loss = loss_through(training, blocks);
        done += 1;
        progress(done, parts)?;
        Ok(loss)
    };
    let validation_loss = loss(training, &whole)?;
    let gate = |place| if place < 2 * count { Gate::OPEN } else { Gate::CLOSED };
    let states = blocks(training, &(0..2 * training.blocks() as usize).map(gate).collect::<Vec<_>>());
    let mut found = Vec::with_capacity(count);
    for state in states {
        let block = state.block as usize - 1;
        let others: Vec<usize> = whole.iter().copied().filter(|&other| other != block).collect();
        let removed_loss = loss(training, &others)?;
        let swapped_loss = if block + 1 < count {
            let mut swapped = whole.clone();
            swapped.swap(block, block + 1);
            Some(loss(training, &swapped)?)
        } else {
            None
        };
        found.push(BlockProbe { state, removed_loss, swapped_loss });
    }
    let shuffled = (0..probe.shuffles).map(|draw| {
        let order = permutation(&mut generator(seed, Purpose::Shuffle, u64::from(draw), u64::MAX), count);
        loss(training, &order.into_iter().map(|block| block as usize).collect::<Vec<_>>())
    });
    let shuffled_losses = shuffled.collect::<Result<_, _>>()?;
    let sequences = training.held_out().map(|batch| sequences(&batch, training)).sum();
    Ok(ProbeReport { sequences, validation_loss, blocks: found, shuffled_losses, step })
}

fn sequences(batch: &PretrainBatch, training: &Pretraining) -> u32 {
    batch.sequences(training.recipe().length as usize) as u32
}

/// Blocks that were trained up to `step`: at the end all, and so in a budget in seconds, which says nothing of a step.
fn grown(recipe: &Pretrain, step: u64) -> u32 {
    let blocks = recipe.model.blocks;
    let growth = recipe.growth.as_ref().zip(recipe.step_budget());
    growth.map_or(blocks, |(growth, total)| growth.blocks_at(step.saturating_sub(1) as f64 / total as f64, blocks))
}

/// Validation loss through these blocks alone, in this order.
fn loss_through(training: &mut Pretraining, blocks: &[usize]) -> f64 {
    let count = training.blocks() as usize;
    let places = |blocks: &[usize]| blocks.iter().flat_map(|block| [2 * block, 2 * block + 1]).collect();
    training.objective_mut().encoder_mut().go_through(places(blocks));
    let evaluation = training.objective().evaluate(training.held_out(), &vec![Gate::OPEN; 2 * count]);
    training.objective_mut().encoder_mut().go_through((0..2 * count).collect());
    // It names its loss first.
    evaluation[0].1
}

/// What each block that is there does on the held-out sequences: `gates` opens these, the first ones, without scale.
pub fn blocks(training: &Pretraining, gates: &[Gate]) -> Vec<BlockState> {
    let count = gates.iter().step_by(2).filter(|gate| gate.is_open()).count();
    let batches: Vec<PretrainBatch> = training.held_out().collect();
    // Sums over tokens of cosine and distance, by block.
    let mut sums = vec![(0.0, 0.0); count];
    let (mut tokens, length) = (0, training.recipe().length as usize);
    for batch in &batches {
        no_grad(|| {
            let (mut before, mut place): (Option<Tensor>, usize) = (None, 0);
            let mut seen = |x: &Tensor| {
                // What comes into a block, every second time, came out of the one before.
                if place.is_multiple_of(2) {
                    // A block that is not there yet changes nothing.
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
            let input = training.objective().shown(batch);
            let _ = training.objective().encoder().forward_seen(&input, gates, &mut seen);
        });
        tokens += batch.sequences(length) * length;
    }
    let norms = gradient_norms(training, &batches, gates);
    let mean = |sum: f64| sum / tokens as f64;
    let state = |(block, (&(cosine, distance), gradient_norm)): (u32, (&(f64, f64), f64))| BlockState {
        block,
        cosine: mean(cosine),
        distance: mean(distance),
        gradient_norm,
    };
    (1..).zip(sums.iter().zip(norms)).map(state).collect()
}

/// Norm of the gradient of the mean loss over `batches` by the weights of each block; 0 for one that is closed.
fn gradient_norms(training: &Pretraining, batches: &[PretrainBatch], gates: &[Gate]) -> Vec<f64> {
    let weights = training.weights();
    let open = weights.open(gates);
    let labels = batches.iter().map(|batch| batch.labels.len()).sum();
    for (batch, number) in batches.iter().zip(0..) {
        let part = Part {
            labels,
            parts: batches.len() as u32,
            noise: None,
            // As at every evaluation.
            draws: Replacement { seed: 0, step: u64::MAX, part: number },
        };
        let loss = training.objective().loss(batch, gates, &part, None);
        Tape::default().differentiate(weights, &loss, &open);
    }
    let square = |(group, &open): (&Group, &bool)| {
        let norm = if open { group.whole_gradient().norm().double_value(&[]) } else { 0.0 };
        group.forget_gradient();
        norm * norm
    };
    let squares: Vec<f64> = weights.groups().iter().zip(&open).map(square).collect();
    // The first group is what lies outside the blocks.
    (0..training.blocks() as usize).map(|block| (squares[1 + 2 * block] + squares[2 + 2 * block]).sqrt()).collect()
}

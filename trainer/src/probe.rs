//! Stage `probe`: what each block of a checkpoint does, and what the model is without it (Veit et al. 2016).

use recipe::report::{BlockProbe, ProbeReport};
use recipe::seeds::{generator, permutation};
use recipe::{Gate, Pretrain, Probe, Purpose};

use crate::data::batch::PretrainBatch;
use crate::pretrain::Pretraining;
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
    let states = training.block_states(&Gate::full_depth(count as u32, training.blocks()));
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

//! Stage `probe`: measures each block of a checkpoint, and the loss of the model with blocks removed, swapped or
//! shuffled (Veit et al. 2016).

use std::ops::ControlFlow;

use recipe::report::{BlockProbe, ProbeReport};
use recipe::seeds::{generator, permutation};
use recipe::{Dataset, Gate, KeptBlocks, Pretrain, Probe, Published, Purpose, Source, TrialReport, published};

use crate::attempt::{Attempt, Ended};
use crate::data::material::Material;
use crate::data::tokens::VocabularySource;
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::inputs;
use crate::options::Options;
use crate::origin::{self, Origin};
use crate::pretraining::Pretraining;
use crate::train::Training;

/// Carries out a probe. Nothing is written before its report, so an interrupted probe starts again.
///
/// # Errors
/// A checkpoint that is not the one of the recipe; bad data.
pub fn run(
    recipe: &Probe,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TrialReport>, TrainerError> {
    attempt.announce(1, emitter)?;
    let (mut training, step) = match &recipe.published {
        Some(checkpoint) => (open_published(recipe, checkpoint, options, attempt, emitter)?, 0),
        None => open_pretrained(recipe, options, attempt, emitter)?,
    };
    let ended = probe(&mut training, recipe, attempt.seeds.data, step, |done, total| {
        emitter.preparing("probing", done, total)?;
        Ok(if attempt.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(ended.map(TrialReport::Probe))
}

/// The checkpoint that a trial of `recipe.from` wrote, and its step.
fn open_pretrained(
    recipe: &Probe,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<(Pretraining, u64), TrainerError> {
    let from = options.from()?;
    let checkpoint = origin::made_here(&recipe.from, from)?;
    let material = inputs::material(&recipe.from, "/recipe/from", options, emitter)?;
    if let Some(found) = material.vocabulary().map(|vocabulary| vocabulary.size()) {
        let trained = checkpoint.vocabulary()?.size();
        if found != trained {
            let why = format!("was trained with {trained} tokens, but the vocabulary of the corpus has {found}");
            return Err(TrainerError::corrupt(from, why));
        }
    }
    let training = Pretraining::new(probed(recipe), recipe.from_seeds, material, attempt.device);
    checkpoint.restore_model(training.weights())?;
    Ok((training, checkpoint.manifest.step))
}

/// The published `checkpoint`, with the vocabulary in its folder.
fn open_published(
    recipe: &Probe,
    checkpoint: &Dataset,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Pretraining, TrainerError> {
    let (from, pretrain) = (options.from()?, probed(recipe));
    let published = Published { model: pretrain.model.clone(), checkpoint: checkpoint.clone() };
    let source = Source::Published(Box::new(published));
    let origin = Origin::open(&source, from)?;
    let vocabulary = VocabularySource::File(from.join(published::VOCABULARY));
    let material = Material::Text(inputs::shards(&pretrain, vocabulary, options, emitter)?);
    let training = Pretraining::with_embedding_rows(pretrain, recipe.from_seeds, material, origin.rows, attempt.device);
    origin.restore(training.weights(), &source, KeptBlocks::All)?;
    Ok(training)
}

/// The recipe of the checkpoint, with as many held-out sequences as the probe reads.
fn probed(recipe: &Probe) -> Pretrain {
    Pretrain { validation_sequences: recipe.sequences, ..(*recipe.from).clone() }
}

/// Probes each block of the checkpoint at `step` on the held-out sequences in `training`, which holds its weights. If
/// the model was still growing, only the blocks that it had are probed. `seed` draws the shuffled orders. After each
/// measured loss, `progress` gets (losses measured, losses in total) and decides if the probe goes on.
///
/// # Errors
/// Those of `progress`.
pub fn probe(
    training: &mut Pretraining,
    recipe: &Probe,
    seed: u64,
    step: u64,
    mut progress: impl FnMut(u64, u64) -> Result<ControlFlow<()>, TrainerError>,
) -> Result<Ended<ProbeReport>, TrainerError> {
    let grown = blocks_trained(&recipe.from, step);
    let count = grown as usize;
    let orders = orders(count, recipe.shuffles, seed);
    let mut losses = Vec::with_capacity(orders.len());
    for order in &orders {
        losses.push(loss_through(training, order));
        if progress(losses.len() as u64, orders.len() as u64)?.is_break() {
            return Ok(Ended::Interrupted { step: 0 });
        }
    }
    let (removed, others) = losses[1..].split_at(count);
    let (swapped, shuffled) = others.split_at(count - 1);
    let states = training.block_states(&Gate::full_depth(grown, training.blocks()));
    let block = |(place, state)| BlockProbe {
        state,
        removed_loss: removed[place],
        // The last block has no block behind it to change places with.
        swapped_loss: swapped.get(place).copied(),
    };
    let length = training.recipe().length as usize;
    Ok(Ended::Finished(ProbeReport {
        sequences: training.held_out().map(|batch| batch.sequences(length) as u32).sum(),
        validation_loss: losses[0],
        blocks: states.into_iter().enumerate().map(block).collect(),
        shuffled_losses: shuffled.to_vec(),
        step,
    }))
}

/// The orders of blocks whose losses are compared: all `count` blocks; all but one of them, for each; two neighbours
/// swapped, for each pair; and random orders.
fn orders(count: usize, shuffles: u32, seed: u64) -> Vec<Vec<usize>> {
    let whole: Vec<usize> = (0..count).collect();
    let removed = (0..count).map(|block| whole.iter().copied().filter(|&other| other != block).collect());
    let swapped = (1..count).map(|block| {
        let mut order = whole.clone();
        order.swap(block - 1, block);
        order
    });
    let shuffled = (0..shuffles).map(|draw| {
        let order = permutation(&mut generator(seed, Purpose::Shuffle, u64::from(draw), u64::MAX), count);
        order.into_iter().map(|block| block as usize).collect()
    });
    std::iter::once(whole.clone()).chain(removed).chain(swapped).chain(shuffled).collect()
}

/// Number of blocks that had been trained at `step`. With a budget in seconds, a step does not tell how far the model
/// had grown: it counts as fully grown.
fn blocks_trained(recipe: &Pretrain, step: u64) -> u32 {
    let blocks = recipe.model.blocks;
    let growth = recipe.growth.as_ref().zip(recipe.step_budget());
    growth.map_or(blocks, |(growth, total)| growth.blocks_at(step.saturating_sub(1) as f64 / total as f64, blocks))
}

/// Validation loss of the model with these blocks alone, in this order.
fn loss_through(training: &mut Pretraining, blocks: &[usize]) -> f64 {
    let gates = Gate::full_depth(training.blocks(), training.blocks());
    let sublayers = blocks.iter().flat_map(|block| [2 * block, 2 * block + 1]).collect();
    training.encoder_mut().set_order(sublayers);
    let evaluation = training.objective().evaluate(&mut training.held_out(), &gates);
    training.encoder_mut().set_order((0..gates.len()).collect());
    evaluation.headline
}

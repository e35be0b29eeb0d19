//! Stage `timing`: the arms of a job interleaved on one device, so that a drift of the machine affects all of them
//! alike.

use std::collections::BTreeMap;

use recipe::report::{ArmTiming, OpenTiming, TimingReport};
use recipe::{LargestBatch, Moment, Timing, TimingArm, TrialReport};

use crate::attempt::{Attempt, Ended};
use crate::data::material::Material;
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::inputs;
use crate::machine;
use crate::memory::{MemoryLog, largest_batch, metered_update, state_bytes};
use crate::optimizer::Optimizer;
use crate::options::Options;
use crate::pretraining::Pretraining;
use crate::stopwatch::Stopwatch;
use crate::train::{Training, update};

/// Carries out a timing. If it is interrupted it starts again at step 0, since turns before and after a pause cannot be
/// compared.
///
/// # Errors
/// Bad data, a loss that is not finite, a step that fails.
pub fn run(
    recipe: &Timing,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TrialReport>, TrainerError> {
    attempt.announce(total_steps(recipe), emitter)?;
    let materials = materials(recipe, options, emitter)?;
    let mut report = match time_arms(recipe, &materials, attempt, emitter)? {
        Ended::Finished(report) => report,
        Ended::Interrupted { step } => return Ok(Ended::Interrupted { step }),
    };
    if let Some(LargestBatch { limit_bytes }) = recipe.largest_batch {
        // The timed arms are gone, so all of the device's memory is available again. A GPU refuses when it is full.
        let available = || if attempt.device.is_cuda() { None } else { machine::available_memory() };
        let limit = limit_bytes.or_else(available).unwrap_or(u64::MAX);
        let total = recipe.arms.len() as u64;
        for (done, ((arm, material), row)) in (1..).zip(recipe.arms.iter().zip(&materials).zip(&mut report.arms)) {
            match largest_batch(&arm.recipe, material, limit, attempt)? {
                Ended::Finished(batch) => row.largest_batch = Some(batch),
                Ended::Interrupted { step } => return Ok(Ended::Interrupted { step }),
            }
            emitter.preparing("largest batch", done, total)?;
        }
    }
    Ok(Ended::Finished(TrialReport::Timing(report)))
}

/// Steps of the whole timing, warm-up included.
fn total_steps(timing: &Timing) -> u64 {
    let turn = u64::from(timing.steps_per_turn) + u64::from(timing.warmup_steps);
    timing.arms.len() as u64 * u64::from(timing.rounds) * turn
}

/// The data of each arm. Images are held in memory, so arms that read the same images share them.
fn materials(timing: &Timing, options: &Options, emitter: &mut Emitter) -> Result<Vec<Material>, TrainerError> {
    let mut materials: Vec<Material> = Vec::with_capacity(timing.arms.len());
    for (index, arm) in timing.arms.iter().enumerate() {
        let data = |arm: &TimingArm| (arm.recipe.images, arm.recipe.held_out, arm.recipe.length);
        let is_same = |earlier: &TimingArm| arm.recipe.images.is_some() && data(earlier) == data(arm);
        let material = match timing.arms[..index].iter().position(is_same) {
            Some(earlier) => materials[earlier].clone(),
            None => inputs::material(&arm.recipe, &format!("/recipe/arms/{index}/recipe"), options, emitter)?,
        };
        materials.push(material);
    }
    Ok(materials)
}

/// Times the steps of each arm, in the order A B B A .... A turn begins with `timing.warmup_steps` untimed steps, in
/// which memory is measured.
fn time_arms(
    timing: &Timing,
    materials: &[Material],
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TimingReport>, TrainerError> {
    let device = attempt.device;
    let start = |(arm, material): (&TimingArm, &Material)| {
        TimedArm::new(Pretraining::new(arm.recipe.clone(), attempt.seeds, material.clone(), device))
    };
    let mut arms: Vec<TimedArm> = timing.arms.iter().zip(materials).map(start).collect();
    let (total, started) = (total_steps(timing), Stopwatch::start(device));
    let mut done = 0;
    for round in 0..timing.rounds {
        for arm in turn_order(arms.len(), round) {
            let arm = &mut arms[arm];
            let mut turn = 0.0;
            for place in 0..timing.warmup_steps + timing.steps_per_turn {
                if attempt.is_stopped() {
                    return Ok(Ended::Interrupted { step: 0 });
                }
                let timed = round * timing.steps_per_turn + place.saturating_sub(timing.warmup_steps);
                let moment = arm.moment(u64::from(timed), timing);
                let loss = if place >= timing.warmup_steps {
                    let clock = Stopwatch::start(device);
                    let update = update(&mut arm.training, &mut arm.optimizer, &moment);
                    let seconds = clock.seconds();
                    arm.add_step(update.open_blocks, seconds);
                    turn += seconds;
                    update.loss
                } else {
                    let (update, memory) = metered_update(&mut arm.training, &mut arm.optimizer, &moment, device);
                    arm.memory.add_step(open_sublayers(update.open_blocks), memory);
                    update.loss
                };
                if !loss.is_finite() {
                    return Err(TrainerError::non_finite_loss(moment.step, loss));
                }
                done += 1;
                emitter.progress(done, total, started.seconds())?;
            }
            arm.turns.push(turn / f64::from(timing.steps_per_turn));
        }
    }
    emitter.progress_now(done, total, started.seconds())?;
    let arms = timing.arms.iter().zip(arms).map(|(arm, timed)| timed.report(arm)).collect();
    Ok(Ended::Finished(TimingReport { arms }))
}

/// An arm with its measurements so far.
struct TimedArm {
    training: Pretraining,
    optimizer: Optimizer,
    /// Mean seconds per step of each turn.
    turns: Vec<f64>,
    /// Steps and their seconds by the number of open sublayers.
    by_open: BTreeMap<u32, OpenTiming>,
    memory: MemoryLog,
}

impl TimedArm {
    fn new(training: Pretraining) -> Self {
        let optimizer = Optimizer::new(training.optimizer(), training.weights());
        Self { training, optimizer, turns: Vec::new(), by_open: BTreeMap::new(), memory: MemoryLog::default() }
    }

    /// The place in the arm's schedule of the timed step `index`, counted over all turns. The timed steps are spread
    /// evenly: step j of n takes gates and rates from step j T / n of a run with T steps. With a budget in seconds they
    /// are spread over the shares of the budget.
    fn moment(&self, index: u64, timing: &Timing) -> Moment {
        let count = u64::from(timing.rounds) * u64::from(timing.steps_per_turn);
        let steps = self.training.budget().steps;
        match self.training.recipe().seconds {
            None => Moment::of_step((u128::from(index) * u128::from(steps) / u128::from(count)) as u64, steps),
            Some(_) => Moment { step: index, ..Moment::of_step(index, count) },
        }
    }

    fn add_step(&mut self, open_blocks: f64, seconds: f64) {
        let sublayers = open_sublayers(open_blocks);
        let empty = OpenTiming { open_blocks: f64::from(sublayers) / 2.0, steps: 0, seconds: 0.0 };
        let row = self.by_open.entry(sublayers).or_insert(empty);
        row.steps += 1;
        row.seconds += seconds;
    }

    fn report(self, arm: &TimingArm) -> ArmTiming {
        ArmTiming {
            name: arm.name.clone(),
            blocks: arm.recipe.model.blocks,
            memory: self.memory.report(state_bytes(&self.training, &self.optimizer)),
            turns: self.turns,
            by_open: self.by_open.into_values().collect(),
            tokens_per_step: u64::from(arm.recipe.batch) * u64::from(arm.recipe.length),
            largest_batch: None,
        }
    }
}

/// Number of open sublayers, rounded: gates drawn per sequence open a share of one.
fn open_sublayers(open_blocks: f64) -> u32 {
    (open_blocks * 2.0).round() as u32
}

/// A B C, C B A, A B C, ...: a steady drift of the machine adds the same to every arm over each pair of rounds.
fn turn_order(arms: usize, round: u32) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..arms).collect() } else { (0..arms).rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_has_the_same_mean_position_over_a_pair_of_rounds() {
        for arms in 1..5 {
            let order = [turn_order(arms, 0), turn_order(arms, 1)].concat();
            for arm in 0..arms {
                let sum: usize = (0..order.len()).filter(|&position| order[position] == arm).sum();
                assert_eq!(sum, 2 * arms - 1, "arm {arm} of {arms}");
            }
        }
    }
}

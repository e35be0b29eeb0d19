//! Stage `timing`: the arms of a job interleaved on one device, so that drift of the machine hits all alike.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use recipe::report::{ArmTiming, OpenTiming, TimingReport};
use recipe::{Moment, Timing};
use tch::Device;

use crate::emit::Emitter;
use crate::failure::{Broken, TrainerError};
use crate::memory::{Booked, metered_update, state_bytes};
use crate::optimizer::Optimizer;
use crate::pretrain::Pretraining;
use crate::stopwatch::Stopwatch;
use crate::train::{Training, update};

/// Steps that a timing trial makes in all, warm-up included.
pub fn total_steps(timing: &Timing) -> u64 {
    let turn = u64::from(timing.steps_per_turn) + u64::from(timing.warmup_steps);
    timing.arms.len() as u64 * u64::from(timing.rounds) * turn
}

/// Times the steps of each arm, A B B A ..., every turn after `timing.warmup_steps` untimed steps, whose memory is measured.
/// The timed steps are spread evenly over the run's schedule: step j of n takes gates and rates of the run's step j T / n.
/// `arms` starts at fresh weights, one per arm of the recipe.
///
/// # Errors
/// A loss that is not finite, what `emitter` says, and [`Broken::Stopped`].
pub fn run(
    timing: &Timing,
    arms: Vec<Pretraining>,
    device: Device,
    stop: &AtomicBool,
    emitter: &mut Emitter,
) -> Result<TimingReport, Broken> {
    let mut arms: Vec<Timed> = arms.into_iter().map(Timed::new).collect();
    let (total, started) = (total_steps(timing), Stopwatch::start(device));
    let mut done = 0;
    for round in 0..timing.rounds {
        for arm in turn_order(arms.len(), round) {
            let arm = &mut arms[arm];
            let mut turn = 0.0;
            for place in 0..timing.warmup_steps + timing.steps_per_turn {
                Broken::by(stop)?;
                let warm = place >= timing.warmup_steps;
                let timed = u64::from(round * timing.steps_per_turn + place.saturating_sub(timing.warmup_steps));
                let of = u64::from(timing.rounds) * u64::from(timing.steps_per_turn);
                let steps = arm.training.budget().steps;
                let step = (u128::from(timed) * u128::from(steps) / u128::from(of)) as u64;
                // In a budget of seconds, too, the timed steps stand evenly over its shares.
                let moment = match arm.training.recipe().seconds {
                    None => Moment::of_step(step, steps),
                    Some(_) => Moment { step: timed, ..Moment::of_step(timed, of) },
                };
                let loss = if warm {
                    let clock = Stopwatch::start(device);
                    let update = update(&mut arm.training, &mut arm.optimizer, &moment);
                    let seconds = clock.seconds();
                    arm.book(update.open_blocks, seconds);
                    turn += seconds;
                    update.loss
                } else {
                    let (update, memory) = metered_update(&mut arm.training, &mut arm.optimizer, &moment, device);
                    arm.memory.book(halves(update.open_blocks), memory);
                    update.loss
                };
                if !loss.is_finite() {
                    return Err(TrainerError::NonFiniteLoss { step: moment.step, loss }.into());
                }
                done += 1;
                emitter.progress(done, total, started.seconds())?;
            }
            arm.turns.push(turn / f64::from(timing.steps_per_turn));
        }
    }
    emitter.progress_now(done, total, started.seconds())?;
    let report = |(arm, timed): (&recipe::TimingArm, Timed)| ArmTiming {
        name: arm.name.clone(),
        blocks: arm.recipe.model.blocks,
        memory: timed.memory.report(state_bytes(&timed.training, &timed.optimizer)),
        turns: timed.turns,
        by_open: timed.by_open.into_values().collect(),
        tokens_per_step: u64::from(arm.recipe.batch) * u64::from(arm.recipe.length),
        largest_batch: None,
    };
    Ok(TimingReport { arms: timing.arms.iter().zip(arms).map(report).collect() })
}

struct Timed {
    training: Pretraining,
    optimizer: Optimizer,
    turns: Vec<f64>,
    /// By half blocks.
    by_open: BTreeMap<u32, OpenTiming>,
    memory: Booked,
}

impl Timed {
    fn new(training: Pretraining) -> Self {
        let optimizer = Optimizer::new(training.optimizer(), training.weights());
        Self { training, optimizer, turns: Vec::new(), by_open: BTreeMap::new(), memory: Booked::default() }
    }

    fn book(&mut self, open_blocks: f64, seconds: f64) {
        let halves = halves(open_blocks);
        let open_blocks = f64::from(halves) / 2.0;
        let row = self.by_open.entry(halves).or_insert(OpenTiming { open_blocks, steps: 0, seconds: 0.0 });
        row.steps += 1;
        row.seconds += seconds;
    }
}

/// Open sublayers, rounded.
fn halves(open_blocks: f64) -> u32 {
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
    fn every_arm_has_the_same_mean_place_over_a_pair_of_rounds() {
        for arms in 1..5 {
            let places = [turn_order(arms, 0), turn_order(arms, 1)].concat();
            for arm in 0..arms {
                let sum: usize = (0..places.len()).filter(|&place| places[place] == arm).sum();
                assert_eq!(sum, 2 * arms - 1, "arm {arm} of {arms}");
            }
        }
    }
}

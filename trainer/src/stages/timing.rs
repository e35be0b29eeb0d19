//! Stage `timing`: the arms of a job interleaved on one device, so that a drift of the machine affects all of them
//! alike.

use recipe::report::{ArmTiming, TimingReport, Turn};
use recipe::seeds::{generator, permutation};
use recipe::{LargestBatch, Moment, Purpose, Timing, TimingArm, TrialReport};

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
use crate::train::{Training, Update, update};

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
    attempt.announce(recipe.total_steps(), emitter)?;
    let materials = materials(recipe, options, emitter)?;
    let mut report = match time_arms(recipe, &materials, attempt, emitter)? {
        Ended::Finished(report) => report,
        Ended::Interrupted { step } => return Ok(Ended::Interrupted { step }),
    };
    if let Some(LargestBatch { limit_bytes }) = recipe.largest_batch {
        // The timed arms are gone, so all of the device's memory is available again. A GPU refuses when it is full.
        let available = || if attempt.device.is_cuda() { None } else { machine::available_memory() };
        let limit = limit_bytes.or_else(available).unwrap_or(u64::MAX);
        let arms = recipe.arms.iter().zip(&materials).zip(&mut report.arms);
        let searched: Vec<_> = arms.filter(|((arm, _), _)| arm.repeats.is_none()).collect();
        let total = searched.len() as u64;
        for (done, ((arm, material), row)) in (1..).zip(searched) {
            match largest_batch(&arm.recipe, material, limit, attempt)? {
                Ended::Finished(batch) => row.largest_batch = Some(batch),
                Ended::Interrupted { step } => return Ok(Ended::Interrupted { step }),
            }
            emitter.preparing("largest batch", done, total)?;
        }
    }
    Ok(Ended::Finished(TrialReport::Timing(report)))
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

/// Times the steps of each arm. In each round every arm has one turn, which begins with `timing.warmup_steps` untimed
/// steps, in which memory is measured.
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
    let (total, started) = (timing.total_steps(), Stopwatch::start(device));
    let mut done = 0;
    for round in 0..timing.rounds {
        for (place, arm) in (0..).zip(turn_order(attempt.seeds.data, round, arms.len())) {
            let arm = &mut arms[arm as usize];
            let mut turn = Turn { place, warmup_seconds: Vec::new(), seconds: Vec::new(), open_blocks: Vec::new() };
            for (index, is_timed) in steps_of_turn(timing, round) {
                if attempt.is_stopped() {
                    return Ok(Ended::Interrupted { step: 0 });
                }
                let moment = arm.moment(index, timing);
                // A run does not wait for its batch either: a thread makes it during the step before.
                arm.training.prepare(&moment);
                let clock = Stopwatch::start(device);
                let loss = if is_timed {
                    let update = update(&mut arm.training, &mut arm.optimizer, &moment);
                    turn.seconds.push(clock.seconds());
                    turn.open_blocks.push(f64::from(open_sublayers(&update)) / 2.0);
                    update.loss
                } else {
                    let (update, memory) = metered_update(&mut arm.training, &mut arm.optimizer, &moment, device);
                    turn.warmup_seconds.push(clock.seconds());
                    arm.memory.add_step(open_sublayers(&update), memory);
                    update.loss
                };
                if !loss.is_finite() {
                    return Err(TrainerError::non_finite_loss(moment.step, loss));
                }
                done += 1;
                emitter.progress(done, total, started.seconds())?;
            }
            arm.turns.push(turn);
        }
    }
    emitter.progress_now(done, total, started.seconds())?;
    let arms = timing.arms.iter().zip(arms).map(|(arm, timed)| timed.report(arm)).collect();
    Ok(Ended::Finished(TimingReport { arms }))
}

/// The order in which the arms have their turns in `round`. Each round has a fresh random order: whatever else happens
/// on the machine then hits all arms alike on average, which is what the interval of a speed-up rests on.
fn turn_order(seed: u64, round: u32, arms: usize) -> Vec<u32> {
    permutation(&mut generator(seed, Purpose::Order, round.into(), 0), arms)
}

/// The steps of a turn in `round`: for each, its index among all timed steps of the arm, and whether it is timed itself.
///
/// The timed steps have the indices `j * rounds + round` with j below `steps_per_turn`, so every turn sees the whole
/// schedule. The rounds begin at different j: otherwise all steps that follow another arm's turn, and all warm-up
/// steps, in which memory is measured, would be in the same part of the schedule.
fn steps_of_turn(timing: &Timing, round: u32) -> impl Iterator<Item = (u64, bool)> {
    let Timing { rounds, steps_per_turn, warmup_steps, .. } = *timing;
    let first = round * (steps_per_turn / rounds).max(1);
    let steps = (0..warmup_steps).map(|_| (0, false)).chain((0..steps_per_turn).map(|place| (place, true)));
    steps.map(move |(place, is_timed)| {
        let j = (first + place) % steps_per_turn;
        (u64::from(j) * u64::from(rounds) + u64::from(round), is_timed)
    })
}

/// An arm with its measurements so far.
struct TimedArm {
    training: Pretraining,
    optimizer: Optimizer,
    turns: Vec<Turn>,
    memory: MemoryLog,
}

impl TimedArm {
    fn new(training: Pretraining) -> Self {
        let optimizer = Optimizer::new(training.optimizer(), training.weights());
        Self { training, optimizer, turns: Vec::new(), memory: MemoryLog::default() }
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

    fn report(self, arm: &TimingArm) -> ArmTiming {
        ArmTiming {
            name: arm.name.clone(),
            blocks: arm.recipe.model.blocks,
            memory: self.memory.report(state_bytes(&self.training, &self.optimizer)),
            turns: self.turns,
            tokens_per_step: u64::from(arm.recipe.batch) * u64::from(arm.recipe.length),
            largest_batch: None,
        }
    }
}

/// Number of open sublayers, rounded: gates drawn per sequence open a share of one.
fn open_sublayers(update: &Update) -> u32 {
    (update.open_blocks * 2.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_arms_is_drawn_afresh_each_round_and_gives_each_arm_every_place_equally_often() {
        const ARMS: usize = 5;
        const ROUNDS: u32 = 10_000;
        let mut counts = [[0u32; ARMS]; ARMS];
        for round in 0..ROUNDS {
            let order = turn_order(7, round, ARMS);
            assert_eq!(order, turn_order(7, round, ARMS));
            for (arm, count) in counts.iter_mut().enumerate() {
                let place = order.iter().position(|&found| found as usize == arm).expect("every arm has a turn");
                count[place] += 1;
            }
        }
        assert_ne!(
            (0..4).map(|round| turn_order(7, round, ARMS)).collect::<Vec<_>>(),
            (0..4).map(|round| turn_order(8, round, ARMS)).collect::<Vec<_>>()
        );
        let expected = f64::from(ROUNDS) / ARMS as f64;
        // The standard deviation of a count is 40.
        assert!(counts.iter().flatten().all(|&count| (f64::from(count) - expected).abs() < 200.0), "{counts:?}");
    }

    #[test]
    fn every_timed_step_is_made_once_and_every_turn_is_spread_over_the_schedule() {
        for (rounds, steps_per_turn, warmup_steps) in
            [(32, 2, 1), (8, 10, 2), (2, 10, 1), (3, 7, 0), (5, 1, 3), (1, 1, 0)]
        {
            let timing = Timing { arms: vec![], rounds, steps_per_turn, warmup_steps, largest_batch: None };
            let count = u64::from(rounds) * u64::from(steps_per_turn);
            let (mut made, mut firsts) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                let steps: Vec<(u64, bool)> = steps_of_turn(&timing, round).collect();
                let (warmup, timed) = steps.split_at(warmup_steps as usize);
                assert!(warmup.iter().all(|step| *step == (timed[0].0, false)), "{warmup:?} before {timed:?}");
                assert!(timed.iter().all(|(_, is_timed)| *is_timed));
                let mut indices: Vec<u64> = timed.iter().map(|(index, _)| *index).collect();
                firsts.push(indices[0]);
                indices.sort_unstable();
                let parts: Vec<u64> = indices.iter().map(|index| index / u64::from(rounds)).collect();
                assert_eq!(parts, (0..u64::from(steps_per_turn)).collect::<Vec<_>>(), "one step in each part");
                made.extend(indices);
            }
            made.sort_unstable();
            assert_eq!(made, (0..count).collect::<Vec<_>>(), "{rounds} x {steps_per_turn}");
            // Memory is measured at the moments of the first steps.
            let half = firsts.iter().filter(|index| **index < count.div_ceil(2)).count();
            assert!((firsts.len() as f64 / 2.0 - half as f64).abs() <= 1.0, "{firsts:?} of {count}");
        }
    }
}

//! The memory that a step takes, and the largest batch whose steps fit.

use std::collections::BTreeMap;

use recipe::report::{ArmMemory, OpenMemory};
use recipe::{FailureKind, Moment, Pretrain, gate};
use tch::Device;

use crate::attempt::{Attempt, Ended};
use crate::data::material::Material;
use crate::failure::{TrainerError, caught};
use crate::kernel::{Metered, metered};
use crate::optimizer::Optimizer;
use crate::pretraining::Pretraining;
use crate::train::{Training, Update, update};

/// Sequences of the largest batch that is tried.
const LARGEST: u32 = 1 << 16;
/// Number of moments of a run that are compared to find its fullest step.
const MOMENTS: u64 = 1000;

/// [`update`], and the memory that it took beyond what was allocated before.
pub fn metered_update(
    training: &mut Pretraining,
    optimizer: &mut Optimizer,
    moment: &Moment,
    device: Device,
) -> (Update, Metered) {
    metered(device.is_cuda(), || update(training, optimizer, moment))
}

/// The memory of an arm's steps so far.
#[derive(Debug, Default)]
pub struct MemoryLog {
    by_open: BTreeMap<u32, Steps>,
}

/// Steps with the same number of open sublayers, and the bytes that they took beyond the state.
#[derive(Debug, Default, Clone, Copy)]
struct Steps {
    count: u32,
    peak: u64,
    /// Sum over the steps of each step's mean.
    means: f64,
}

impl MemoryLog {
    pub fn add_step(&mut self, open_sublayers: u32, memory: Metered) {
        let steps = self.by_open.entry(open_sublayers).or_default();
        steps.count += 1;
        steps.peak = steps.peak.max(memory.peak.max(0) as u64);
        steps.means += memory.mean;
    }

    /// None if no step was added. `state_bytes` are allocated between two steps too.
    pub fn report(&self, state_bytes: u64) -> Option<ArmMemory> {
        let mean_bytes = |steps: Steps| state_bytes + (steps.means / f64::from(steps.count)).max(0.0) as u64;
        let all = self.by_open.values().fold(Steps::default(), |sum, steps| Steps {
            count: sum.count + steps.count,
            means: sum.means + steps.means,
            ..sum
        });
        let by_open = self.by_open.iter().map(|(&open_sublayers, &steps)| OpenMemory {
            open_sublayers,
            steps: steps.count,
            peak_bytes: state_bytes + steps.peak,
            mean_bytes: Some(mean_bytes(steps)),
        });
        let by_open: Vec<OpenMemory> = by_open.collect();
        Some(ArmMemory {
            state_bytes,
            peak_bytes: by_open.iter().map(|row| row.peak_bytes).max()?,
            mean_bytes: mean_bytes(all),
            by_open,
        })
    }
}

/// Bytes of weights, gradients and the optimiser's averages.
pub fn state_bytes(training: &impl Training, optimizer: &Optimizer) -> u64 {
    training.weights().bytes() + optimizer.bytes()
}

/// Sequences in the largest batch of `recipe` whose fullest step takes at most `limit` bytes, the state included; 0 if
/// not even the smallest batch fits. Each candidate is tried with one step on the device.
///
/// # Errors
/// Any failure of a step except running out of memory.
pub fn largest_batch(
    recipe: &Pretrain,
    material: &Material,
    limit: u64,
    attempt: &Attempt<'_>,
) -> Result<Ended<u32>, TrainerError> {
    let parts = recipe.micro_batches;
    let mut search = Search::new((LARGEST / parts).max(1), limit, attempt.device.is_cuda());
    while let Some(size) = search.next_size() {
        if attempt.is_stopped() {
            return Ok(Ended::Interrupted { step: 0 });
        }
        let recipe = Pretrain { batch: size * parts, ..recipe.clone() };
        search.record(size, fullest_step(&recipe, material, attempt)?);
    }
    Ok(Ended::Finished(search.largest() * parts))
}

/// The memory of the fullest step of `recipe`; None if the device does not have as much.
fn fullest_step(
    recipe: &Pretrain,
    material: &Material,
    attempt: &Attempt<'_>,
) -> Result<Option<StepBytes>, TrainerError> {
    let step = || {
        let mut training = Pretraining::new(recipe.clone(), attempt.seeds, material.clone(), attempt.device);
        let mut optimizer = Optimizer::new(training.optimizer(), training.weights());
        let count = MOMENTS.min(recipe.steps);
        let moments = (0..count).map(|part| {
            let step = (u128::from(part) * u128::from(recipe.steps) / u128::from(count)) as u64;
            let moment = Moment::of_step(step, recipe.steps);
            let open = |part| gate::open_blocks(&training.gates(&moment, part), training.micro_batch_size());
            let fullest = (0..training.micro_batches()).map(open).fold(0.0, f64::max);
            ((fullest, recipe.objective.rate_at(&moment)), moment)
        });
        // Among moments with equally many open blocks, the one where the most tokens are masked.
        let fullest = moments.max_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let moment = fullest.map_or_else(|| Moment::of_step(0, recipe.steps), |(_, moment)| moment);
        let (_, metered) = metered_update(&mut training, &mut optimizer, &moment, attempt.device);
        let state = state_bytes(&training, &optimizer);
        Ok(StepBytes { state, step: metered.peak.max(0) as u64 })
    };
    match caught(step) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == FailureKind::OutOfMemory => Ok(None),
        Err(error) => Err(error),
    }
}

/// The peak of a step in bytes: what is allocated between steps, and what the step adds.
#[derive(Debug, Clone, Copy)]
struct StepBytes {
    state: u64,
    step: u64,
}

impl StepBytes {
    fn sum(self) -> u64 {
        self.state + self.step
    }
}

/// Looks for the largest size from 1 to `most` that takes at most `limit` bytes: by doubling, then by bisection.
#[derive(Debug)]
struct Search {
    most: u32,
    limit: u64,
    /// Also try a size that is expected not to fit. A GPU refuses such a step; on a CPU, the system would kill the
    /// process.
    bold: bool,
    /// The largest size that fits and the smallest that does not, so far.
    low: u32,
    high: u32,
    /// The largest size that fits, with its bytes.
    fits: Option<(u32, StepBytes)>,
}

impl Search {
    fn new(most: u32, limit: u64, bold: bool) -> Self {
        Self { most, limit, bold, low: 0, high: most + 1, fits: None }
    }

    /// The next size to try; None at the end of the search.
    fn next_size(&mut self) -> Option<u32> {
        while self.high - self.low > 1 {
            let size = match (self.high > self.most, self.low) {
                (true, 0) => 1,
                (true, low) => low.saturating_mul(2).min(self.most),
                (false, low) => low + (self.high - low) / 2,
            };
            if self.bold || !self.is_expected_to_exceed(size) {
                return Some(size);
            }
            self.high = size;
        }
        None
    }

    /// True if `size` would exceed the limit by more than 2 %, in proportion to the largest size that fits.
    fn is_expected_to_exceed(&self, size: u32) -> bool {
        self.fits.is_some_and(|(fitting, bytes)| {
            let step = bytes.step as f64 * f64::from(size) / f64::from(fitting);
            bytes.state as f64 + step > self.limit as f64 * 1.02
        })
    }

    /// Takes in what a step of `size` took; None if it ran out of memory.
    fn record(&mut self, size: u32, bytes: Option<StepBytes>) {
        match bytes.filter(|bytes| bytes.sum() <= self.limit) {
            Some(bytes) => {
                self.low = size;
                self.fits = Some((size, bytes));
            }
            None => self.high = size,
        }
    }

    fn largest(&self) -> u32 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(mut search: Search, mut step: impl FnMut(u32) -> Option<StepBytes>) -> u32 {
        while let Some(size) = search.next_size() {
            search.record(size, step(size));
        }
        search.largest()
    }

    proptest! {
        #[test]
        fn the_search_finds_the_largest_size_that_fits_and_tries_none_far_above_the_limit(
            state in 0u64..1000, fixed in 0u64..500, each in 1u64..300, limit in 1u64..200_000, bold: bool,
        ) {
            let most = 4096;
            let bytes = |size: u32| StepBytes { state, step: fixed + each * u64::from(size) };
            let mut tried = 0;
            let found = found(Search::new(most, limit, bold), |size| {
                tried += 1;
                // A step that takes twice the limit would end the process.
                assert!(bold || size == 1 || bytes(size).sum() <= 2 * limit + fixed, "{size}");
                Some(bytes(size))
            });
            let fitting = (1..=most).rev().find(|&size| bytes(size).sum() <= limit).unwrap_or(0);
            prop_assert!(found <= fitting, "{found} > {fitting}");
            // The part that does not grow with the size is counted as if it did: 2 % are allowed for it.
            let lost = fixed as f64 / each as f64;
            prop_assert!(f64::from(found) >= f64::from(fitting) - lost - 1.0, "{found}, {fitting} would fit");
            prop_assert!(tried <= 2 * 13 + 1);
        }
    }

    #[test]
    fn a_size_that_runs_out_of_memory_does_not_fit() {
        let step = |size| (size <= 37).then_some(StepBytes { state: 1, step: 1 });
        assert_eq!(found(Search::new(64, u64::MAX, true), step), 37);
    }
}

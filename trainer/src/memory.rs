//! What a step takes, and the largest batch whose steps fit.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use recipe::report::{ArmMemory, OpenMemory};
use recipe::{FailureKind, Moment, Pretrain, Seeds, gate};
use tch::Device;

use crate::data::material::Material;
use crate::failure::{Broken, TrainerError, caught};
use crate::kernel::{Metered, metered};
use crate::optimizer::Optimizer;
use crate::pretrain::Pretraining;
use crate::train::{Training, Update, update};

/// More sequences are not tried.
const LARGEST: u32 = 1 << 16;
/// So many moments of a run are looked at for its fullest step.
const MOMENTS: u64 = 1000;

/// [`update`], and the memory that it took beyond what was there.
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
pub struct Booked {
    by_open: BTreeMap<u32, Steps>,
}

/// Steps with as many open sublayers, and what they took beyond the state, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Steps {
    count: u32,
    peak: u64,
    /// Summed over the steps.
    means: f64,
}

impl Booked {
    pub fn book(&mut self, open_sublayers: u32, step: Metered) {
        let steps = self.by_open.entry(open_sublayers).or_default();
        steps.count += 1;
        steps.peak = steps.peak.max(step.peak.max(0) as u64);
        steps.means += step.mean;
    }

    /// Absent when nothing was booked. `state_bytes` is what is there between two steps.
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

/// Bytes of weights, moments and gradients.
pub fn state_bytes(training: &impl Training, optimizer: &Optimizer) -> u64 {
    training.weights().bytes() + optimizer.bytes()
}

/// Sequences in the largest batch of `recipe` whose fullest step takes no more than `limit` bytes with the state; 0 where
/// not even the smallest does. By doubling, then bisection over the sequences of a micro-batch.
///
/// # Errors
/// Any failure of a step but running out of memory; and [`Broken::Stopped`].
pub fn largest_batch(
    recipe: &Pretrain,
    seeds: Seeds,
    material: &Material,
    device: Device,
    limit: u64,
    stop: &AtomicBool,
) -> Result<u32, Broken> {
    let parts = recipe.micro_batches;
    let mut attempt = |size: u32| -> Result<_, Broken> {
        Broken::by(stop)?;
        let recipe = Pretrain { batch: size * parts, ..recipe.clone() };
        Ok(fullest_step(&recipe, seeds, material, device)?)
    };
    let size = largest((LARGEST / parts).max(1), limit, device.is_cuda(), &mut attempt)?;
    Ok(size * parts)
}

/// What the fullest step of a recipe takes, with the state and without; nothing where that is more than there is.
fn fullest_step(
    recipe: &Pretrain,
    seeds: Seeds,
    material: &Material,
    device: Device,
) -> Result<Option<Taken>, TrainerError> {
    let step = || {
        let mut training = Pretraining::new(recipe.clone(), seeds, material.clone(), device);
        let mut optimizer = Optimizer::new(training.optimizer(), training.weights());
        let count = MOMENTS.min(recipe.steps);
        let moments = (0..count).map(|part| {
            let step = (u128::from(part) * u128::from(recipe.steps) / u128::from(count)) as u64;
            let moment = Moment::of_step(step, recipe.steps);
            let open = |part| gate::open_blocks(&training.gates(&moment, part), training.batch());
            let fullest = (0..training.micro_batches()).map(open).fold(0.0, f64::max);
            ((fullest, recipe.objective.rate_at(&moment)), moment)
        });
        // Of equally open ones, where the most is masked.
        let fullest = moments.max_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let moment = fullest.map_or_else(|| Moment::of_step(0, recipe.steps), |(_, moment)| moment);
        let (_, metered) = metered_update(&mut training, &mut optimizer, &moment, device);
        let state = state_bytes(&training, &optimizer);
        Ok(Taken { state, step: metered.peak.max(0) as u64 })
    };
    match caught(step) {
        Ok(taken) => Ok(Some(taken)),
        Err(error) if error.kind() == FailureKind::OutOfMemory => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    state: u64,
    step: u64,
}

impl Taken {
    fn sum(self) -> u64 {
        self.state + self.step
    }
}

/// The largest size from 1 to `most` that takes no more than `limit`, or 0. Where `bold` is off, a size that would take
/// more by what a smaller one took is not tried: on a CPU, the system would end the process.
fn largest<E>(
    most: u32,
    limit: u64,
    bold: bool,
    attempt: &mut impl FnMut(u32) -> Result<Option<Taken>, E>,
) -> Result<u32, E> {
    let mut fits: Option<(u32, Taken)> = None;
    let (mut low, mut high) = (0, most + 1);
    while high - low > 1 {
        let size = if high > most && low > 0 { low.saturating_mul(2).min(most) } else { low + (high - low) / 2 };
        let size = if low == 0 && high > most { 1 } else { size };
        let expected = fits.map(|(of, taken)| taken.state as f64 + taken.step as f64 * f64::from(size) / f64::from(of));
        let hopeless = !bold && expected.is_some_and(|expected| expected > limit as f64 * 1.02);
        let taken = if hopeless { None } else { attempt(size)? };
        match taken.filter(|taken| taken.sum() <= limit) {
            Some(taken) => {
                low = size;
                fits = Some((size, taken));
            }
            None => high = size,
        }
    }
    Ok(low)
}

/// Bytes that this process may still take of the device's memory, as far as that is known: on a CPU what the system has
/// available, within the control group's limit. A GPU says itself when it is full.
pub fn available(device: Device) -> u64 {
    if device.is_cuda() {
        return u64::MAX;
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes =
        meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().split(' ').next()?.parse().ok());
    let system: Option<u64> = kibibytes.map(|kibibytes: u64| kibibytes * 1024);
    let number = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(most, now)| most.saturating_sub(now));
    system.into_iter().chain(group).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_largest_size_that_fits_is_found_and_none_that_is_hopeless_is_tried(
            state in 0u64..1000, fixed in 0u64..500, each in 1u64..300, limit in 1u64..200_000, bold: bool,
        ) {
            let most = 4096;
            let takes = |size: u32| Taken { state, step: fixed + each * u64::from(size) };
            let mut tried = 0;
            let found = largest::<()>(most, limit, bold, &mut |size| {
                tried += 1;
                // What takes twice the limit would end the process.
                assert!(bold || size == 1 || takes(size).sum() <= 2 * limit + fixed, "{size}");
                Ok(Some(takes(size)))
            });
            let fitting = (1..=most).rev().find(|&size| takes(size).sum() <= limit).unwrap_or(0);
            let found = found.unwrap();
            prop_assert!(found <= fitting, "{found} > {fitting}");
            // A part that does not grow is counted as if it did: 2 % are allowed for it.
            let lost = fixed as f64 / each as f64;
            prop_assert!(f64::from(found) >= f64::from(fitting) - lost - 1.0, "{found}, {fitting} would fit");
            prop_assert!(tried <= 2 * 13 + 1);
        }
    }

    #[test]
    fn a_step_that_runs_out_of_memory_does_not_fit() {
        let found =
            largest::<()>(64, u64::MAX, true, &mut |size| Ok((size <= 37).then_some(Taken { state: 1, step: 1 })));
        assert_eq!(found, Ok(37));
        assert_eq!(largest(64, 10, false, &mut |_| Err("device fault")), Err("device fault"));
    }
}

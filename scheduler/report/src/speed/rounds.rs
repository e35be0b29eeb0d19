//! From the rounds of a timing trial to ratios of step times.
//!
//! In each round every arm has one turn, in random order. A turn sees a few steps of the arm's schedule, with the gates
//! that were drawn for them. Its time is therefore adjusted: a robust line of step time over open blocks, relative to
//! the baseline's turn of the same round, gives the factor from the blocks that were open in the turn to those that are
//! open on average in the whole run, which is known in closed form. What is left is noise of the machine.

use std::collections::BTreeMap;

use recipe::Timing;
use recipe::report::{ArmTiming, TimingReport, Turn};

use super::{EncoderFit, LEAST_ROUNDS, has_steps_of, timed_arm, timed_recipe};
use crate::statistics::{Estimate, Line, hodges_lehmann, median};

/// Most groups of rounds that are left out in turn for the error of a share; with more rounds a group has several.
const MOST_GROUPS: usize = 32;

/// A timing trial whose arms are measured by one of them.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    timing: &'a Timing,
    report: &'a TimingReport,
    /// The baseline, or the first arm if the baseline was not timed because it starts from a published checkpoint.
    reference: &'a ArmTiming,
    /// Number of rounds in which every arm had its turn.
    pub(super) rounds: usize,
}

/// What some rounds of a trial say.
pub(super) struct Measured<'a> {
    /// Name of the arm that the others are measured by.
    pub(super) reference: &'a str,
    /// Seconds of a step of the reference, as the pseudomedian over the rounds.
    pub(super) reference_seconds: f64,
    pub(super) fit: Option<EncoderFit>,
    /// For each arm, the logarithm of the reference's step time divided by the arm's in each round.
    arms: BTreeMap<&'a str, Vec<f64>>,
    first_steps: BTreeMap<&'a str, Vec<f64>>,
}

impl<'a> Trial<'a> {
    /// `None` if no arm was timed, or a turn of the report is not sound.
    pub(super) fn new(timing: &'a Timing, report: &'a TimingReport, baseline: &str) -> Option<Self> {
        let reference = timed_arm(report, baseline).or(report.arms.first())?;
        let rounds = report.arms.iter().map(|arm| arm.turns.len()).min()?;
        let is_sound = report.arms.iter().all(|arm| arm.turns.iter().all(Turn::is_sound));
        (rounds > 0 && is_sound).then_some(Self { timing, report, reference, rounds })
    }

    pub(super) fn measure(&self) -> Option<Measured<'a>> {
        self.measure_in(&(0..self.rounds).collect::<Vec<usize>>())
    }

    fn measure_in(&self, rounds: &[usize]) -> Option<Measured<'a>> {
        let of_arm = |arm: &'a ArmTiming| Rounds {
            turns: rounds.iter().map(|round| &arm.turns[*round]).collect(),
            mean_open: timed_recipe(self.timing, &arm.name)
                .map_or(f64::from(arm.blocks), recipe::Pretrain::mean_open_blocks),
        };
        let reference = of_arm(self.reference);
        // The reference has no other arm to be measured by.
        let typical = median(&reference.turns.iter().map(|turn| turn.mean_seconds()).collect::<Vec<f64>>())?;
        let levels = reference.adjusted(&vec![typical; rounds.len()]).turns;
        let mut measured = Measured {
            reference: &self.reference.name,
            reference_seconds: hodges_lehmann(&levels)?,
            fit: None,
            arms: BTreeMap::new(),
            first_steps: BTreeMap::new(),
        };
        let mut points = Vec::new();
        for arm in &self.report.arms {
            let own = of_arm(arm);
            let adjusted = own.adjusted(&levels);
            let logs = levels.iter().zip(&adjusted.turns).map(|(level, own)| (level / own).ln());
            measured.arms.insert(&arm.name, logs.collect());
            measured.first_steps.insert(&arm.name, adjusted.first_steps);
            let has_growth = timed_recipe(self.timing, &arm.name).is_some_and(|recipe| recipe.growth.is_some());
            if has_steps_of(self.timing, &self.reference.name, &arm.name) && !has_growth {
                points.extend(own.points(&levels));
            }
        }
        measured.fit = Line::huber(&points).and_then(|line| EncoderFit::of(line, measured.reference_seconds));
        Some(measured)
    }

    /// The trial without each group of rounds in turn, for the jackknife: successive rounds, whose noise is alike, are in
    /// one group. Empty below 6 rounds, or if a measurement fails.
    pub(super) fn without_each_group(&self) -> Vec<Measured<'a>> {
        let groups = if self.rounds < LEAST_ROUNDS as usize { 0 } else { self.rounds.min(MOST_GROUPS) };
        let without = |group: usize| {
            let is_kept = |round: &usize| round * groups / self.rounds != group;
            self.measure_in(&(0..self.rounds).filter(is_kept).collect::<Vec<usize>>())
        };
        (0..groups).map(without).collect::<Option<Vec<_>>>().unwrap_or_default()
    }
}

impl Measured<'_> {
    /// Logarithm of the step time of `against` divided by that of `arm`.
    pub(super) fn speed_up(&self, arm: &str, against: &str) -> Option<Estimate> {
        let rounds = self.arms.get(arm)?.iter().zip(self.arms.get(against)?);
        Estimate::of_pseudomedian(&rounds.map(|(own, other)| own - other).collect::<Vec<f64>>())
    }

    /// Seconds of a mean step of the whole run of `arm`.
    pub(super) fn step_seconds(&self, arm: &str) -> Option<f64> {
        if arm == self.reference {
            return Some(self.reference_seconds);
        }
        Some(self.reference_seconds / self.speed_up(arm, self.reference)?.centre.exp())
    }

    /// Logarithm of the time of the first timed step of a turn divided by that of the others.
    pub(super) fn first_step(&self, arm: &str) -> Option<Estimate> {
        Estimate::of_pseudomedian(self.first_steps.get(arm)?)
    }
}

/// The turns of an arm in some rounds.
struct Rounds<'a> {
    turns: Vec<&'a Turn>,
    /// Mean number of open blocks over a whole run.
    mean_open: f64,
}

/// The step times of an arm if the blocks were open that are open on average in its whole run.
struct Adjusted {
    /// Mean seconds of a step of each turn.
    turns: Vec<f64>,
    /// Logarithm of the time of the first step of each turn divided by the mean of the others. Empty if a turn has one
    /// step.
    first_steps: Vec<f64>,
}

impl Rounds<'_> {
    /// A point for each step: its open blocks, and its time divided by the level of its round.
    fn points(&self, levels: &[f64]) -> Vec<(f64, f64)> {
        let turns = self.turns.iter().zip(levels);
        let steps =
            turns.flat_map(|(turn, level)| turn.open_blocks.iter().zip(turn.seconds.iter().map(move |s| s / level)));
        steps.map(|(open, time)| (*open, time)).collect()
    }

    /// Step times relative to `levels`, the seconds of a step of the reference in each round.
    fn adjusted(&self, levels: &[f64]) -> Adjusted {
        let factor = self.factor(levels);
        let times = |turn: &Turn| -> Vec<f64> {
            turn.seconds.iter().zip(&turn.open_blocks).map(|(seconds, open)| seconds * factor(*open)).collect()
        };
        let of_turn = |turn: &&Turn| {
            let open = turn.open_blocks.iter().sum::<f64>() / turn.open_blocks.len() as f64;
            turn.mean_seconds() * factor(open)
        };
        let first = |turn: &&Turn| {
            let times = times(turn);
            let (first, others) = times.split_first()?;
            (!others.is_empty()).then(|| (first / (others.iter().sum::<f64>() / others.len() as f64)).ln())
        };
        Adjusted {
            turns: self.turns.iter().map(of_turn).collect(),
            first_steps: self.turns.iter().map(first).collect::<Option<Vec<f64>>>().unwrap_or_default(),
        }
    }

    /// The factor from the time of a step with some open blocks to that of a mean step of the run. It is 1 where the
    /// steps do not determine a line. The mean is not looked for beyond the numbers of blocks that were open.
    fn factor(&self, levels: &[f64]) -> impl Fn(f64) -> f64 + use<> {
        let points = self.points(levels);
        let (least, most) = points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
        let line = Line::huber(&points).filter(|line| line.at(least) > 0.0 && line.at(most) > 0.0);
        let mean = self.mean_open.clamp(least, most);
        move |open| line.map_or(1.0, |line| line.at(mean) / line.at(open))
    }
}

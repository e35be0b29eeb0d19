//! One arm against another one over the seeds that both share.

use std::collections::BTreeMap;

use recipe::KeptBlocks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::statistics::{
    Estimate, bonett_interval, brown_forsythe, difference_of_rates, mcnemar, mean, pitman_morgan, spread_of_pairs,
    spread_within, wilcoxon_signed_rank,
};

/// The level of the intervals of a report.
pub(crate) const ALPHA: f64 = 0.05;

/// Fewest pairs at which the signed rank test can reject anything at 5 %.
const LEAST_FOR_RANKS: usize = 6;

/// The difference between an arm and the baseline in one measure, over pairs of runs with equal seeds. In an effect,
/// the arm in `against` takes the place of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    pub arm: String,
    /// Peak learning rate of the arm's fine-tune runs. Absent in a comparison of pre-train runs.
    pub learning_rate: Option<f64>,
    /// Peak learning rate of the baseline's fine-tune runs. Absent in a comparison of pre-train runs.
    pub baseline_learning_rate: Option<f64>,
    /// Which blocks of the checkpoints were kept, in both arms. Absent in a comparison of pre-train runs.
    pub keep: Option<KeptBlocks>,
    /// Number of blocks that were kept of the arm's checkpoints. Absent in a comparison of pre-train runs.
    pub blocks: Option<u32>,
    /// What the pairs are, and with it what the numbers are about.
    pub units: Units,
    /// Number of independent pairs.
    pub n_pairs: usize,
    /// Mean over the pairs of arm minus baseline, in the unit of the measure. A run that diverged counts with the value
    /// of a guess.
    pub mean_difference: f64,
    /// 95 % t interval of `mean_difference` with `n_pairs - 1` degrees of freedom, `[low, high]`, within the range of
    /// the measure. Absent for one pair, and if all pairs differ by the same amount.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// The mean difference in standard deviations of the differences, corrected for their number (Hedges 1981). Absent
    /// below three pairs, and where `interval` is.
    pub effect_size: Option<f64>,
    /// Two-sided p value of the paired t test. Absent where `interval` is.
    pub p_paired_t: Option<f64>,
    /// `p_paired_t` after Holm's correction (Holm 1979) over all comparisons of the same table: every task, arm, choice
    /// of blocks and learning rate. Absent in a comparison of pre-train runs.
    pub p_holm: Option<f64>,
    /// Two-sided exact p value of Wilcoxon's signed rank test (1945) of the same pairs. Absent below six pairs, where
    /// it cannot fall below 0.05, and if no pair differs.
    pub p_wilcoxon: Option<f64>,
    /// The spread over seeds, as the ratio of two standard deviations. Absent if the runs do not determine it.
    pub spread: Option<SpreadRatio>,
    /// How many more runs of the arm failed.
    pub failed: FailedDifference,
}

/// What the pairs of a comparison are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// Pre-train seeds: each gives one pair, the means of its runs in the two arms. The numbers are about the arms.
    Checkpoints,
    /// The fine-tune runs of one checkpoint of each arm. The numbers are about these two checkpoints, and not about the
    /// arms: another pre-train seed may turn them around.
    RunsOfOneCheckpoint,
}

/// The spread of an arm's runs over seeds against that of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpreadRatio {
    pub scope: SpreadScope,
    /// Number of values behind the interval: checkpoints, pairs of seeds, or runs of the smaller sample.
    pub n: usize,
    /// Standard deviation of the arm divided by that of the baseline.
    pub ratio: f64,
    /// 95 % interval of the ratio, `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// p value of the test that the spreads are equal.
    pub p: Option<f64>,
}

/// Which runs a ratio of spreads is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpreadScope {
    /// Fine-tune runs of one checkpoint, over several checkpoints: the geometric mean of the ratios of the checkpoints,
    /// with a t interval and test (Bartlett and Kendall 1946).
    WithinCheckpoints,
    /// Pre-train runs over seeds that both arms share: the jackknife of the logarithm of the ratio (Miller 1968). The
    /// test is that of Pitman (1939) and Morgan (1939) if no run failed.
    BetweenSeeds,
    /// The fine-tune runs of one checkpoint of each arm: Bonett's interval (2006) from five runs, and the test of Brown
    /// and Forsythe (1974) without structural zeros. It is about these two checkpoints.
    OneCheckpoint,
}

/// The share of failed runs of an arm minus that of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailedDifference {
    pub difference: f64,
    /// 95 % interval, `[low, high]`: method 10 of Newcombe (1998), with runs of one checkpoint counted as fewer where
    /// they are alike (Korn and Graubard 1998).
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// Exact p value of McNemar's test over pairs of runs with equal seeds. Absent if no pair differs, and with several
    /// checkpoints, whose runs are not independent.
    pub p_mcnemar: Option<f64>,
}

/// A run in one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    /// The measured value, or that of a guess for a run that diverged.
    pub(crate) value: f64,
    pub(crate) failed: bool,
}

/// The runs with a value, by the seed of their pre-training and that of their fine-tuning (0 for a pre-train run).
pub(crate) type Runs = BTreeMap<(u64, u64), Run>;

/// The values of one checkpoint of each arm, `(baseline, arm)`.
pub(crate) type CheckpointPair = (Vec<f64>, Vec<f64>);

/// The values of each checkpoint, by pre-train seed.
pub(crate) fn by_checkpoint(runs: &Runs) -> BTreeMap<u64, Vec<f64>> {
    let mut checkpoints: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for ((pretrain_seed, _), run) in runs {
        checkpoints.entry(*pretrain_seed).or_default().push(run.value);
    }
    checkpoints
}

/// Failed runs and runs of each checkpoint.
pub(crate) fn failures_by_checkpoint(runs: &Runs) -> Vec<(usize, usize)> {
    let mut checkpoints: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for ((pretrain_seed, _), run) in runs {
        let (failed, all) = checkpoints.entry(*pretrain_seed).or_default();
        *failed += usize::from(run.failed);
        *all += 1;
    }
    checkpoints.into_values().collect()
}

/// The independent values in `runs`. Fine-tune runs from one checkpoint are not independent, so with several pre-train
/// seeds each seed gives one value, the mean of its runs. With one pre-train seed every run gives a value, and
/// statistics of these values hold for that checkpoint only.
pub(crate) fn independent_values(runs: &Runs) -> Vec<f64> {
    let checkpoints = by_checkpoint(runs);
    match checkpoints.len() {
        1 => runs.values().map(|run| run.value).collect(),
        _ => checkpoints.values().filter_map(|values| mean(values)).collect(),
    }
}

/// Two arms over the seeds that both have.
pub(crate) struct Shared {
    arm: Runs,
    baseline: Runs,
    /// True for pre-train runs, each of which is a checkpoint.
    is_pretrain: bool,
}

impl Shared {
    pub(crate) fn new(runs: &Runs, baseline: &Runs) -> Self {
        let shared = |runs: &Runs, others: &Runs| -> Runs {
            let shared = runs.iter().filter(|(seeds, _)| others.contains_key(seeds));
            shared.map(|(seeds, run)| (*seeds, *run)).collect()
        };
        Self { arm: shared(runs, baseline), baseline: shared(baseline, runs), is_pretrain: false }
    }

    pub(crate) fn of_pretraining(runs: &Runs, baseline: &Runs) -> Self {
        Self { is_pretrain: true, ..Self::new(runs, baseline) }
    }

    pub(crate) fn units(&self) -> Units {
        let checkpoints = by_checkpoint(&self.arm).len();
        if self.is_pretrain || checkpoints > 1 { Units::Checkpoints } else { Units::RunsOfOneCheckpoint }
    }

    /// The independent pairs, `(baseline, arm)`.
    pub(crate) fn pairs(&self) -> Vec<(f64, f64)> {
        independent_values(&self.baseline).into_iter().zip(independent_values(&self.arm)).collect()
    }

    /// The values of each checkpoint in the two arms, `(baseline, arm)`, by pre-train seed.
    pub(crate) fn checkpoints(&self) -> BTreeMap<u64, CheckpointPair> {
        let arm = by_checkpoint(&self.arm);
        let both = by_checkpoint(&self.baseline).into_iter();
        both.filter_map(|(seed, values)| Some((seed, (values, arm.get(&seed)?.clone())))).collect()
    }

    /// Logarithm of the ratio of spreads, arm over baseline, where it is about the arms.
    pub(crate) fn spread(&self) -> Option<Estimate> {
        if self.is_pretrain {
            return spread_of_pairs(&self.pairs());
        }
        if self.units() == Units::RunsOfOneCheckpoint {
            return None;
        }
        spread_within(&self.checkpoints().into_values().collect::<Vec<_>>())
    }

    fn any_failed(&self) -> bool {
        self.arm.values().chain(self.baseline.values()).any(|run| run.failed)
    }

    fn spread_ratio(&self) -> Option<SpreadRatio> {
        if self.units() == Units::RunsOfOneCheckpoint {
            let values = |runs: &Runs| runs.values().map(|run| run.value).collect::<Vec<f64>>();
            let (baseline, arm) = (values(&self.baseline), values(&self.arm));
            let (ratio, interval) = bonett_interval(&baseline, &arm)?;
            let p = brown_forsythe(&baseline, &arm);
            return Some(SpreadRatio { scope: SpreadScope::OneCheckpoint, n: arm.len(), ratio, interval, p });
        }
        let spread = self.spread()?;
        let is_normal = self.is_pretrain && !self.any_failed();
        Some(SpreadRatio {
            scope: if self.is_pretrain { SpreadScope::BetweenSeeds } else { SpreadScope::WithinCheckpoints },
            n: spread.n,
            ratio: spread.centre.exp(),
            interval: spread.interval(ALPHA).map(|ends| ends.map(f64::exp)),
            p: if is_normal { pitman_morgan(&self.pairs()) } else { spread.p_of(0.0) },
        })
        .filter(|spread| spread.ratio.is_finite() && spread.interval.is_none_or(|[_, high]| high.is_finite()))
    }

    fn failed_difference(&self) -> Option<FailedDifference> {
        let (baseline, arm) = (failures_by_checkpoint(&self.baseline), failures_by_checkpoint(&self.arm));
        let (difference, interval) = difference_of_rates(&baseline, &arm)?;
        let is_independent = self.is_pretrain || self.units() == Units::RunsOfOneCheckpoint;
        let only = |runs: &Runs, others: &Runs| {
            runs.iter()
                .filter(|(seeds, run)| run.failed && others.get(seeds).is_some_and(|other| !other.failed))
                .count()
        };
        let p = mcnemar(only(&self.baseline, &self.arm), only(&self.arm, &self.baseline));
        Some(FailedDifference { difference, interval, p_mcnemar: p.filter(|_| is_independent) })
    }

    /// The comparison of the two arms, whose differences lie within `range`. `None` if they share no seed.
    pub(crate) fn compare(&self, arm: &str, range: Option<[f64; 2]>) -> Option<Comparison> {
        let pairs = self.pairs();
        let difference = Estimate::of_differences(&pairs)?;
        let wilcoxon = wilcoxon_signed_rank(&pairs).filter(|_| pairs.len() >= LEAST_FOR_RANKS);
        Some(Comparison {
            arm: arm.to_owned(),
            learning_rate: None,
            baseline_learning_rate: None,
            keep: None,
            blocks: None,
            units: self.units(),
            n_pairs: pairs.len(),
            mean_difference: difference.centre,
            interval: difference.interval(ALPHA).map(|ends| within(ends, range)),
            effect_size: difference.size(),
            p_paired_t: difference.p_of(0.0),
            p_holm: None,
            p_wilcoxon: wilcoxon,
            spread: self.spread_ratio(),
            failed: self.failed_difference()?,
        })
    }
}

/// The part of an interval that lies within the range of its measure.
pub(crate) fn within(interval: [f64; 2], range: Option<[f64; 2]>) -> [f64; 2] {
    range.map_or(interval, |[least, most]| interval.map(|end| end.clamp(least, most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(values: &[((u64, u64), f64)]) -> Runs {
        values.iter().map(|(seeds, value)| (*seeds, Run { value: *value, failed: false })).collect()
    }

    #[test]
    fn with_several_checkpoints_each_one_gives_one_value() {
        let baseline = runs(&[((0, 0), 1.0), ((0, 1), 3.0), ((1, 0), 5.0), ((1, 1), 7.0)]);
        assert_eq!(independent_values(&baseline), [2.0, 6.0]);
        // Seeds (1, 1) are missing in the arm, so the second checkpoint's value is that of seeds (1, 0) in both arms.
        let arm = runs(&[((0, 0), 2.0), ((0, 1), 4.0), ((1, 0), 9.0), ((2, 0), 100.0)]);
        let comparison = Shared::new(&arm, &baseline).compare("pld", None).unwrap();
        assert_eq!((comparison.n_pairs, comparison.mean_difference), (2, 2.5));
        assert_eq!(comparison.units, Units::Checkpoints);
    }

    #[test]
    fn with_one_checkpoint_each_run_gives_a_value_and_the_units_say_so() {
        let baseline = runs(&[((0, 0), 1.0), ((0, 1), 3.0), ((0, 2), 4.0)]);
        assert_eq!(independent_values(&baseline), [1.0, 3.0, 4.0]);
        let comparison = Shared::new(&baseline, &baseline).compare("pld", None).unwrap();
        assert_eq!((comparison.n_pairs, comparison.units), (3, Units::RunsOfOneCheckpoint));
        assert_eq!(Shared::new(&runs(&[((1, 0), 1.0)]), &baseline).compare("pld", None), None);
    }

    #[test]
    fn an_interval_stays_within_the_range_of_its_measure() {
        let baseline = runs(&[((0, 0), 0.1), ((1, 0), 0.9)]);
        let arm = runs(&[((0, 0), 0.9), ((1, 0), 0.2)]);
        let comparison = Shared::new(&arm, &baseline).compare("pld", Some([-1.0, 1.0])).unwrap();
        assert_eq!(comparison.interval, Some([-1.0, 1.0]));
    }
}

//! One arm against another over the seeds that both share.

use std::collections::BTreeMap;

use recipe::KeptBlocks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::statistics::{brown_forsythe, mean, paired_t, wilcoxon_signed_rank};

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
    /// Number of independent pairs. With several pre-train seeds, each seed is one pair: the means of its runs in the
    /// two arms. With one pre-train seed, each pair of runs counts.
    pub n_pairs: usize,
    /// Mean over the pairs of arm minus baseline, in the unit of the measure.
    pub mean_difference: f64,
    /// 95 % t interval of `mean_difference` with `n_pairs - 1` degrees of freedom, `[low, high]`. Absent for one pair,
    /// and if all pairs differ by the same amount.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// Two-sided p value of the paired t test. Absent where `interval` is.
    pub p_paired_t: Option<f64>,
    /// `p_paired_t` after Holm's correction (Holm 1979) over the GLUE tasks of the same arm, kept blocks and, where
    /// arms are compared at equal rates, learning rate. Absent in a comparison of pre-train runs.
    pub p_holm: Option<f64>,
    /// Two-sided exact p value of Wilcoxon's signed rank test (1945) of the same pairs. Absent if no pair differs.
    pub p_wilcoxon: Option<f64>,
    /// p value of the test of equal spread by Brown and Forsythe (1974), over all runs of both arms, paired or not.
    pub p_brown_forsythe: Option<f64>,
}

/// The value of each run that has one, by the seed of its pre-training and that of its fine-tuning (0 for a pre-train
/// run).
pub(crate) type RunValues = BTreeMap<(u64, u64), f64>;

/// The independent values in `runs`. Fine-tune runs from one checkpoint are not independent, so with several pre-train
/// seeds each seed gives one value, the mean of its runs. With one pre-train seed every run gives a value, and
/// statistics of these values hold for that checkpoint only.
pub(crate) fn independent_values(runs: &RunValues) -> Vec<f64> {
    let mut checkpoints: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for ((pretrain_seed, _), value) in runs {
        checkpoints.entry(*pretrain_seed).or_default().push(*value);
    }
    match checkpoints.len() {
        1 => runs.values().copied().collect(),
        _ => checkpoints.values().filter_map(|values| mean(values)).collect(),
    }
}

/// Compares two arms over the seeds that both have. `None` if they share no seed.
pub(crate) fn compare(arm: &str, runs: &RunValues, baseline: &RunValues) -> Option<Comparison> {
    let shared = |runs: &RunValues, others: &RunValues| -> RunValues {
        let shared = runs.iter().filter(|(seeds, _)| others.contains_key(seeds));
        shared.map(|(seeds, value)| (*seeds, *value)).collect()
    };
    let baseline_values = independent_values(&shared(baseline, runs));
    let arm_values = independent_values(&shared(runs, baseline));
    let pairs: Vec<(f64, f64)> = baseline_values.into_iter().zip(arm_values).collect();
    let paired = paired_t(&pairs)?;
    let values = |runs: &RunValues| runs.values().copied().collect::<Vec<f64>>();
    Some(Comparison {
        arm: arm.to_owned(),
        learning_rate: None,
        baseline_learning_rate: None,
        keep: None,
        blocks: None,
        n_pairs: pairs.len(),
        mean_difference: paired.difference,
        interval: paired.interval,
        p_paired_t: paired.p,
        p_holm: None,
        p_wilcoxon: wilcoxon_signed_rank(&pairs),
        p_brown_forsythe: brown_forsythe(&values(baseline), &values(runs)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_several_checkpoints_each_one_gives_one_value() {
        let baseline: RunValues = [((0, 0), 1.0), ((0, 1), 3.0), ((1, 0), 5.0), ((1, 1), 7.0)].into();
        assert_eq!(independent_values(&baseline), [2.0, 6.0]);
        // Seeds (1, 1) are missing in the arm, so the second checkpoint's value is that of seeds (1, 0) in both arms.
        let arm: RunValues = [((0, 0), 2.0), ((0, 1), 4.0), ((1, 0), 9.0), ((2, 0), 100.0)].into();
        let comparison = compare("pld", &arm, &baseline).unwrap();
        assert_eq!((comparison.n_pairs, comparison.mean_difference), (2, 2.5));
    }

    #[test]
    fn with_one_checkpoint_each_run_gives_a_value() {
        let baseline: RunValues = [((0, 0), 1.0), ((0, 1), 3.0), ((0, 2), 4.0)].into();
        assert_eq!(independent_values(&baseline), [1.0, 3.0, 4.0]);
        assert_eq!(compare("pld", &[((1, 0), 1.0)].into(), &baseline), None);
    }
}

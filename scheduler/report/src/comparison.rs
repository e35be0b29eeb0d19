//! One arm against the baseline, over what both share.

use std::collections::BTreeMap;

use recipe::Keep;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::statistics::{brown_forsythe, mean, paired_t, wilcoxon_signed_rank};

/// The difference between an arm and the baseline, over pairs that share their seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    pub arm: String,
    /// Of fine-tuning, as are the blocks; absent where pre-train runs are compared.
    pub learning_rate: Option<f64>,
    /// That of the baseline's runs.
    #[serde(default)]
    pub baseline_learning_rate: Option<f64>,
    /// Which blocks of the checkpoints were kept, on both sides.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// How many these are of the arm's.
    #[serde(default)]
    pub blocks: Option<u32>,
    /// Independent pairs behind the difference: pre-train seeds where there are several, else runs.
    pub n_pairs: usize,
    /// Mean of arm minus baseline.
    pub mean_difference: f64,
    /// 95 % t interval of the mean difference, `[low, high]`.
    pub interval: Option<[f64; 2]>,
    pub p_paired_t: Option<f64>,
    /// `p_paired_t` after Holm's correction over the tasks, for one arm, choice of blocks and learning rate.
    pub p_holm: Option<f64>,
    /// Exact signed rank test of the same pairs.
    pub p_wilcoxon: Option<f64>,
    /// Brown-Forsythe test of equal spread, over all runs of the two arms.
    pub p_brown_forsythe: Option<f64>,
}

/// A run by the seed of its pre-training and, if it is one, of its fine-tuning.
pub(crate) type Runs = BTreeMap<(u64, u64), f64>;

/// The independent values behind a mean. Runs that start from one checkpoint share its luck, so with several
/// pre-train seeds each counts once, with the mean of its fine-tune runs. With a single one the runs themselves count,
/// and what follows holds for that checkpoint only.
pub(crate) fn units(runs: &Runs) -> Vec<f64> {
    let mut checkpoints: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for ((pretrain_seed, _), value) in runs {
        checkpoints.entry(*pretrain_seed).or_default().push(*value);
    }
    match checkpoints.len() {
        1 => runs.values().copied().collect(),
        _ => checkpoints.values().filter_map(|values| mean(values)).collect(),
    }
}

/// Compares over the seeds that both have; `None` where they share none.
pub(crate) fn compare(arm: &str, runs: &Runs, baseline: &Runs) -> Option<Comparison> {
    let shared = |of: &Runs, with: &Runs| -> Runs {
        of.iter().filter(|(seeds, _)| with.contains_key(seeds)).map(|(seeds, value)| (*seeds, *value)).collect()
    };
    let pairs: Vec<(f64, f64)> =
        units(&shared(baseline, runs)).into_iter().zip(units(&shared(runs, baseline))).collect();
    let paired = paired_t(&pairs)?;
    let values = |runs: &Runs| runs.values().copied().collect::<Vec<f64>>();
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
    fn with_several_checkpoints_each_counts_once() {
        let baseline: Runs = [((0, 0), 1.0), ((0, 1), 3.0), ((1, 0), 5.0), ((1, 1), 7.0)].into();
        assert_eq!(units(&baseline), [2.0, 6.0]);
        // (1, 1) has no partner, so the second checkpoint counts with (1, 0) alone on both sides.
        let arm: Runs = [((0, 0), 2.0), ((0, 1), 4.0), ((1, 0), 9.0), ((2, 0), 100.0)].into();
        let comparison = compare("pld", &arm, &baseline).unwrap();
        assert_eq!((comparison.n_pairs, comparison.mean_difference), (2, 2.5));
    }

    #[test]
    fn with_one_checkpoint_its_runs_count() {
        let baseline: Runs = [((0, 0), 1.0), ((0, 1), 3.0), ((0, 2), 4.0)].into();
        assert_eq!(units(&baseline), [1.0, 3.0, 4.0]);
        assert_eq!(compare("pld", &[((1, 0), 1.0)].into(), &baseline), None);
    }
}

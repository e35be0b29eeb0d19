//! Samples of runs that belong to groups, such as the fine-tune runs of several checkpoints.

use super::sample::mean;

/// How much the runs of one group are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nesting {
    /// Intraclass correlation: the share of the variance of a run that lies between the groups, 0 to 1.
    pub correlation: f64,
    /// Number of independent runs that would tell as much about the mean as all these runs do.
    pub effective_n: f64,
    /// Standard deviation between the true means of the groups.
    pub sd_between: f64,
    /// Standard deviation of the runs of a group.
    pub sd_within: f64,
}

/// The components of variance of groups of runs, by one-way analysis of variance (Searle, Casella and McCulloch 1992).
/// `None` unless there are two groups or more, one of them with two runs, and the runs vary.
pub fn nesting(groups: &[Vec<f64>]) -> Option<Nesting> {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    let runs: f64 = groups.iter().map(|group| group.len() as f64).sum();
    let count = groups.len() as f64;
    if groups.len() < 2 || runs <= count {
        return None;
    }
    let all: Vec<f64> = groups.iter().flat_map(|group| group.iter().copied()).collect();
    let centre = mean(&all)?;
    let (mut within, mut between) = (0.0, 0.0);
    for group in &groups {
        let own = mean(group)?;
        within += group.iter().map(|value| (value - own).powi(2)).sum::<f64>();
        between += group.len() as f64 * (own - centre).powi(2);
    }
    let (within, between) = (within / (runs - count), between / (count - 1.0));
    // The number of runs of a group, corrected for groups of unequal size.
    let size = (runs - groups.iter().map(|group| (group.len() as f64).powi(2)).sum::<f64>() / runs) / (count - 1.0);
    let variance_between = ((between - within) / size).max(0.0);
    let total = variance_between + within;
    if !(total.is_finite() && total > 0.0) {
        return None;
    }
    let correlation = variance_between / total;
    Some(Nesting {
        correlation,
        effective_n: runs / (1.0 + (size - 1.0) * correlation),
        sd_between: variance_between.sqrt(),
        sd_within: within.sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_without_groups_or_without_spread_have_no_components() {
        assert_eq!(nesting(&[]), None);
        assert_eq!(nesting(&[vec![1.0, 2.0]]), None);
        assert_eq!(nesting(&[vec![1.0], vec![2.0]]), None);
        assert_eq!(nesting(&[vec![1.0, 1.0], vec![1.0, 1.0]]), None);
    }

    #[test]
    fn equal_groups_are_uncorrelated_and_constant_groups_count_once() {
        let alike = nesting(&[vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.0]]).unwrap();
        assert_eq!((alike.correlation, alike.effective_n, alike.sd_between), (0.0, 6.0, 0.0));
        let constant = nesting(&[vec![1.0, 1.0, 1.0], vec![2.0, 2.0, 2.0]]).unwrap();
        assert_eq!((constant.correlation, constant.effective_n, constant.sd_within), (1.0, 2.0, 0.0));
    }
}

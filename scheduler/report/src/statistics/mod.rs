//! Statistics of small samples, by formula or by enumeration: pure functions of numbers.
//!
//! A statistic that a sample does not determine is `None`, never a number that looks like one:
//!
//! | sample | mean, median | sd | interval, test |
//! |---|---|---|---|
//! | empty, or with a value that is not finite | `None` | `None` | `None` |
//! | one value | the value | `None` | `None` |
//! | two values or more | by formula | by formula | by formula |
//! | all values equal (up to rounding) | the value | 0 | `None`: the normal model would claim certainty |
//!
//! | module | content |
//! |---|---|
//! | `sample`, `summary` | Centre and spread of one sample. |
//! | `interval` | The 95 % interval of a mean. |
//! | `estimate` | An effect with an interval at any level and a test of any value. |
//! | `rate` | Intervals and tests of rates. |
//! | `difference` | Parametric tests of two samples, and Holm's correction. |
//! | `rank` | Exact rank tests of two samples, and the interval of a pseudomedian. |
//! | `spread` | Ratios of standard deviations, and tests of equal spread. |
//! | `nested` | Runs that belong to groups. |
//! | `power` | What a number of pairs can tell, before there is any. |
//! | `robust` | A straight line through points of which some are far off. |

mod difference;
mod estimate;
mod interval;
mod nested;
mod power;
mod rank;
mod rate;
mod robust;
mod sample;
mod spread;
mod summary;

pub use difference::{PairedTTest, equivalence, holm, paired_t, welch};
pub use estimate::Estimate;
pub use interval::t_interval;
pub use nested::{Nesting, nesting};
pub use power::{detectable_difference, detectable_sameness, power_of_difference, power_of_sameness};
pub use rank::{hodges_lehmann, hodges_lehmann_interval, mann_whitney, walsh_rank, wilcoxon_signed_rank};
pub use rate::{difference_of_rates, mcnemar, nested_rate_interval, wilson_interval};
pub use robust::Line;
pub use sample::{expected_maximum, mean, median, standard_deviation};
pub use spread::{bonett_interval, brown_forsythe, pitman_morgan, spread_of_pairs, spread_within};
pub use summary::Summary;

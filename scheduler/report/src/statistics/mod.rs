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
//! A diverged run has no score. The caller counts it and leaves it out of the sample; it never enters as NaN.
//!
//! | module | content |
//! |---|---|
//! | `sample` | Centre and spread of one sample. |
//! | `interval` | 95 % intervals of a mean and of a rate. |
//! | `summary` | One sample in four numbers. |
//! | `difference` | Parametric tests of two samples, and Holm's correction. |
//! | `rank` | Exact rank tests of two samples. |

mod difference;
mod interval;
mod rank;
mod sample;
mod summary;

pub use difference::{PairedTTest, brown_forsythe, holm, paired_t, welch};
pub use interval::{t_interval, wilson_interval};
pub use rank::{mann_whitney, wilcoxon_signed_rank};
pub use sample::{expected_maximum, mean, median, standard_deviation};
pub use summary::Summary;

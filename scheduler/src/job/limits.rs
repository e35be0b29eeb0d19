//! How large a job may be. The OpenAPI document states each of these numbers.

/// Longest name of a job, an arm or a dataset, in characters.
pub const LONGEST_NAME: usize = 200;
/// A report compares every arm with the baseline; nobody reads a comparison of more arms.
pub const MOST_ARMS: usize = 100;
/// Learning rates of fine-tuning. A search over more belongs into several jobs.
pub const MOST_LEARNING_RATES: usize = 100;
/// Choices of the blocks to keep.
pub const MOST_KEEPS: usize = 100;
/// Seeds of pre-training, and of fine-tuning.
pub const MOST_SEEDS: u32 = 10_000;
/// A larger number of trials is a mistake in the submission.
pub const MOST_TRIALS: u64 = 100_000;

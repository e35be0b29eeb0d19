//! The stages of trials. Each file has a function `run` that takes a recipe to a report.

pub mod finetune;
pub mod pretrain;
pub mod probe;
pub mod timing;

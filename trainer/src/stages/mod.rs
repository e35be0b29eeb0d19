//! What a trial does, by its stage: each file has a `run` that takes a recipe to a report.

pub mod finetune;
pub mod pretrain;
pub mod probe;
pub mod timing;

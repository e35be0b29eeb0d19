//! One attempt of one trial: recipe in, events out, checkpoints on disk. The only crate that links libtorch.
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`](mod@run) | from flags and a recipe to a report |
//! | [`train`] | the loop: step, evaluate, checkpoint |
//! | [`pretrain`], [`finetune`], [`timing`], [`probe`] | what each stage brings to it |
//! | [`origin`] | the checkpoint that a fine-tune starts from |
//! | [`bert`] | the model, in forward order |
//! | [`kernel`] | its fused operators |
//! | [`objective`] | what pre-training learns, with its loss |
//! | [`block_states`] | what each block of a model does |
//! | [`optimizer`] | AdamW, LAMB |
//! | [`recompute`] | a backward pass that makes intermediate values again |
//! | [`data`], [`metrics`] | text, images and GLUE in, scores out; no tensors |
//! | [`checkpoint`] | what is on disk |
//! | [`emit`], [`failure`] | what the outside hears |
//! | [`device`], [`stopwatch`], [`memory`] | where it runs, how long it takes and what |

pub mod bert;
pub mod block_states;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod emit;
pub mod failure;
pub mod finetune;
pub mod kernel;
pub mod memory;
pub mod metrics;
pub mod objective;
pub mod optimizer;
pub mod origin;
pub mod pretrain;
pub mod probe;
pub mod recompute;
pub mod run;
pub mod stopwatch;
pub mod timing;
pub mod train;

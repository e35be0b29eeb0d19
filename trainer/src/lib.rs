//! One attempt of one trial: recipe in, events out, checkpoints on disk. The only crate that links libtorch.
//!
//! | module | content |
//! |---|---|
//! | [`options`], [`run`](mod@run) | the flags, and the way from them to a report |
//! | [`attempt`] | an attempt's device, the checkpoint that it continues from, and its end |
//! | [`stages`] | the stages of trials: timing, pretrain, finetune, probe |
//! | [`inputs`], [`origin`] | the text or images to learn from; the checkpoint to start from |
//! | [`train`](mod@train) | the loop: step, evaluate, checkpoint |
//! | [`pretraining`], [`finetuning`] | the models that the loop trains, with their data |
//! | [`bert`] | the model, in forward order |
//! | [`kernel`] | its fused operators |
//! | [`objective`](mod@objective) | the objectives of pre-training, with their losses |
//! | [`block_states`](mod@block_states) | measurements of each block of a model |
//! | [`optimizer`] | AdamW, LAMB |
//! | [`recompute`] | a backward pass that recomputes intermediate values |
//! | [`data`] | text, images and GLUE in, batches of plain numbers out |
//! | [`metrics`], [`evaluation`] | scores of predictions; the numbers of an evaluation |
//! | [`checkpoint`] | the files of a checkpoint |
//! | [`emit`], [`failure`] | the events and failures that the trainer reports |
//! | [`device`], [`machine`], [`stopwatch`], [`memory`] | the hardware, the time and the memory that a step takes |

pub mod attempt;
pub mod bert;
pub mod block_states;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod emit;
pub mod evaluation;
pub mod failure;
pub mod finetuning;
pub mod inputs;
pub mod kernel;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod objective;
pub mod optimizer;
pub mod options;
pub mod origin;
pub mod pretraining;
pub mod recompute;
pub mod run;
pub mod stages;
pub mod stopwatch;
pub mod train;

//! Everything about a trial that can be known without a tensor.
//!
//! A [`TrialSpec`] is what `lamina-trainer run --recipe FILE` reads, what the scheduler stores and what a job expands
//! into: a [`Recipe`] (all that defines the result) and [`Seeds`] (which repetition of it). The API validates a
//! submission with the very code that the trainer runs.
//!
//! | module | what it decides |
//! |---|---|
//! | [`model`] | shape and norm placement of the encoder |
//! | [`layer_drop`] | theta(t), keep probability per block, gates |
//! | [`learning_rate`], [`optimizer`] | the update |
//! | [`stage`] | what a trial does: timing, pretrain, finetune |
//! | [`finetune`] | from which checkpoint, at which depth, judged on what |
//! | [`published`] | checkpoints in Hugging Face's layout |
//! | [`task`] | the GLUE tasks, one row each |
//! | [`seeds`] | the named integers and the counter-based draws made from them |
//! | [`event`], [`report`], [`failure`] | what a trainer says |
//! | [`fingerprint`](mod@fingerprint), [`problem`] | identity and validity |

pub mod event;
pub mod failure;
pub mod finetune;
pub mod fingerprint;
pub mod layer_drop;
pub mod learning_rate;
pub mod model;
pub mod optimizer;
pub mod problem;
pub mod published;
pub mod report;
pub mod seeds;
pub mod stage;
pub mod task;

pub use event::Event;
pub use failure::{Failure, FailureKind};
pub use finetune::{Depth, Finetune, Published, Source};
pub use fingerprint::Fingerprint;
pub use layer_drop::{DepthIndex, Gate, LayerDrop, ThetaSchedule};
pub use learning_rate::{Decay, LearningRate};
pub use model::{Model, Norm, Size};
pub use optimizer::{ClosedBlocks, DecayOn, Optimizer};
pub use problem::Problem;
pub use report::Report;
pub use seeds::{Purpose, Seeds};
pub use stage::{Dataset, Mlm, Pretrain, Recipe, Stage, Timing, TimingArm, TrialSpec, Vocabulary};
pub use task::Task;

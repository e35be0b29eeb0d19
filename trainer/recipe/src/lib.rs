//! Everything about a trial that can be known without a tensor.
//!
//! A [`TrialSpec`] is what `lamina-trainer run --recipe FILE` reads, what the scheduler stores and what a job expands
//! into: a [`Recipe`] (all that defines the result) and [`Seeds`] (which repetition of it). The API validates a
//! submission with the very code that the trainer runs.
//!
//! | module | what it decides |
//! |---|---|
//! | [`model`] | shape and norm placement of the encoder |
//! | [`layer_drop`], [`gate`] | theta(t), keep probability per block; the draws |
//! | [`growth`] | training that starts shallow |
//! | [`objective`], [`images`] | what is learned from text, and from images |
//! | [`schedule`] | what varies over a run |
//! | [`learning_rate`], [`optimizer`] | the update |
//! | [`stage`] | what a trial does: timing, pretrain, finetune, probe |
//! | [`finetune`] | from which checkpoint, which blocks of it, judged on what |
//! | [`published`] | checkpoints in Hugging Face's layout |
//! | [`task`] | the GLUE tasks, one row each |
//! | [`seeds`] | the named integers and the counter-based draws made from them |
//! | [`event`], [`report`], [`failure`] | what a trainer says |
//! | [`fingerprint`](mod@fingerprint), [`problem`] | identity and validity |

pub mod event;
pub mod failure;
pub mod finetune;
pub mod fingerprint;
pub mod gate;
pub mod growth;
pub mod images;
pub mod layer_drop;
pub mod learning_rate;
pub mod model;
pub mod objective;
pub mod optimizer;
pub mod problem;
pub mod published;
pub mod report;
pub mod schedule;
pub mod seeds;
pub mod stage;
pub mod task;

pub use event::Event;
pub use failure::{Failure, FailureKind};
pub use finetune::{Finetune, Keep, Published, Source};
pub use fingerprint::Fingerprint;
pub use gate::{Draw, Gate, Rows, Sampler, Unit};
pub use growth::{GrownState, Growth, GrowthStage, NewBlocks};
pub use images::{ImageShape, Images};
pub use layer_drop::{Depth, DepthIndex, Direction, LayerDrop};
pub use learning_rate::{Decay, LearningRate};
pub use model::{Model, Norm, Size, Sublayer};
pub use objective::{Electra, Mlm};
pub use optimizer::{Algorithm, ClosedBlocks, DecayOn, Optimizer};
pub use problem::Problem;
pub use report::Report;
pub use schedule::{Moment, Shape};
pub use seeds::{Purpose, Seeds};
pub use stage::{
    Dataset, LargestBatch, Precision, Pretrain, Probe, Recipe, Stage, Timing, TimingArm, TrialSpec, Vocabulary,
};
pub use task::Task;

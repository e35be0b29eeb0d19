//! Everything about a trial that can be known without a tensor.
//!
//! A [`TrialSpec`] is the input of `lamina-trainer`, a row of the scheduler's store, and the result of expanding a job.
//! It holds a [`Recipe`], which defines the result, and [`Seeds`], which say what repetition it is. The API validates a
//! submission with the same code as the trainer.
//!
//! | module | content |
//! |---|---|
//! | [`stage`] | `Recipe` and `Stage` say what a trial does; each of the next four modules holds one kind of recipe. |
//! | [`timing`] | A timing trial measures the speed of several arms on one device. |
//! | [`pretrain`] | A pre-train trial trains a model on text or images. |
//! | [`finetune`] | A fine-tune trial trains a checkpoint, or some of its blocks, on a GLUE task. |
//! | [`probe`] | A probe measures what each block of a checkpoint does. |
//! | [`model`] | `Model` gives depth, widths and norm placement of the encoder, and counts its FLOPs. |
//! | [`layer_drop`], [`gate`] | `LayerDrop` gives theta and the keep probabilities; `Gate` is one draw from them. |
//! | [`growth`] | `Growth` describes training that starts shallow. |
//! | [`objective`], [`images`] | These define what a model learns from text, and from images. |
//! | [`schedule`], [`learning_rate`] | These are functions of the step: schedules and the learning rate. |
//! | [`optimizer`] | `Optimizer` holds the settings of an update. |
//! | [`dataset`] | `Dataset` and `Vocabulary` name the data. |
//! | [`published`] | A checkpoint in Hugging Face's layout is read and checked here. |
//! | [`task`] | `Task` lists the GLUE tasks, with one row of properties each. |
//! | [`seeds`] | `Seeds` are the named integers of a trial; counter-based draws are made from them. |
//! | [`event`], [`report`], [`failure`] | The trainer writes events; the last one holds a report or a failure. |
//! | [`fingerprint`](mod@fingerprint) | A fingerprint is the identity of a recipe. |
//! | [`problem`] | A `Problem` is one reason to refuse an input, with a pointer to its place. |
//! | [`mod@nearest`] | The known name that somebody may have meant. |
//! | [`names`] | [`named_enum!`] defines an enum with the names of its variants. |

pub mod dataset;
pub mod event;
pub mod failure;
pub mod finetune;
pub mod fingerprint;
pub mod gate;
pub mod growth;
pub mod images;
mod json;
pub mod layer_drop;
pub mod learning_rate;
pub mod model;
pub mod names;
pub mod nearest;
pub mod objective;
pub mod optimizer;
pub mod pretrain;
pub mod probe;
pub mod problem;
pub mod published;
pub mod report;
pub mod schedule;
pub mod seeds;
pub mod stage;
pub mod task;
pub mod timing;

pub use dataset::{Dataset, Vocabulary};
pub use event::Event;
pub use failure::{Failure, FailureKind};
pub use finetune::{Finetune, KeptBlocks, Published, Source};
pub use fingerprint::Fingerprint;
pub use gate::{Draw, DrawKey, Gate, Rows, Sampler, Unit};
pub use growth::{GrownState, Growth, GrowthStage, NewBlocks};
pub use images::{ImageObjective, ImageShape};
pub use layer_drop::{Depth, DepthIndex, Direction, LayerDrop};
pub use learning_rate::{Decay, LearningRate};
pub use model::{Model, Norm, Size, Sublayer};
pub use objective::{Electra, Mlm};
pub use optimizer::{Algorithm, ClosedBlocks, DecayOn, Optimizer};
pub use pretrain::{MOST_SEQUENCES_OF_A_BATCH, MOST_STEPS, Precision, Pretrain};
pub use probe::Probe;
pub use problem::Problem;
pub use report::TrialReport;
pub use schedule::{Moment, Schedule};
pub use seeds::{Purpose, Seeds};
pub use stage::{Recipe, Stage, TrialSpec};
pub use task::{Metric, Task};
pub use timing::{LargestBatch, Timing, TimingArm};

//! The report of a job: how much faster was each arm, at the same quality, on the same hardware, and does it change the
//! spread over seeds?
//!
//! [`report`] is a pure function of [`Facts`]: the same facts, in any order, give the same report. The crate has no clock
//! and no I/O.
//!
//! | module | content |
//! |---|---|
//! | `facts` | What a report is computed from. |
//! | `compute`, `content` | The function that computes a report, and the report itself. |
//! | `speed` | Time per step from the timing trial, and the saving that the closed form allows. |
//! | `pretrain`, `probe` | Validation losses over seeds; what each block of a checkpoint does. |
//! | `glue` | Scores on the GLUE tasks over seeds, and the learning rate that is selected. |
//! | `comparison`, `effects` | An arm against the baseline; layer drop against the norm. |
//! | `notes` | Sentences about what is missing, small or left out. |
//! | `markdown`, `table` | The report as text. |
//! | [`statistics`] | Intervals and tests for small samples. |
//! | [`submission`] | The files that an arm hands in to the GLUE server. |

mod comparison;
mod compute;
mod content;
mod effects;
mod facts;
mod glue;
mod markdown;
mod notes;
mod pretrain;
mod probe;
mod speed;
pub mod statistics;
pub mod submission;
mod table;

pub use comparison::Comparison;
pub use compute::report;
pub use content::Report;
pub use effects::{Effect, Factor};
pub use facts::{EndedTrial, Facts, TrialEnd, TrialFacts, TrialStatus};
pub use glue::{BestOf, GlueArm, GlueAverage, GlueReport, GlueScore, Selected, selected};
pub use pretrain::{PretrainArm, PretrainSeed};
pub use probe::{BlockMeans, ProbeArm};
pub use speed::{ArmSpeed, EncoderFit, OpenSpeed, Speed, speed_up};

//! The report of a job: how much faster is each arm, at which quality, on the same hardware, and does it change the
//! spread over seeds?
//!
//! [`report`] is a pure function of [`Facts`]. The order of the trials in the facts has no influence on the report. The
//! crate has no clock and no I/O.
//!
//! | module | content |
//! |---|---|
//! | `facts` | What a report is computed from. |
//! | `compute`, `content` | The function that computes a report, and the [`Report`] itself. |
//! | `speed` | Time per step from the timing trial, and the saving that layer drop allows in closed form. |
//! | `pretrain`, `probe` | Validation losses over seeds; what each block of a checkpoint contributes. |
//! | `glue` | Scores on the GLUE tasks over seeds, and the selection of a learning rate. |
//! | `comparison`, `effects` | An arm against another one; the effects of layer drop and norm. |
//! | `rules`, `verdict`, `answer` | When a question counts as answered; the verdict on each; the verdicts in a sentence. |
//! | `power` | What a job can tell, before it runs. |
//! | `notes` | Sentences about what is missing, rests on few values or was left out. |
//! | `document` | The report as Markdown, LaTeX, CSV and HTML. |
//! | [`statistics`] | Intervals and tests for small samples. |
//! | [`submission`] | The files that an arm hands in to the GLUE server. |

mod answer;
mod comparison;
mod compute;
mod content;
mod document;
mod effects;
mod facts;
mod glue;
mod notes;
mod power;
mod pretrain;
mod probe;
mod rules;
mod speed;
pub mod statistics;
pub mod submission;
mod verdict;

pub use answer::Answer;
pub use comparison::{Comparison, Units};
pub use compute::report;
pub use content::Report;
pub use effects::Factor;
pub use facts::{Facts, TrialFacts, TrialStatus};
pub use glue::GlueRow;
pub use power::Power;
pub use rules::{Margins, Preregistration, Rules};
pub use speed::{LEAST_ROUNDS, TimedSpeed, timed_speeds};
pub use verdict::{Outcome, Question, Verdict};

//! Fine-tuning: dev scores over seeds, per GLUE task, arm, kept blocks and learning rate.
//!
//! | module | content |
//! |---|---|
//! | `rows` | One row of runs that differ in nothing but their seeds. |
//! | `selection` | The learning rate of an arm that is selected for reporting. |
//! | `tasks` | All rows of a task, compared with the baseline's. |
//! | `average` | The mean over tasks. |

mod average;
mod rows;
mod selection;
mod tasks;

pub(crate) use average::{GlueAverage, average_pair, averages};
pub(crate) use rows::BEST_OF_COUNTS;
pub use rows::GlueRow;
pub(crate) use selection::{SelectedScore, Selection, selections};
pub(crate) use tasks::{GlueReport, glue};

//! Fine-tuning: the dev scores over seeds, per task, arm, kept blocks and learning rate.
//!
//! | module | content |
//! |---|---|
//! | `rows` | One row of runs that differ in nothing but their seeds. |
//! | `selection` | The learning rate of an arm that is reported. |
//! | `tasks` | The report of a task: its rows, compared with the baseline's. |
//! | `average` | The mean over tasks. |

mod average;
mod rows;
mod selection;
mod tasks;

pub use average::GlueAverage;
pub use rows::{BestOf, GlueArm, GlueScore};
pub use selection::{Selected, selected};
pub use tasks::GlueReport;

pub(crate) use average::averages;
pub(crate) use rows::BEST_OF;
pub(crate) use tasks::glue;

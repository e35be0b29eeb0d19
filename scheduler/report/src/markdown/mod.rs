//! The report as Markdown: tables that can go into the draft of a paper, each with a legend.
//!
//! | module | content |
//! |---|---|
//! | `speed` | Time per step and memory. |
//! | `pretrain` | Validation losses, and the effects of layer drop and norm. |
//! | `probe` | The contribution of each block. |
//! | `glue` | Scores on the GLUE tasks. |
//! | `table`, `cell` | A table, and numbers as the text of its cells. |

mod cell;
mod glue;
mod pretrain;
mod probe;
mod speed;
mod table;

use crate::content::Report;

impl Report {
    /// The report as Markdown. In the tables scores and shares are percentages.
    pub fn to_markdown(&self) -> String {
        let state = if self.complete { "complete" } else { "not complete yet" };
        let head = format!(
            "Job {}, {state}. Baseline: {}. Brackets hold 95 % intervals; a dash stands for an unknown number.",
            self.job, self.baseline
        );
        let sections = [
            vec![format!("# {}", self.name), head],
            self.speed.as_ref().map(speed::section).unwrap_or_default(),
            pretrain::section(&self.pretrain),
            pretrain::effect_section(&self.effects),
            probe::section(&self.probes),
            glue::section(&self.glue, &self.glue_averages),
            self.notes_section(),
        ];
        // Markdown separates headings, paragraphs and tables by an empty line.
        sections.concat().join("\n\n") + "\n"
    }

    fn notes_section(&self) -> Vec<String> {
        if self.notes.is_empty() {
            return Vec::new();
        }
        let notes: Vec<String> = self.notes.iter().map(|note| format!("- {note}")).collect();
        vec!["## Notes".into(), notes.join("\n")]
    }
}

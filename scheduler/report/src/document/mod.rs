//! The report as a document: sections of text, tables with legends and figures, in several formats.
//!
//! | module | content |
//! |---|---|
//! | `answer` | The sentence of the job, the verdicts, and what was fixed at submission. |
//! | `speed` | Time per step and memory. |
//! | `pretrain` | Validation losses, and the effects of layer drop and norm. |
//! | `probe` | The contribution of each block. |
//! | `glue` | Scores on the GLUE tasks. |
//! | `part`, `table`, `cell`, `figure` | What a section is made of. |
//! | `markdown`, `latex`, `csv`, `html` | What a document is written as. |

mod answer;
mod cell;
mod csv;
mod figure;
mod glue;
mod html;
mod latex;
mod markdown;
mod part;
mod pretrain;
mod probe;
mod speed;
mod table;

use part::Part;

use crate::content::Report;

impl Report {
    /// The report as Markdown, whose tables can be read as plain text. In the tables scores and shares are percentages.
    pub fn to_markdown(&self) -> String {
        markdown::write(&self.name, &self.parts())
    }

    /// The report as LaTeX, for the draft of a paper: tables of booktabs with their legends as captions.
    pub fn to_latex(&self) -> String {
        latex::write(&self.name, &self.parts())
    }

    /// The tables of the report as comma-separated values.
    pub fn to_csv(&self) -> String {
        csv::write(&self.parts())
    }

    /// The report as one HTML page with figures, which needs nothing else.
    pub fn to_html(&self) -> String {
        html::write(&self.name, &self.parts())
    }

    fn parts(&self) -> Vec<Part> {
        let state = if self.complete { "complete" } else { "not complete yet" };
        let head = format!(
            "Job {}, {state}. Baseline: {}. Brackets hold 95 % intervals; a dash stands for an unknown number.",
            self.job, self.baseline
        );
        let sections = [
            Vec::from_iter(self.sentence.clone().map(Part::from)),
            vec![head.into()],
            answer::section(&self.answers, &self.rules, self.preregistration.questions),
            self.speed.as_ref().map(speed::section).unwrap_or_default(),
            pretrain::section(&self.pretrain),
            pretrain::effect_section(&self.effects),
            probe::section(&self.probes),
            glue::section(&self.glue, &self.glue_averages),
            self.notes_section(),
            answer::preregistration_section(&self.preregistration, &self.rules),
        ];
        sections.into_iter().flatten().collect()
    }

    fn notes_section(&self) -> Vec<Part> {
        if self.notes.is_empty() {
            return Vec::new();
        }
        vec![Part::heading("Notes"), Part::List(self.notes.clone())]
    }
}

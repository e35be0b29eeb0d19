//! The formats of a report, in the API and on the command line.

use clap::ValueEnum;
use report::Report;
use serde::Deserialize;
use utoipa::ToSchema;

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// All digits of every number.
    Json,
    /// Tables that can be read as plain text.
    Markdown,
    /// Tables of the package booktabs, for the draft of a paper.
    Latex,
    /// The tables alone.
    Csv,
    /// One page with figures, which needs nothing else.
    Html,
}

impl Format {
    pub(crate) const ALL: [Self; 5] = [Self::Json, Self::Markdown, Self::Latex, Self::Csv, Self::Html];

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Markdown => "text/markdown; charset=utf-8",
            Self::Latex => "application/x-tex; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Html => "text/html; charset=utf-8",
        }
    }

    /// The media type without its parameters.
    pub(crate) fn essence(self) -> &'static str {
        self.media_type().split(';').next().unwrap_or_default()
    }

    /// What writes a report in this format. JSON is the form in which a report is kept.
    pub(crate) fn writer(self) -> Option<fn(&Report) -> String> {
        match self {
            Self::Json => None,
            Self::Markdown => Some(Report::to_markdown),
            Self::Latex => Some(Report::to_latex),
            Self::Csv => Some(Report::to_csv),
            Self::Html => Some(Report::to_html),
        }
    }

    /// Its name in a query.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Latex => "latex",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }
}

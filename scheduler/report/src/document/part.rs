//! The parts of a report as a document, whatever it is written as.

use super::figure::Figure;
use super::table::{Column, Table};

pub(super) enum Part {
    Heading(String),
    Text(String),
    List(Vec<String>),
    Table(Vec<Column>),
    /// A figure, in formats that can show one.
    Figure(Figure),
}

impl Part {
    pub(super) fn heading(text: impl Into<String>) -> Self {
        Self::Heading(text.into())
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<R> From<Table<'_, R>> for Part {
    fn from(table: Table<'_, R>) -> Self {
        Self::Table(table.columns())
    }
}

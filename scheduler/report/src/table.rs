//! Tables of the report as text.

use std::fmt::Write as _;

/// A Markdown table whose columns are as wide as their widest cell: the first to the left, numbers to the right.
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        // A name may hold what Markdown reads as the end of a cell.
        self.rows.push(cells.map(|cell| cell.replace('|', "\\|")));
    }

    pub(crate) fn write(&self, text: &mut String) {
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(2)
        });
        // Names stand to the left; they come first, and what follows them is numbers.
        let names = self.rows[0]
            .iter()
            .take_while(|header| matches!(header.as_str(), "Task" | "Tasks" | "Arm" | "Against" | "Effect"))
            .count();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let _ =
                    if column < names { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, width) in widths.into_iter().enumerate() {
                    let line = "-".repeat(width);
                    let _ = if column < names { write!(text, "|:{line}-") } else { write!(text, "|-{line}:") };
                }
                text.push_str("|\n");
            }
        }
    }
}

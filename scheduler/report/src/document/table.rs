//! A table, whatever it is written as.

/// A table of `rows`, to which columns are added from left to right.
pub(super) struct Table<'a, R> {
    rows: &'a [R],
    columns: Vec<Column>,
}

/// A column with the text of its cells.
pub(super) struct Column {
    pub(super) align: Align,
    pub(super) head: String,
    pub(super) cells: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

impl<'a, R> Table<'a, R> {
    pub(super) const fn of(rows: &'a [R]) -> Self {
        Self { rows, columns: Vec::new() }
    }

    /// Adds a column of text, aligned to the left.
    pub(super) fn left(self, head: impl Into<String>, cell: impl Fn(&R) -> String) -> Self {
        self.column(Align::Left, head.into(), cell)
    }

    /// Adds a column of numbers, aligned to the right.
    pub(super) fn right(self, head: impl Into<String>, cell: impl Fn(&R) -> String) -> Self {
        self.column(Align::Right, head.into(), cell)
    }

    fn column(mut self, align: Align, head: String, cell: impl Fn(&R) -> String) -> Self {
        self.columns.push(Column { align, head, cells: self.rows.iter().map(cell).collect() });
        self
    }

    pub(super) fn columns(self) -> Vec<Column> {
        self.columns
    }
}

/// The cells of each row of a table.
pub(super) fn rows(columns: &[Column]) -> impl Iterator<Item = Vec<&str>> {
    let count = columns.first().map_or(0, |column| column.cells.len());
    (0..count).map(|row| columns.iter().map(|column| column.cells[row].as_str()).collect())
}

//! A Markdown table.

/// A table of `rows`, to which columns are added from left to right.
pub(super) struct Table<'a, R> {
    rows: &'a [R],
    columns: Vec<Column>,
}

struct Column {
    align: Align,
    head: String,
    cells: Vec<String>,
    width: usize,
}

#[derive(Clone, Copy)]
enum Align {
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
        // Markdown reads a bar as the end of a cell, and the name of an arm may contain one.
        let cells: Vec<String> = self.rows.iter().map(|row| cell(row).replace('|', "\\|")).collect();
        let width = cells.iter().chain([&head]).map(|cell| cell.chars().count()).max().unwrap_or(0).max(2);
        self.columns.push(Column { align, head, cells, width });
        self
    }

    /// The table as lines of equal width, so that it can also be read as plain text.
    pub(super) fn to_text(&self) -> String {
        let line = |cell: &dyn Fn(&Column) -> String| self.columns.iter().map(cell).collect::<String>() + "|";
        let head = line(&|column| column.aligned(&column.head));
        let rule = line(&Column::rule);
        let body = (0..self.rows.len()).map(|row| line(&|column| column.aligned(&column.cells[row])));
        [head, rule].into_iter().chain(body).collect::<Vec<_>>().join("\n")
    }
}

impl Column {
    fn aligned(&self, cell: &str) -> String {
        let width = self.width;
        match self.align {
            Align::Left => format!("| {cell:<width$} "),
            Align::Right => format!("| {cell:>width$} "),
        }
    }

    fn rule(&self) -> String {
        let dashes = "-".repeat(self.width);
        match self.align {
            Align::Left => format!("|:{dashes}-"),
            Align::Right => format!("|-{dashes}:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_left_and_numbers_right_and_bars_are_escaped() {
        let rows = [("pre-ln", 1), ("a|b", 234)];
        let table = Table::of(&rows).left("Arm", |(arm, _)| (*arm).to_owned()).right("n", |(_, n)| n.to_string());
        assert_eq!(table.to_text(), "| Arm    |   n |\n|:-------|----:|\n| pre-ln |   1 |\n| a\\|b   | 234 |");
    }
}

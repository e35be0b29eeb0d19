//! Tables that fit the terminal.

use console::{Alignment, Term, measure_text_width, pad_str, style, truncate_str};

/// Spaces between two columns.
const GAP: usize = 2;
/// A column is not shortened below this width.
const NARROWEST: usize = 8;

/// One column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) heading: String,
    /// True if the cells are aligned to the right.
    pub(super) right: bool,
    /// True if the ends of its cells may be cut off where the table is too wide.
    pub(super) shrinks: bool,
}

/// A column of text, aligned to the left.
pub(super) fn left(heading: &str) -> Column {
    Column { heading: heading.into(), right: false, shrinks: true }
}

/// A column of text that users copy, such as ids: aligned to the left and never cut off.
pub(super) fn whole(heading: &str) -> Column {
    Column { shrinks: false, ..left(heading) }
}

/// A column of numbers: aligned to the right and never cut off, because a number without its end is another number.
pub(super) fn right(heading: &str) -> Column {
    Column { heading: heading.into(), right: true, shrinks: false }
}

/// The width of the terminal. A pipe or a file has no limit.
pub(super) fn terminal_width() -> usize {
    Term::stdout().size_checked().map_or(usize::MAX, |(_, columns)| usize::from(columns))
}

/// The table as text with lines of at most `width` characters: as long as it is too wide, its widest column is
/// shortened.
pub(super) fn lay_out(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let widths = fit(columns, rows, width);
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, column), width) in cells.zip(columns).zip(&widths) {
            let cell = truncate_str(cell, *width, "…");
            let alignment = if column.right { Alignment::Right } else { Alignment::Left };
            text.push_str(&pad_str(&cell, *width, alignment, None));
            text.push_str(&" ".repeat(GAP));
        }
        text.trim_end().to_owned()
    };
    let mut text = style(line(&mut columns.iter().map(|column| column.heading.as_str()))).dim().to_string();
    for row in rows {
        text.push('\n');
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

fn fit(columns: &[Column], rows: &[Vec<String>], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| measure_text_width(cell));
            cells.chain([measure_text_width(&column.heading)]).max().unwrap_or(0)
        })
        .collect();
    let gaps = GAP * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let widest = (0..widths.len()).filter(|index| columns[*index].shrinks).max_by_key(|index| widths[*index]);
        match widest {
            Some(index) if widths[index] > NARROWEST => widths[index] -= 1,
            _ => break,
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["pre-ln", "1.00"], ["progressive layer dropping", "12.5"]].map(|row| row.map(String::from).to_vec()).to_vec()
    }

    #[test]
    fn text_is_aligned_to_the_left_and_numbers_to_the_right() {
        let text = lay_out(&[left("arm"), right("ratio")], &rows(), 80);
        let plain = console::strip_ansi_codes(&text).into_owned();
        let expected =
            "arm                         ratio\npre-ln                       1.00\nprogressive layer dropping   12.5";
        assert_eq!(plain, expected);
    }

    #[test]
    fn a_table_that_is_too_wide_loses_text_but_no_digits() {
        let text = lay_out(&[left("arm"), right("ratio")], &rows(), 20);
        let plain = console::strip_ansi_codes(&text).into_owned();
        assert!(plain.lines().all(|line| measure_text_width(line) <= 20), "{plain}");
        assert!(plain.contains("progressive …") && plain.contains("12.5"), "{plain}");
    }
}

//! A document as Markdown, whose tables can also be read as plain text.

use super::part::Part;
use super::table::{Align, Column, rows};

/// `title` and `parts`, separated by empty lines as Markdown has it.
pub(super) fn write(title: &str, parts: &[Part]) -> String {
    let blocks = parts.iter().filter_map(|part| match part {
        Part::Heading(text) => Some(format!("## {text}")),
        Part::Text(text) => Some(text.clone()),
        Part::List(items) => Some(items.iter().map(|item| format!("- {item}")).collect::<Vec<_>>().join("\n")),
        Part::Table(columns) => Some(table(columns)),
        Part::Figure(_) => None,
    });
    std::iter::once(format!("# {title}")).chain(blocks).collect::<Vec<String>>().join("\n\n") + "\n"
}

/// A table as lines of equal width.
fn table(columns: &[Column]) -> String {
    // Markdown reads a bar as the end of a cell, and the name of an arm may contain one.
    let escaped = |cell: &str| cell.replace('|', "\\|");
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| {
            let cells = column.cells.iter().map(|cell| escaped(cell)).chain([column.head.clone()]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(2)
        })
        .collect();
    let line = |cells: Vec<String>| {
        let cells = cells.into_iter().zip(columns).zip(&widths).map(|((cell, column), &width)| match column.align {
            Align::Left => format!("| {cell:<width$} "),
            Align::Right => format!("| {cell:>width$} "),
        });
        cells.collect::<String>() + "|"
    };
    let rule = columns.iter().zip(&widths).map(|(column, width)| {
        let dashes = "-".repeat(*width);
        match column.align {
            Align::Left => format!("|:{dashes}-"),
            Align::Right => format!("|-{dashes}:"),
        }
    });
    let head = line(columns.iter().map(|column| column.head.clone()).collect());
    let body = rows(columns).map(|cells| line(cells.into_iter().map(escaped).collect()));
    [head, rule.collect::<String>() + "|"].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    #[test]
    fn text_is_aligned_left_and_numbers_right_and_bars_are_escaped() {
        let rows = [("pre-ln", 1), ("a|b", 234)];
        let columns = Table::of(&rows).left("Arm", |(arm, _)| (*arm).to_owned()).right("n", |(_, n)| n.to_string());
        let text = table(&columns.columns());
        assert_eq!(text, "| Arm    |   n |\n|:-------|----:|\n| pre-ln |   1 |\n| a\\|b   | 234 |");
    }
}

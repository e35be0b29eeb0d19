//! Tables that fit the terminal.

use console::{Alignment, measure_text_width, pad_str, style, truncate_str};

use crate::terminal::printable;

/// Spaces between two columns.
const GAP: usize = 2;
/// A column of text is not shortened below this width, unless it says so.
const NARROWEST: usize = 12;

/// One column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    heading: String,
    /// True if the cells are aligned to the right.
    right: bool,
    /// Where the table is too wide, the middle of the longest cells is cut out, down to this width.
    least: usize,
    /// Where that is not enough, columns are left out in this order; `None` for a column that is always there.
    leaves: Option<u8>,
}

/// A column of text, aligned to the left.
pub(super) fn left(heading: &str) -> Column {
    Column { heading: heading.into(), right: false, least: NARROWEST, leaves: None }
}

/// A column of text that users copy, such as ids: aligned to the left and never shortened.
pub(super) fn whole(heading: &str) -> Column {
    left(heading).at_least(usize::MAX)
}

/// A column of numbers: aligned to the right and never shortened, because a number without its end is another number.
pub(super) fn right(heading: &str) -> Column {
    Column { right: true, ..whole(heading) }
}

impl Column {
    pub(super) fn at_least(self, width: usize) -> Self {
        Self { least: width, ..self }
    }

    /// Leaves the column out of a table that is too wide, after all columns with a smaller `place`.
    pub(super) fn leaves(self, place: u8) -> Self {
        Self { leaves: Some(place), ..self }
    }
}

/// A column with its cells.
struct Filled<'a> {
    column: &'a Column,
    cells: Vec<String>,
    /// The width of the heading or the longest cell.
    width: usize,
}

impl<'a> Filled<'a> {
    fn new(column: &'a Column, index: usize, rows: &[Vec<String>]) -> Self {
        let cell = |row: &Vec<String>| row.get(index).map(|cell| printable(cell)).unwrap_or_default();
        let cells: Vec<String> = rows.iter().map(cell).collect();
        let widths = cells.iter().map(|cell| measure_text_width(cell));
        let width = widths.chain([measure_text_width(&column.heading)]).max().unwrap_or(0);
        Self { column, cells, width }
    }

    fn least(&self) -> usize {
        self.width.min(self.column.least).max(measure_text_width(&self.column.heading))
    }
}

/// The table as text with lines of at most `width` columns of a terminal.
///
/// Where it is too wide, columns are shortened, then left out. If it is still too wide, it is set in parts, each of which
/// repeats the names at the beginning of its rows.
pub(super) fn lay_out(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let mut table: Vec<Filled> = columns.iter().enumerate().map(|(i, column)| Filled::new(column, i, rows)).collect();
    let left_out = leave_out(&mut table, width);
    let mut text =
        parts(&table, width).iter().map(|part| set(part, rows.len(), width)).collect::<Vec<_>>().join("\n\n");
    if !left_out.is_empty() {
        let hint = format!("not shown for lack of width: {}; `| less -S` shows all", left_out.join(", "));
        text.push_str(&format!("\n\n{}", style(hint).dim()));
    }
    text
}

fn least_width<'a>(columns: impl Iterator<Item = &'a Filled<'a>>) -> usize {
    columns.map(|column| column.least() + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Removes columns until the table can be made to fit, and returns their headings in the order of the table.
fn leave_out<'a>(table: &mut Vec<Filled<'a>>, width: usize) -> Vec<&'a str> {
    let all: Vec<&str> = table.iter().map(|filled| filled.column.heading.as_str()).collect();
    while least_width(table.iter()) > width {
        let next = table.iter().enumerate().filter_map(|(index, filled)| Some((filled.column.leaves?, index))).min();
        let Some((_, index)) = next else { break };
        table.remove(index);
    }
    let is_there = |heading: &&str| table.iter().any(|filled| filled.column.heading == **heading);
    all.into_iter().filter(|heading| !is_there(heading)).collect()
}

/// The columns of each part: the names of the rows, which are the columns of text at the beginning, and as many others as
/// fit beside them.
fn parts<'t, 'a>(table: &'t [Filled<'a>], width: usize) -> Vec<Vec<&'t Filled<'a>>> {
    let names = table.iter().take_while(|filled| !filled.column.right).count();
    // A table of text alone has one column of names.
    let names = if names == table.len() { names.min(1) } else { names };
    let (names, others) = table.split_at(names);
    let mut parts: Vec<Vec<&Filled>> = vec![names.iter().collect()];
    for column in others {
        let has_others = parts.last().is_some_and(|part| part.len() > names.len());
        let part = parts.last().into_iter().flatten().copied();
        if has_others && least_width(part.chain([column])) > width {
            parts.push(names.iter().collect());
        }
        parts.last_mut().into_iter().for_each(|part| part.push(column));
    }
    parts
}

fn set(columns: &[&Filled], rows: usize, width: usize) -> String {
    let widths = fit(columns, width);
    let line = |cell: &dyn Fn(&Filled) -> String| {
        let mut text = String::new();
        for (filled, width) in columns.iter().zip(&widths) {
            let alignment = if filled.column.right { Alignment::Right } else { Alignment::Left };
            text.push_str(&pad_str(&shortened(&cell(filled), *width), *width, alignment, None));
            text.push_str(&" ".repeat(GAP));
        }
        text.trim_end().to_owned()
    };
    let mut text = style(line(&|filled| filled.column.heading.clone())).dim().to_string();
    for row in 0..rows {
        text.push('\n');
        text.push_str(&line(&|filled| filled.cells[row].clone()));
    }
    text
}

/// The widths of the columns: as long as they are too wide in all, the widest that may be shortened is.
fn fit(columns: &[&Filled], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let gaps = GAP * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let shrinkable = (0..widths.len()).filter(|index| widths[*index] > columns[*index].least());
        let Some(widest) = shrinkable.max_by_key(|index| widths[*index]) else { break };
        widths[widest] -= 1;
    }
    widths
}

/// The text in at most `width` columns of a terminal. Its middle is cut out, because names of arms often differ in their
/// ends.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let tail_width = width.saturating_sub(1) / 3;
    let head = truncate_str(text, width.saturating_sub(1 + tail_width), "");
    let starts = text.char_indices().rev().map(|(start, _)| start);
    let tail = starts.take_while(|start| measure_text_width(&text[*start..]) <= tail_width).last();
    format!("{head}…{}", tail.map_or("", |start| &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["pre-ln", "1.00"], ["progressive layer dropping", "12.5"]].map(|row| row.map(String::from).to_vec()).to_vec()
    }

    fn plain(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
        console::strip_ansi_codes(&lay_out(columns, rows, width)).into_owned()
    }

    fn fits(text: &str, width: usize) {
        assert!(text.lines().all(|line| measure_text_width(line) <= width), "wider than {width}:\n{text}");
    }

    #[test]
    fn text_is_aligned_to_the_left_and_numbers_to_the_right() {
        let expected =
            "arm                         ratio\npre-ln                       1.00\nprogressive layer dropping   12.5";
        assert_eq!(plain(&[left("arm"), right("ratio")], &rows(), 80), expected);
    }

    #[test]
    fn a_table_that_is_too_wide_loses_text_but_no_digits() {
        let text = plain(&[left("arm"), right("ratio")], &rows(), 22);
        fits(&text, 22);
        assert!(text.contains("progressiv…ping") && text.contains("12.5"), "{text}");
    }

    #[test]
    fn columns_leave_in_their_order_and_ids_stay_whole() {
        let id = "01a2237e-487a-7500-a26d-a2bd11fbc5d1";
        let columns = [whole("job"), left("name").at_least(20), right("done").leaves(2), left("arms").leaves(1)];
        let rows = [vec![id.into(), "名前".repeat(16), "50 %".into(), "pre-ln, pld".repeat(35)]];
        let text = plain(&columns, &rows, 80);
        fits(&text, 80);
        assert!(text.contains(id) && text.contains("50 %") && text.contains("arm"), "{text}");
        let text = plain(&columns, &rows, 62);
        fits(&text, 62);
        assert!(text.contains(id) && !text.contains("50 %"), "{text}");
        assert!(text.ends_with("not shown for lack of width: done, arms; `| less -S` shows all"), "{text}");
        let text = plain(&columns, &rows, usize::MAX);
        assert!(text.contains(&rows[0][3]) && text.contains(&rows[0][1]), "a pipe loses nothing: {text}");
    }

    #[test]
    fn a_table_of_many_numbers_is_set_in_parts_with_the_names_repeated() {
        let columns: Vec<Column> =
            [left("Task"), left("Arm")].into_iter().chain((0..9).map(|n| right(&format!("number {n}")))).collect();
        let row = |arm: String| [vec!["rte".into(), arm], (0..9).map(|n| format!("{n}.25")).collect()].concat();
        let rows: Vec<Vec<String>> = (0..35).map(|n| row(format!("{}-{n:02}", "x".repeat(61)))).collect();
        let text = plain(&columns, &rows, 80);
        fits(&text, 80);
        assert!((0..9).all(|n| text.matches(&format!("{n}.25")).count() == 35), "no number is lost: {text}");
        assert_eq!(text.matches("-17").count(), 2, "{text}");
    }

    #[test]
    fn a_cell_is_one_line_and_does_not_act_on_the_terminal() {
        let text = plain(&[left("reason"), right("n")], &[vec!["a\nb\u{1b}[2Jc\u{7}".into(), "1".into()]], 80);
        assert_eq!(text.lines().nth(1), Some("a bc\u{fffd}   1"));
    }

    #[test]
    fn a_shortened_name_keeps_both_ends_and_counts_wide_characters_twice() {
        assert_eq!(shortened("theta-limit-0.5", 15), "theta-limit-0.5");
        assert_eq!(shortened("theta-limit-0.5", 10), "theta-…0.5");
        for width in 0..20 {
            assert!(measure_text_width(&shortened("名前の長い仕事 🚀", width)) <= width.max(1));
        }
    }
}

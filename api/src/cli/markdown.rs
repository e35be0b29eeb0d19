//! Markdown for a terminal. Only the parts that reports contain are laid out: headings, paragraphs, lists and tables.

use console::{measure_text_width, style};

use super::table::{Column, lay_out, left, right};
use crate::terminal::printable;

/// Lays `text` out in at most `width` terminal columns.
pub(super) fn render(text: &str, width: usize) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(columns) = lines.peek().and_then(|rule| table_head(line, rule)) {
            lines.next();
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.trim_start().starts_with('|')) {
                rows.push(cells(row));
            }
            out.push(lay_out(&columns, &rows, width));
            continue;
        }
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            out.push(style(printable(&inline(heading.trim()))).bold().to_string());
            continue;
        }
        let indent = match line.trim_start() {
            item if item.starts_with("- ") => line.len() - item.len() + 2,
            rest => line.len() - rest.len(),
        };
        out.push(wrap(&printable(&inline(line)), indent, width));
    }
    out.join("\n").trim_end().to_owned()
}

/// The columns of a table with the header `head`, if `rule` is the line of dashes that follows a header.
fn table_head(head: &str, rule: &str) -> Option<Vec<Column>> {
    let (head, rule) = (head.trim(), rule.trim());
    let is_rule = rule.starts_with('|') && rule.contains("--") && rule.chars().all(|c| "|-: ".contains(c));
    if !(head.starts_with('|') && is_rule) {
        return None;
    }
    let columns = cells(head).into_iter().zip(cells(rule));
    let column = |(heading, rule): (String, String)| match rule.ends_with(':') && !rule.starts_with(':') {
        true => right(&heading),
        false => left(&heading),
    };
    Some(columns.map(column).collect())
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let row = row.strip_suffix('|').unwrap_or(row);
    // A bar inside a cell is escaped in the Markdown, so a control character stands for it while the row is split.
    row.replace("\\|", "\u{1}").split('|').map(|cell| inline(&cell.replace('\u{1}', "|")).trim().to_owned()).collect()
}

/// The text without the marks for bold text and code.
fn inline(text: &str) -> String {
    text.replace("**", "").replace('`', "")
}

/// Breaks the text between words into lines of at most `width` columns. All but the first start with `indent` spaces.
pub(super) fn wrap(text: &str, indent: usize, width: usize) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_inclusive(' ') {
        let length = measure_text_width(word.trim_end());
        if column > indent && column + length > width {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        }
        out.push_str(word);
        column += measure_text_width(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str, width: usize) -> String {
        console::strip_ansi_codes(&render(text, width)).into_owned()
    }

    #[test]
    fn a_table_is_aligned_according_to_its_rule() {
        let text = "## Speed\n\n| arm | ratio |\n|---|---:|\n| `pre-ln` | 1.00 |\n| **pld** | 0.71 |\n\nEnd.";
        assert_eq!(plain(text, 80), "Speed\n\narm     ratio\npre-ln   1.00\npld      0.71\n\nEnd.");
    }

    #[test]
    fn an_escaped_bar_stays_in_its_cell() {
        assert_eq!(cells(r"| a \| b | c |"), ["a | b", "c"]);
    }

    #[test]
    fn a_wrapped_line_keeps_the_indent_of_its_text() {
        assert_eq!(plain("- one two three four", 12), "- one two\n  three four");
        assert_eq!(plain("one two three", 8), "one two\nthree");
    }

    #[test]
    fn a_line_of_dashes_below_text_does_not_make_a_table() {
        assert_eq!(plain("a | b\n--\nc", 80), "a | b\n--\nc");
    }
}

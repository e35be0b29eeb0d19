//! The tables of a document as comma-separated values (RFC 4180).

use super::part::Part;
use super::table::{Column, rows};

/// One record per row of a table: the name of the table, then the cells. Each table begins with its header, and an empty
/// line separates it from the one before. An interval takes two columns more, `low` and `high`, so that every number
/// stands alone.
pub(super) fn write(parts: &[Part]) -> String {
    let mut heading = "";
    let mut tables = Vec::new();
    for part in parts {
        match part {
            Part::Heading(text) => heading = text,
            Part::Table(columns) => tables.push(table(heading, columns)),
            Part::Text(_) | Part::List(_) | Part::Figure(_) => {}
        }
    }
    tables.join("\r\n")
}

fn table(name: &str, columns: &[Column]) -> String {
    // A column has intervals if one of its cells does.
    let has_interval: Vec<bool> =
        columns.iter().map(|column| column.cells.iter().any(|cell| interval(cell).is_some())).collect();
    let head = columns.iter().zip(&has_interval).flat_map(|(column, has_interval)| {
        let ends = has_interval.then(|| ["low", "high"].map(|end| format!("{}, {end}", column.head)));
        std::iter::once(column.head.clone()).chain(ends.into_iter().flatten())
    });
    let mut lines = vec![record(std::iter::once("Table".to_owned()).chain(head))];
    for cells in rows(columns) {
        let cells = cells.into_iter().zip(&has_interval).flat_map(|(cell, has_interval)| match interval(cell) {
            Some(parts) => parts.map(str::to_owned).to_vec(),
            None if *has_interval => vec![cell.to_owned(), String::new(), String::new()],
            None => vec![cell.to_owned()],
        });
        lines.push(record(std::iter::once(name.to_owned()).chain(cells)));
    }
    lines.concat()
}

/// Value, low and high of a cell such as `1.25x [1.24, 1.27]`.
fn interval(cell: &str) -> Option<[&str; 3]> {
    let (value, ends) = cell.strip_suffix(']')?.split_once(" [")?;
    let (low, high) = ends.split_once(", ")?;
    Some([value, low, high])
}

fn record(cells: impl Iterator<Item = String>) -> String {
    let cells = cells.map(|cell| {
        // A dash stands for an unknown number, which an empty field says as well.
        let cell = if cell == "–" { String::new() } else { cell };
        // A ratio is a number without its sign.
        let cell = if is_number(&cell) { cell.trim_end_matches('x').to_owned() } else { cell };
        // A spreadsheet would run a name that begins like a formula.
        let is_formula = cell.starts_with(['=', '@']) || (cell.starts_with(['+', '-']) && !is_number(&cell));
        let cell = if is_formula { format!("'{cell}") } else { cell };
        let is_plain = !cell.contains([',', '"', '\n', '\r']);
        if is_plain { cell } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
    });
    cells.collect::<Vec<String>>().join(",") + "\r\n"
}

fn is_number(cell: &str) -> bool {
    cell.trim_end_matches('x').parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    #[test]
    fn intervals_take_columns_and_names_cannot_act_as_formulas() {
        let rows = [("=1+1, \"x\"", "1.25x [1.24, 1.27]"), ("+pld", "–"), ("-1.5", "-0.1 [-0.2, 0.0]")];
        let table = Table::of(&rows).left("Arm", |row| row.0.to_owned()).right("Speed-up", |row| row.1.to_owned());
        let text = write(&[Part::heading("Speed"), table.into()]);
        let expected = "Table,Arm,Speed-up,\"Speed-up, low\",\"Speed-up, high\"\r\nSpeed,\"'=1+1, \"\"x\"\"\",1.25,1.24,1.27\r\n\
                        Speed,'+pld,,,\r\nSpeed,-1.5,-0.1,-0.2,0.0\r\n";
        assert_eq!(text, expected);
    }
}

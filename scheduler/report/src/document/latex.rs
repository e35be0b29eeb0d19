//! A document as LaTeX: tables of the package booktabs, each with its legend as caption.

use super::part::Part;
use super::table::{Align, Column, rows};

/// A part of a document that an article includes with `\\input`. It needs the packages booktabs and graphicx.
pub(super) fn write(title: &str, parts: &[Part]) -> String {
    let mut out =
        vec![format!("% {}\n% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.", title.replace('\n', " "))];
    // The text before a table is its legend.
    let mut legend: Option<&str> = None;
    for part in parts {
        if !matches!(part, Part::Table(_)) {
            out.extend(legend.take().map(escaped));
        }
        match part {
            Part::Heading(text) => out.push(format!("\\subsection*{{{}}}", escaped(text))),
            Part::Text(text) => legend = Some(text),
            Part::List(items) => out.push(list(items)),
            Part::Table(columns) => out.push(table(columns, legend.take().unwrap_or_default())),
            Part::Figure(_) => {}
        }
    }
    out.extend(legend.map(escaped));
    out.join("\n\n") + "\n"
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("  \\item {}\n", escaped(item))).collect();
    format!("\\begin{{itemize}}\n{items}\\end{{itemize}}")
}

fn table(columns: &[Column], legend: &str) -> String {
    let line = |cells: Vec<String>| format!("    {} \\\\\n", cells.join(" & "));
    let aligned: String = columns.iter().map(|column| if column.align == Align::Left { 'l' } else { 'r' }).collect();
    let head = line(columns.iter().map(|column| escaped(&column.head)).collect());
    let body: String = rows(columns).map(|cells| line(cells.into_iter().map(escaped).collect())).collect();
    format!(
        "\\begin{{table}}\n  \\caption{{{}}}\n  \\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n  \
         \\begin{{tabular}}{{{aligned}}}\n    \\toprule\n{head}    \\midrule\n{body}    \\bottomrule\n  \\end{{tabular}}}}\n\
         \\end{{table}}",
        escaped(legend)
    )
}

/// The text with the characters that LaTeX would act on written out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            '–' => out.push_str("--"),
            // A bracket at the start of a line would be the argument of the line break before it.
            '[' => out.push_str("{[}"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    #[test]
    fn a_table_has_its_legend_as_caption_and_names_cannot_act() {
        let rows = [("a_b & \\input{x}", "90 %")];
        let table = Table::of(&rows).left("Arm", |row| row.0.to_owned()).right("Share", |row| row.1.to_owned());
        let text = write("job", &[Part::heading("Speed"), "In %.".into(), table.into(), "End.".into()]);
        for part in [
            "\\subsection*{Speed}",
            "\\caption{In \\%.}",
            "\\begin{tabular}{lr}",
            "a\\_b \\& \\textbackslash{}input\\{x\\} & 90 \\% \\\\",
            "\\bottomrule",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with("End.\n"), "{text}");
    }
}

//! A document as one HTML page that needs nothing else: no script, no font, no other file.

use super::part::Part;
use super::table::{Align, Column, rows};

/// The look of the page, on a screen, in dark rooms and on paper.
const STYLE: &str = include_str!("style.css");

/// A page with `title`, whose first text is the answer of the job.
pub(super) fn write(title: &str, parts: &[Part]) -> String {
    let title = escaped(title);
    let mut answer = true;
    let blocks = parts.iter().map(|part| match part {
        Part::Heading(text) => format!("<h2>{}</h2>", escaped(text)),
        Part::Text(text) if std::mem::take(&mut answer) => format!("<p class=\"answer\">{}</p>", escaped(text)),
        Part::Text(text) => format!("<p>{}</p>", escaped(text)),
        Part::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
            format!("<ul>{items}</ul>")
        }
        Part::Table(columns) => table(columns),
        Part::Figure(figure) => figure.to_svg().map_or_else(String::new, |svg| {
            format!("<figure>{svg}<figcaption>{}</figcaption></figure>", escaped(&figure.title))
        }),
    });
    let body = blocks.collect::<Vec<String>>().join("\n");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
}

fn table(columns: &[Column]) -> String {
    let cell = |tag: &str, column: &Column, text: &str| {
        let class = if column.align == Align::Right { " class=\"number\"" } else { "" };
        format!("<{tag}{class}>{}</{tag}>", escaped(text))
    };
    let head: String = columns.iter().map(|column| cell("th", column, &column.head)).collect();
    let body = rows(columns).map(|cells| {
        let cells: String = cells.into_iter().zip(columns).map(|(text, column)| cell("td", column, text)).collect();
        format!("<tr>{cells}</tr>")
    });
    let body = body.collect::<Vec<String>>().join("\n");
    format!("<div class=\"table\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>")
}

/// The text with the characters that HTML would act on written out.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_act_and_the_first_text_is_the_answer() {
        let text = write("<script>", &["a < b".into(), "c".into()]);
        assert!(text.contains("<h1>&lt;script&gt;</h1>") && !text.contains("<script"), "{text}");
        assert!(text.contains("<p class=\"answer\">a &lt; b</p>\n<p>c</p>"), "{text}");
    }
}

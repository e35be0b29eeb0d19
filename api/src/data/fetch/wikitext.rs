//! Turns a file of WikiText into a corpus: one paragraph per line, a blank line between documents.
//!
//! A file of WikiText has a paragraph per line, and titles such as ` = Title = ` and headings such as ` = = Section = = `
//! on lines of their own between blank ones. What becomes of it:
//!
//! * Each article is a document. A title begins one; titles and headings themselves are left out, as in BERT's own corpus.
//! * A hyphen, comma or full stop inside a word or number loses the marks around it: ` @-@ ` becomes `-`, ` @,@ ` becomes
//!   `,`, ` @.@ ` becomes `.`.
//! * Spaces around other punctuation stay. WordPiece splits at punctuation first, so they change no token.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Result, ensure};
use texts::corpus::MOST_LINE_BYTES;
use texts::lines::Lines;

/// What a corpus has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) articles: usize,
    pub(super) paragraphs: usize,
}

/// Writes the articles of `raw` to `out`. `path` is for error messages.
///
/// # Errors
/// A failed read or write, a line that is too long or not UTF-8, and a file without a single article.
pub(super) fn convert(path: &Path, raw: impl BufRead, out: &mut impl Write) -> Result<Summary> {
    let mut lines = Lines::new(path, raw, MOST_LINE_BYTES);
    let mut writer = Writer { out, summary: Summary { articles: 0, paragraphs: 0 }, begins_article: true };
    let (mut after_blank, mut heading) = (true, None);
    while let Some(line) = lines.next()? {
        let line = line.trim();
        // Only a line between two blank ones is a heading: a paragraph may begin and end with a sign of equality, too.
        if let Some((level, text)) = heading.take() {
            match (line.is_empty(), level) {
                (true, 1) => writer.begins_article = true,
                (true, _) => {}
                (false, _) => writer.paragraph(text)?,
            }
        }
        if !line.is_empty() {
            match level(line) {
                Some(level) if after_blank => heading = Some((level, line.to_owned())),
                _ => writer.paragraph(line.to_owned())?,
            }
        }
        after_blank = line.is_empty();
    }
    ensure!(writer.summary.articles > 0, "{} has no paragraph: it is not a file of WikiText", path.display());
    Ok(writer.summary)
}

struct Writer<'a, W> {
    out: &'a mut W,
    summary: Summary,
    /// True if the next paragraph is the first of its article, so that an article without one is no document.
    begins_article: bool,
}

impl<W: Write> Writer<'_, W> {
    fn paragraph(&mut self, mut text: String) -> Result<()> {
        if self.begins_article {
            if self.summary.articles > 0 {
                writeln!(self.out)?;
            }
            self.summary.articles += 1;
            self.begins_article = false;
        }
        for (mark, sign) in [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")] {
            if text.contains(mark) {
                text = text.replace(mark, sign);
            }
        }
        writeln!(self.out, "{text}")?;
        self.summary.paragraphs += 1;
        Ok(())
    }
}

/// The level of a heading: 1 for `= Title =`, 2 for `= = Section = =`. A title may have signs of equality of its own.
fn level(line: &str) -> Option<usize> {
    let (mut inner, mut level) = (line, 0);
    while let Some(rest) = inner.strip_prefix("= ").and_then(|rest| rest.strip_suffix(" =")) {
        (inner, level) = (rest, level + 1);
    }
    (level > 0 && !inner.trim_matches(['=', ' ']).is_empty()).then_some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(raw: &str) -> (String, Summary) {
        let mut out = Vec::new();
        let summary = convert(Path::new("wiki.train.raw"), raw.as_bytes(), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), summary)
    }

    /// The form of a published file: a space at both ends of each line, and blank lines that are not empty.
    const SAMPLE: &str = " \n = Gold dollar = \n \n The gold dollar or gold one @-@ dollar piece was a coin . \n It had \
                          90 @.@ 0 % gold , and 2 @,@ 000 @,@ 000 were made . \n \n \n = = Origin = = \n \n = = = 1849 \
                          = = = \n \n It was called \" small \" . \n \n = E = mc ² = \n \n The formula is : \n = m c ² \
                          = \n as is known . \n \n = Empty = \n \n \n = Last = \n \n One 24 @-@ hour @-@ day . \n";

    #[test]
    fn an_article_is_a_document_and_a_paragraph_a_line() {
        let (text, summary) = converted(SAMPLE);
        let expected = "The gold dollar or gold one-dollar piece was a coin .\nIt had 90.0 % gold , and 2,000,000 were \
                        made .\nIt was called \" small \" .\n\nThe formula is :\n= m c ² =\nas is known .\n\nOne \
                        24-hour-day .\n";
        assert_eq!(text, expected);
        assert_eq!(summary, Summary { articles: 3, paragraphs: 7 });
    }

    #[test]
    fn the_corpus_can_be_registered() {
        use scheduler::dataset::{DatasetKind, Roots, scan};

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wikitext.txt");
        std::fs::write(&file, converted(SAMPLE).0).unwrap();
        let roots = Roots::open([folder.path().to_owned()]).unwrap();
        scan(&roots, DatasetKind::Corpus, "wikitext", &file, &scheduler::work::Stop::never()).unwrap();
    }

    #[test]
    fn the_level_of_a_heading_is_the_number_of_its_marks() {
        for (line, expected) in [
            ("= Title =", Some(1)),
            ("= = Section = =", Some(2)),
            ("= = = Sinclair = = =", Some(3)),
            ("= a = b =", Some(1)),
            ("= =", None),
            ("= = =", None),
            ("= open", None),
            ("a = b", None),
        ] {
            assert_eq!(level(line), expected, "{line}");
        }
    }

    #[test]
    fn a_file_without_a_paragraph_is_refused() {
        let error = convert(Path::new("a.raw"), &b" \n = Title = \n"[..], &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("not a file of WikiText"), "{error}");
    }
}

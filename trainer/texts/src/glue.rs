//! GLUE in its official layout: one folder per task, with `train.tsv`, a dev file and test files without labels.
//!
//! Only TAB separates fields: a quote is a character like any other. MRPC starts with a byte-order mark, CoLA has no
//! header, and the columns of MNLI's train and dev files differ, so columns are found by name.

use std::io::{BufReader, Read};
use std::path::Path;

use recipe::task::{Column, Row, Target, TestSet};

use crate::TextError;
use crate::lines::Lines;

/// Longest line of a TSV file in bytes. The longest of the official files, in QNLI, has some thousand.
pub const MOST_LINE_BYTES: usize = 1 << 20;
/// Least number of training examples: with fewer, a share cannot be set apart and leave something to train on.
pub const LEAST_TRAIN: u64 = 2;
/// Longest text of a file that a message repeats, in characters.
const MOST_SHOWN: usize = 80;

/// One line of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record<'a> {
    pub first: &'a str,
    /// The second text of a pair.
    pub second: Option<&'a str>,
    /// Class number, or the score of a regression task; 0 in a test file.
    pub label: f32,
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub examples: u64,
    /// Truncated lines that were left out; 0 for every task except QQP.
    pub skipped: u64,
    /// Number of the last line, from 1.
    pub last_line: u64,
}

/// Reads a training or dev file of the task with this `row`, and calls `each` with every example. `path` is for error
/// messages.
///
/// # Errors
/// A failed read, a line that does not fit the task, a file without examples; and the first error of `each`.
pub fn read_labelled<E: From<TextError>>(
    path: &Path,
    file: impl Read,
    row: &Row,
    each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Counts, E> {
    read(path, file, &Columns::labelled(row), each)
}

/// Reads the test file `set` of the task with this `row`; otherwise the same as [`read_labelled`].
///
/// # Errors
/// Those of [`read_labelled`], and a line without its own number.
pub fn read_test<E: From<TextError>>(
    path: &Path,
    file: impl Read,
    row: &Row,
    set: &TestSet,
    each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Counts, E> {
    read(path, file, &Columns::test(row, set), each)
}

/// The columns that are read from a file.
struct Columns {
    header: bool,
    first: Column,
    second: Option<Column>,
    answer: Answer,
    /// True if truncated lines are left out instead of being an error.
    skips_truncated: bool,
}

/// The column that a line has besides its texts.
#[derive(Clone, Copy)]
enum Answer {
    Label(Column, Target),
    /// The number of the line, from 0, in a test file.
    Index(Column),
}

impl Columns {
    const fn labelled(row: &Row) -> Self {
        Self {
            header: row.header,
            first: row.first,
            second: row.second,
            answer: Answer::Label(row.label, row.target),
            skips_truncated: row.has_truncated_lines,
        }
    }

    /// The columns of the texts have the same names as in the training file. CoLA's training file has no names; in its
    /// test file the column is called `sentence`.
    const fn test(row: &Row, set: &TestSet) -> Self {
        let first = match row.first {
            Column::At(_) => Column::Named("sentence"),
            named => named,
        };
        let answer = Answer::Index(Column::Named(set.index));
        Self { header: true, first, second: row.second, answer, skips_truncated: false }
    }
}

fn read<E: From<TextError>>(
    path: &Path,
    file: impl Read,
    columns: &Columns,
    mut each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Counts, E> {
    let none = || TextError::NoExamples { path: path.into() };
    let mut lines = Lines::new(path, BufReader::with_capacity(1 << 18, file), MOST_LINE_BYTES);
    let indexes = match columns.header {
        true => ColumnIndexes::of_header(path, columns, lines.next()?.ok_or_else(none)?)?,
        false => ColumnIndexes::without_header(path, columns)?,
    };
    let mut counts = Counts { examples: 0, skipped: 0, last_line: 0 };
    let mut number = lines.number();
    while let Some(line) = lines.next()? {
        number += 1;
        counts.last_line = number;
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != indexes.count {
            if columns.skips_truncated && fields.len() < indexes.count {
                counts.skipped += 1;
                continue;
            }
            let (found, expected) = (fields.len(), indexes.count);
            return Err(TextError::ColumnCount { path: path.into(), line: number, found, expected }.into());
        }
        let label = match columns.answer {
            Answer::Label(_, target) => label(path, number, target, fields[indexes.answer])?,
            Answer::Index(_) => {
                let expected = counts.examples;
                if fields[indexes.answer].parse() != Ok(expected) {
                    let found = shown(fields[indexes.answer]);
                    return Err(TextError::Index { path: path.into(), line: number, found, expected }.into());
                }
                0.0
            }
        };
        each(Record { first: fields[indexes.first], second: indexes.second.map(|at| fields[at]), label })?;
        counts.examples += 1;
    }
    if counts.examples == 0 { Err(none().into()) } else { Ok(counts) }
}

/// The indexes of these columns in the lines of one file.
struct ColumnIndexes {
    /// Number of columns in a line.
    count: usize,
    first: usize,
    second: Option<usize>,
    answer: usize,
}

impl ColumnIndexes {
    fn of_header(path: &Path, columns: &Columns, header: &str) -> Result<Self, TextError> {
        let names: Vec<&str> = header.split('\t').collect();
        Self::new(columns, names.len(), |column| match column {
            Column::At(at) => Ok(at),
            Column::Named(name) => names.iter().position(|found| *found == name).ok_or_else(|| {
                let found = names.iter().map(|name| (*name).to_owned()).collect();
                TextError::MissingColumn { path: path.into(), column: name, found }
            }),
        })
    }

    /// The indexes of a file without header. It ends with the last column that is read.
    fn without_header(path: &Path, columns: &Columns) -> Result<Self, TextError> {
        let index = |column| match column {
            Column::At(at) => Ok(at),
            Column::Named(name) => Err(TextError::MissingColumn { path: path.into(), column: name, found: Vec::new() }),
        };
        let mut indexes = Self::new(columns, 0, index)?;
        indexes.count = 1 + indexes.first.max(indexes.answer).max(indexes.second.unwrap_or(0));
        Ok(indexes)
    }

    fn new(
        columns: &Columns,
        count: usize,
        index: impl Fn(Column) -> Result<usize, TextError>,
    ) -> Result<Self, TextError> {
        let (Answer::Label(answer, _) | Answer::Index(answer)) = columns.answer;
        Ok(Self {
            count,
            first: index(columns.first)?,
            second: columns.second.map(&index).transpose()?,
            answer: index(answer)?,
        })
    }
}

fn label(path: &Path, line: u64, target: Target, found: &str) -> Result<f32, TextError> {
    match target {
        Target::Classes(allowed) => match allowed.iter().position(|name| *name == found) {
            Some(class) => Ok(class as f32),
            None => Err(TextError::Label { path: path.into(), line, found: shown(found), allowed }),
        },
        Target::Score { low, high } => match found.trim().parse::<f32>() {
            Ok(score) if (f32::from(low)..=f32::from(high)).contains(&score) => Ok(score),
            _ => Err(TextError::Score { path: path.into(), line, found: shown(found), low, high }),
        },
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use recipe::Task;

    use super::*;

    const RTE: &str = "index\tsentence1\tsentence2\tlabel\n";

    fn rte(text: &str) -> Result<Counts, String> {
        let file = Path::new("RTE/train.tsv");
        let read = read_labelled(file, text.as_bytes(), Task::Rte.row(), |_| Ok::<_, TextError>(()));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn examples_are_parsed_and_counted() {
        let counts = rte(&format!("{RTE}0\ta b\tc\tentailment\n1\tx\ty\tnot_entailment\n")).unwrap();
        assert_eq!(counts, Counts { examples: 2, skipped: 0, last_line: 3 });
    }

    #[test]
    fn a_blank_line_a_blank_header_and_no_example_are_refused_with_file_and_line() {
        let blank = rte(&format!("{RTE}0\ta\tb\tentailment\n\n")).unwrap_err();
        assert_eq!(blank, "RTE/train.tsv, line 3: 1 columns, but 4 are expected");
        let header = rte(&format!("\n{RTE}")).unwrap_err();
        assert_eq!(header, r#"RTE/train.tsv, line 1: no column "sentence1"; the header has """#);
        assert_eq!(rte(RTE).unwrap_err(), "RTE/train.tsv: there are no examples in it");
        assert_eq!(rte("").unwrap_err(), "RTE/train.tsv: there are no examples in it");
        let long = rte(&format!("{RTE}{}", "x".repeat(2 << 20))).unwrap_err();
        assert_eq!(long, "RTE/train.tsv, line 2: the line is longer than 1048576 bytes, the most that is read");
    }

    #[test]
    fn a_message_does_not_repeat_a_whole_broken_file() {
        let wide = rte(&"x\t".repeat(400_000)).unwrap_err();
        assert!(wide.len() < 500 && wide.contains("more"), "{} characters", wide.len());
        let label = rte(&format!("{RTE}0\ta\tb\t{}\n", "y".repeat(1 << 19))).unwrap_err();
        assert!(label.len() < 500, "{} characters", label.len());
    }

    #[test]
    fn the_lines_of_a_test_file_are_numbered() {
        let set = &Task::Rte.row().tests[0];
        let read = |text: &str| {
            let each = |_: Record| Ok::<_, TextError>(());
            read_test(Path::new("t"), text.as_bytes(), Task::Rte.row(), set, each).map_err(|error| error.to_string())
        };
        assert_eq!(read("index\tsentence1\tsentence2\n0\ta\tb\n1\ta\tb\n").unwrap().examples, 2);
        let error = read("index\tsentence1\tsentence2\n0\ta\tb\n3\ta\tb\n").unwrap_err();
        assert_eq!(error, r#"t, line 3: its number is "3", but 1 is expected"#);
    }
}

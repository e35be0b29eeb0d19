//! GLUE in its official layout: one folder per task, `train.tsv` and a dev file.
//!
//! Fields are split on TAB and nothing else: a quote is a character like any other. MRPC opens with a byte-order mark,
//! CoLA has no header, and the columns of MNLI's train and dev files differ, so columns are found by name.

use std::fs;
use std::path::Path;

use recipe::Task;
use recipe::task::{Column, Row, Target};

use super::DataError;
use super::vocabulary::{Encoder, Vocabulary};

/// The labelled examples of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Glue {
    pub train: Vec<Example>,
    pub dev: Vec<Example>,
    /// Broken lines left out of both parts; 0 for every task but QQP.
    pub skipped: usize,
}

/// One input with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`.
    pub ids: Vec<u32>,
    /// Where the second segment starts in `ids`; their number where there is none.
    pub second: usize,
    /// Class number, or the score of a regression task.
    pub label: f32,
}

impl Glue {
    /// Reads `task` from the GLUE folder `dir`. Inputs hold at most `length` ids; a pair that is longer loses tokens
    /// from the end of its longer half.
    pub fn read(dir: &Path, task: Task, vocabulary: &Vocabulary, length: u32) -> Result<Self, DataError> {
        Self::read_folder(&dir.join(task.row().folder), task, vocabulary, length)
    }

    /// The same, from the folder that holds the task's files.
    pub fn read_folder(
        folder: &Path,
        task: Task,
        vocabulary: &Vocabulary,
        length: u32,
    ) -> Result<Self, DataError> {
        let row = task.row();
        let mut encoder = vocabulary.encoder();
        let mut skipped = 0;
        let mut part = |file: &str| {
            let part = Part::read(&folder.join(file), row, |first, second, label| {
                example(&mut encoder, first, second, length as usize, label)
            })?;
            skipped += part.skipped;
            Ok(part.examples)
        };
        let (train, dev) = (part("train.tsv")?, part(row.dev)?);
        Ok(Self { train, dev, skipped })
    }
}

struct Part {
    examples: Vec<Example>,
    skipped: usize,
}

impl Part {
    fn read(
        path: &Path,
        row: &'static Row,
        mut example: impl FnMut(&str, Option<&str>, f32) -> Result<Example, DataError>,
    ) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io(path))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Err(DataError::NoExamples { path: path.into() });
        }
        let mut lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&byte| byte == b'\n').zip(1u64..);
        let layout = match row.header {
            true => {
                let header = lines.next().map_or(Ok(""), |(line, number)| text(path, line, number))?;
                Layout::of_header(path, row, header)?
            }
            false => Layout::without_header(path, row)?,
        };
        let mut part = Part { examples: Vec::new(), skipped: 0 };
        for (line, number) in lines {
            let fields: Vec<&str> = text(path, line, number)?.split('\t').collect();
            if fields.len() != layout.columns {
                // The official QQP files have a few lines that break off; every published loader leaves them out.
                if row.task == Task::Qqp && fields.len() < layout.columns {
                    part.skipped += 1;
                    continue;
                }
                return Err(DataError::ColumnCount {
                    path: path.into(),
                    line: number,
                    found: fields.len(),
                    expected: layout.columns,
                });
            }
            let label = label(path, number, row.target, fields[layout.label])?;
            part.examples.push(example(fields[layout.first], layout.second.map(|at| fields[at]), label)?);
        }
        match part.examples.is_empty() {
            true => Err(DataError::NoExamples { path: path.into() }),
            false => Ok(part),
        }
    }
}

/// Where the fields of a task stand in the lines of one file.
struct Layout {
    columns: usize,
    first: usize,
    second: Option<usize>,
    label: usize,
}

impl Layout {
    fn of_header(path: &Path, row: &Row, header: &str) -> Result<Self, DataError> {
        let names: Vec<&str> = header.split('\t').collect();
        Self::new(row, names.len(), |column| match column {
            Column::At(at) => Ok(at),
            Column::Named(name) => names.iter().position(|found| *found == name).ok_or_else(|| {
                let found = names.iter().map(|name| (*name).to_owned()).collect();
                DataError::MissingColumn { path: path.into(), column: name, found }
            }),
        })
    }

    /// Such a file has as many columns as the last of them that is read asks for.
    fn without_header(path: &Path, row: &Row) -> Result<Self, DataError> {
        let place = |column| match column {
            Column::At(at) => Ok(at),
            Column::Named(name) => {
                Err(DataError::MissingColumn { path: path.into(), column: name, found: Vec::new() })
            }
        };
        let mut layout = Self::new(row, 0, place)?;
        layout.columns = 1 + layout.first.max(layout.label).max(layout.second.unwrap_or(0));
        Ok(layout)
    }

    fn new(
        row: &Row,
        columns: usize,
        place: impl Fn(Column) -> Result<usize, DataError>,
    ) -> Result<Self, DataError> {
        Ok(Self {
            columns,
            first: place(row.first)?,
            second: row.second.map(&place).transpose()?,
            label: place(row.label)?,
        })
    }
}

fn text<'a>(path: &Path, line: &'a [u8], number: u64) -> Result<&'a str, DataError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    str::from_utf8(line).map_err(|_| DataError::NotUtf8 { path: path.into(), line: number })
}

fn label(path: &Path, line: u64, target: Target, found: &str) -> Result<f32, DataError> {
    match target {
        Target::Classes(allowed) => match allowed.iter().position(|name| *name == found) {
            Some(class) => Ok(class as f32),
            None => Err(DataError::Label { path: path.into(), line, found: found.into(), allowed }),
        },
        Target::Score { low, high } => match found.trim().parse::<f32>() {
            Ok(score) if (f32::from(low)..=f32::from(high)).contains(&score) => Ok(score),
            _ => Err(DataError::Score { path: path.into(), line, found: found.into(), low, high }),
        },
    }
}

fn example(
    encoder: &mut Encoder,
    first: &str,
    second: Option<&str>,
    length: usize,
    label: f32,
) -> Result<Example, DataError> {
    let (cls, sep) = (encoder.vocabulary().cls(), encoder.vocabulary().sep());
    let mut ids = vec![cls];
    encoder.encode_into(first, &mut ids)?;
    let Some(second) = second else {
        ids.truncate(length.saturating_sub(1));
        ids.push(sep);
        return Ok(Example { second: ids.len(), ids, label });
    };
    let mut tail = Vec::new();
    encoder.encode_into(second, &mut tail)?;
    let (kept, tail_kept) = truncated(ids.len() - 1, tail.len(), length.saturating_sub(3));
    ids.truncate(1 + kept);
    ids.push(sep);
    let second = ids.len();
    ids.extend(&tail[..tail_kept]);
    ids.push(sep);
    Ok(Example { ids, second, label })
}

/// How many tokens of a pair stay, when `room` is all there is: one at a time goes from the longer half, from the
/// second where both are equal.
fn truncated(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    // Taking from the longer half alone ends either with room left for all of the shorter, or with two equal halves.
    let half = room / 2;
    match (first <= half, second <= half) {
        (true, _) => (first, room - first),
        (_, true) => (room - second, second),
        _ => (room - half, half),
    }
}

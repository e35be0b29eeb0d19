//! The reasons why a text cannot be used, each with a message for the person who has to correct it.

use std::io;
use std::path::{Path, PathBuf};

/// The reason why a text cannot be used. `line` counts from 1.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: not UTF-8", path.display())]
    NotUtf8 { path: PathBuf, line: u64 },
    #[error("{}, line {line}: the compressed file is damaged: {source}", path.display())]
    Damaged { path: PathBuf, line: u64, source: io::Error },
    #[error("{}, line {line}: the line is longer than {most} bytes, the most that is read", path.display())]
    LongLine { path: PathBuf, line: u64, most: usize },
    #[error("{}: the file is longer than {most} bytes, the most that is read", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error(
        "{}, line {line}: the document is longer than {most} bytes, the most that is read: put a blank line between \
         documents",
        path.display()
    )]
    LongDocument { path: PathBuf, line: u64, most: usize },

    #[error("{}: the vocabulary has no {}", path.display(), tokens.join(", no "))]
    MissingTokens { path: PathBuf, tokens: Vec<&'static str> },

    #[error("{}, line 1: no column {column:?}; the header has {}", path.display(), quoted(found))]
    MissingColumn { path: PathBuf, column: &'static str, found: Vec<String> },
    #[error("{}, line {line}: {found} columns, but {expected} are expected", path.display())]
    ColumnCount { path: PathBuf, line: u64, found: usize, expected: usize },
    #[error("{}, line {line}: unknown label {found:?}; allowed are {}", path.display(), quoted(allowed))]
    Label { path: PathBuf, line: u64, found: String, allowed: &'static [&'static str] },
    #[error("{}, line {line}: the score {found:?} is not a number from {low} to {high}", path.display())]
    Score { path: PathBuf, line: u64, found: String, low: u8, high: u8 },
    #[error("{}, line {line}: its number is {found:?}, but {expected} is expected", path.display())]
    Index { path: PathBuf, line: u64, found: String, expected: u64 },
    #[error("{}: there are no examples in it", path.display())]
    NoExamples { path: PathBuf },
    /// `line` is that of the last example.
    #[error("{}, line {line}: it ends after {found} example, but training needs at least {least}", path.display())]
    FewExamples { path: PathBuf, line: u64, found: u64, least: u64 },
}

impl TextError {
    /// A function for `map_err` that adds the path of the file.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// Names in quotes, at most twenty of them and none longer than a line of a terminal: a broken file can have any number.
fn quoted(names: &[impl AsRef<str>]) -> String {
    let short = |name: &str| match name.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    };
    let shown = names.iter().take(20).map(|name| short(name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > 20 { format!("{shown} and {} more", names.len() - 20) } else { shown }
}

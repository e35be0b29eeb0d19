//! The errors of data, with messages for the person who has to correct the data.

use std::io;
use std::path::PathBuf;

use images::ImageError;
use recipe::{Failure, FailureKind};
use texts::TextError;

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("{}: no .txt, .txt.xz, .txt.gz or .txt.zst file in this folder", path.display())]
    NoFiles { path: PathBuf },
    #[error("{}: there is no text in it", path.display())]
    NoText { path: PathBuf },
    #[error(
        "{}: none of the {documents} documents is in the {part} part at a held-out share of {held_out}: \
         add documents or change the share",
        path.display()
    )]
    EmptyPart { path: PathBuf, documents: u64, part: &'static str, held_out: f64 },
    #[error(
        "{}: the {part} part has {tokens} tokens, too few for one sequence of {length}: \
         add text, shorten the sequences or change the held-out share",
        path.display()
    )]
    TooShort { path: PathBuf, part: &'static str, tokens: u64, length: u32 },
    #[error(
        "{}: the {part} part is one sequence of {length} tokens, but next-sentence prediction draws half of its second \
         texts from another one: add text, shorten the sequences, change the held-out share or leave `next_sentence` out",
        path.display()
    )]
    OneSequence { path: PathBuf, part: &'static str, length: u32 },
    #[error("{}: the {part} part contains no word of the vocabulary", path.display())]
    AllUnknown { path: PathBuf, part: &'static str },

    #[error("the tokenizer failed: {0}")]
    Tokenizer(Box<dyn std::error::Error + Send + Sync>),

    #[error(transparent)]
    Images(#[from] ImageError),
    #[error("{}: all images are of one class, but a classifier needs at least two", path.display())]
    OneClass { path: PathBuf },
}

impl DataError {
    /// For `map_err`: adds the path of the file.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl DataError {
    /// The kind of failure that is reported.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            DataError::Io { source, .. }
            | DataError::Images(ImageError::Io { source, .. })
            | DataError::Text(TextError::Io { source, .. }) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
                io::ErrorKind::OutOfMemory => FailureKind::OutOfMemory,
                _ => FailureKind::BadData,
            },
            DataError::Tokenizer(_) => FailureKind::Internal,
            _ => FailureKind::BadData,
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Failure { kind: error.kind(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_reported_as_bad_data() {
        let failure = |code| Failure::from(DataError::io("shards/train.ids")(io::Error::from_raw_os_error(code)));
        assert_eq!(failure(libc::ENOSPC).kind, FailureKind::DiskFull);
        assert_eq!(failure(libc::EDQUOT).kind, FailureKind::DiskFull);
        assert_eq!(failure(libc::ENOENT).kind, FailureKind::BadData);
        assert!(failure(libc::ENOSPC).message.starts_with("shards/train.ids: "));
    }

    #[test]
    fn a_message_names_the_file_the_line_and_the_allowed_labels() {
        let failure = Failure::from(DataError::from(TextError::Label {
            path: "RTE/dev.tsv".into(),
            line: 7,
            found: "maybe".into(),
            allowed: &["entailment", "not_entailment"],
        }));
        assert_eq!(failure.kind, FailureKind::BadData);
        assert_eq!(
            failure.message,
            r#"RTE/dev.tsv, line 7: unknown label "maybe"; allowed are "entailment", "not_entailment""#
        );
    }
}

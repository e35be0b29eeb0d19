//! The reasons why a folder of images cannot be used, each with a message for the person who has to correct it.

use std::io;
use std::path::PathBuf;

use recipe::ImageShape;

/// The reason why a folder of images cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{}: no file of training images in this folder, such as train-images-idx3-ubyte (IDX), data_batch_1.bin \
         (CIFAR-10) or train.bin (CIFAR-100)",
        path.display()
    )]
    NoFiles { path: PathBuf },
    #[error("{}: {} and {} have different formats: keep one of them", path.display(), one.display(), other.display())]
    Formats { path: PathBuf, one: PathBuf, other: PathBuf },
    #[error(
        "{}: {} and {} are two files of the same part: keep one of them",
        path.display(), one.display(), other.display()
    )]
    Sets { path: PathBuf, one: PathBuf, other: PathBuf },
    #[error("{}: {}, the file with the labels of these images, is missing", path.display(), labels.display())]
    NoLabels { path: PathBuf, labels: PathBuf },
    #[error("{}: the compressed file is damaged: {source}", path.display())]
    Damaged { path: PathBuf, source: io::Error },
    #[error("{}: the file has {found} bytes, fewer than the {expected} of its header", path.display())]
    Header { path: PathBuf, found: u64, expected: u64 },
    /// Both values are in hex.
    #[error("{}: the file begins with {found}, not {expected}", path.display())]
    Magic { path: PathBuf, found: String, expected: String },
    #[error("{}: {}", path.display(), wrong_size(*found, *expected))]
    Bytes { path: PathBuf, found: u64, expected: u64 },
    #[error("{}: its header claims {claimed} bytes of data: at most {most} are allowed", path.display())]
    TooLarge { path: PathBuf, claimed: u64, most: u64 },
    #[error("{}: the file is longer than {most} bytes, the most that is read", path.display())]
    TooLong { path: PathBuf, most: u64 },
    #[error("{}: {bytes} bytes are not a whole number of records of {record} bytes", path.display())]
    Records { path: PathBuf, bytes: u64, record: u64 },
    #[error("{}: the file has no images", path.display())]
    Empty { path: PathBuf },
    #[error("{}: the file has {images} images, but {} has {labels} labels", path.display(), labels_path.display())]
    Count { path: PathBuf, images: u64, labels_path: PathBuf, labels: u64 },
    #[error("{}: the images are of {found}, but those of the files before are of {expected}", path.display())]
    Shape { path: PathBuf, found: ImageShape, expected: ImageShape },
    /// `found` counts from 0.
    #[error("{}: an image has class {found}, but the classes are 0 to {}", path.display(), *classes - 1)]
    Label { path: PathBuf, found: u8, classes: u32 },
    #[error(
        "{}: none of the {images} images is in the {part} part at a held-out share of {held_out}: \
         add images or change the share",
        path.display()
    )]
    EmptyPart { path: PathBuf, images: usize, part: &'static str, held_out: f64 },
}

impl ImageError {
    /// A function for `map_err` that adds the path to an I/O error.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn wrong_size(found: u64, expected: u64) -> String {
    if found > expected {
        format!("the file has more than the {expected} bytes of data that its header claims")
    } else {
        format!("the file has {found} bytes of data, but its header claims {expected}")
    }
}

//! What can be wrong with images, in words for the person who has to put it right.

use std::io;
use std::path::PathBuf;

use recipe::ImageShape;

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
    #[error("{}: {} and {} are of two formats: keep one of them", path.display(), one.display(), other.display())]
    Formats { path: PathBuf, one: PathBuf, other: PathBuf },
    #[error("{}: {} and {} are two sets of images: keep one of them", path.display(), one.display(), other.display())]
    Sets { path: PathBuf, one: PathBuf, other: PathBuf },
    #[error("{}: {} is not there, which holds the labels of these images", path.display(), labels.display())]
    NoLabels { path: PathBuf, labels: PathBuf },
    #[error("{}: the compressed file is damaged: {source}", path.display())]
    Damaged { path: PathBuf, source: io::Error },
    #[error("{}: {found} bytes, where the header has {expected}", path.display())]
    Header { path: PathBuf, found: u64, expected: u64 },
    /// In hex.
    #[error("{}: begins with {found}, not {expected}", path.display())]
    Magic { path: PathBuf, found: String, expected: String },
    #[error("{}: {}", path.display(), off(*found, *expected))]
    Bytes { path: PathBuf, found: u64, expected: u64 },
    #[error("{}: its header says {claimed} bytes of data: {most} are allowed", path.display())]
    TooLarge { path: PathBuf, claimed: u64, most: u64 },
    #[error("{}: {bytes} bytes are not whole records of {record}", path.display())]
    Records { path: PathBuf, bytes: u64, record: u64 },
    #[error("{}: no images in it", path.display())]
    Empty { path: PathBuf },
    #[error("{}: {images} images, where {} has {labels} labels", path.display(), labels_path.display())]
    Count { path: PathBuf, images: u64, labels_path: PathBuf, labels: u64 },
    #[error("{}: images of {found}, where the files before have {expected}", path.display())]
    Shape { path: PathBuf, found: ImageShape, expected: ImageShape },
    /// `found` counts from 0.
    #[error("{}: an image of class {found}, where there are {classes}", path.display())]
    Label { path: PathBuf, found: u8, classes: u32 },
    #[error(
        "{}: {images} images, none of them in the {part} part at a held-out share of {held_out}: \
         add images or change the share",
        path.display()
    )]
    EmptyPart { path: PathBuf, images: usize, part: &'static str, held_out: f64 },
}

impl ImageError {
    /// For `map_err`: names the file that an operation was about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn off(found: u64, expected: u64) -> String {
    if found > expected {
        format!("more than the {expected} bytes of data that its header says")
    } else {
        format!("{found} bytes of data, where its header says {expected}")
    }
}

//! Images with their classes, from the files in which MNIST and CIFAR are published.
//!
//! | files | what they are |
//! |---|---|
//! | `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` | IDX: MNIST and its relatives; also as `.gz` and with `.idx` |
//! | `t10k-...` or `...test-...` beside them | IDX: the test part |
//! | `data_batch_1.bin` ..., `test_batch.bin` | CIFAR-10 |
//! | `train.bin`, `test.bin` | CIFAR-100, by its fine classes |
//!
//! A test part validates. Where there is none, each image of the training part is held out by a draw of its own.

mod cifar;
mod error;
mod idx;

use std::fs;
use std::path::{Path, PathBuf};

use recipe::ImageShape;
use recipe::seeds::{HELD_OUT_SEED, Purpose, generator, is_held_out, permutation};

pub use error::ImageError;

/// What a folder holds, as it was published.
#[derive(Debug)]
pub struct Published {
    pub shape: ImageShape,
    /// Labels of the training part are below it.
    pub classes: u32,
    pub train: ImageSet,
    /// Empty where there is none.
    pub test: ImageSet,
    /// All files that were read, those of labels included.
    pub files: Vec<PathBuf>,
}

/// Images to train on, and to validate with.
#[derive(Debug)]
pub struct Images {
    pub shape: ImageShape,
    /// Labels are below it.
    pub classes: u32,
    pub train: ImageSet,
    /// In an order of its own, so that its first images are of all classes.
    pub valid: ImageSet,
}

/// Images of one shape, with their classes.
#[derive(Debug, Default)]
pub struct ImageSet {
    /// `[images, height, width, channels]`, intensities from 0 to 255.
    values: Vec<u8>,
    /// `[images]`
    labels: Vec<u8>,
}

/// How a file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Idx,
    Cifar(cifar::Layout),
}

/// A file of images.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    format: Format,
    is_test: bool,
}

/// What a file holds.
struct Part {
    shape: ImageShape,
    set: ImageSet,
    /// As far as the format says it.
    classes: Option<u32>,
    /// What was read for it; never empty.
    files: Vec<PathBuf>,
}

impl Published {
    /// Reads and checks all files of `folder`.
    ///
    /// # Errors
    /// An [`ImageError`] that names the file which is missing, broken or does not go with the others.
    pub fn read(folder: &Path) -> Result<Self, ImageError> {
        let (mut whole, mut test) = (None::<Part>, None::<Part>);
        for file in listed(folder)? {
            let part = file.read()?;
            let shape = whole.as_ref().or(test.as_ref()).map_or(part.shape, |first| first.shape);
            if part.shape != shape {
                return Err(ImageError::Shape { path: file.path, found: part.shape, expected: shape });
            }
            match if file.is_test { &mut test } else { &mut whole } {
                // The same images under two names, or those of another set whose labels mean something else.
                Some(sum) if file.format == Format::Idx => {
                    let one = sum.files[0].clone();
                    return Err(ImageError::Sets { path: folder.into(), one, other: file.path });
                }
                Some(sum) => sum.append(part),
                none => *none = Some(part),
            }
        }
        let Some(Part { shape, set: train, classes, mut files }) = whole else {
            return Err(ImageError::NoFiles { path: folder.into() });
        };
        let classes = classes.unwrap_or_else(|| 1 + u32::from(train.labels.iter().copied().max().unwrap_or(0)));
        let mut published = Self { shape, classes, train, test: ImageSet::default(), files: Vec::new() };
        if let Some(test) = test {
            if let Some(label) = test.set.labels.iter().copied().find(|&label| u32::from(label) >= classes) {
                return Err(ImageError::Label { path: test.files[0].clone(), found: label, classes });
            }
            published.test = test.set;
            files.extend(test.files);
        }
        Ok(Self { files, ..published })
    }
}

impl Images {
    /// Reads and checks all files of `folder`. Where none is of a test part, a share `held_out` is taken of the others: which
    /// images, depends on their places alone.
    ///
    /// # Errors
    /// Those of [`Published::read`], and a share that leaves one of the parts empty.
    pub fn read(folder: &Path, held_out: f64) -> Result<Self, ImageError> {
        let Published { shape, classes, train, test, .. } = Published::read(folder)?;
        let images = train.len();
        let (train, valid) =
            if test.is_empty() { train.split(shape, |index| is_held_out(index, held_out)) } else { (train, test) };
        for (set, part) in [(&train, "training"), (&valid, "validation")] {
            if set.is_empty() {
                return Err(ImageError::EmptyPart { path: folder.into(), images, part, held_out });
            }
        }
        Ok(Self { valid: valid.shuffled(shape), shape, classes, train })
    }
}

impl Part {
    fn append(&mut self, mut other: Part) {
        self.set.values.append(&mut other.set.values);
        self.set.labels.append(&mut other.set.labels);
        self.files.append(&mut other.files);
    }
}

impl ImageSet {
    /// # Panics
    /// Unless `values` are a whole number of images, as many as there are `labels`, all of one size.
    pub fn new(values: Vec<u8>, labels: Vec<u8>) -> Self {
        assert!(labels.is_empty() && values.is_empty() || values.len().is_multiple_of(labels.len()));
        Self { values, labels }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The intensities of the image at `index` (from 0), `[height, width, channels]`, and its class.
    pub fn image(&self, index: usize) -> (&[u8], u8) {
        let size = self.values.len() / self.labels.len();
        (&self.values[index * size..(index + 1) * size], self.labels[index])
    }

    /// The images that are not taken, and those that are.
    fn split(self, shape: ImageShape, taken: impl Fn(u64) -> bool) -> (ImageSet, ImageSet) {
        let mut parts = (ImageSet::default(), ImageSet::default());
        for ((index, values), &label) in (0..).zip(self.values.chunks(shape.values() as usize)).zip(&self.labels) {
            let part = if taken(index) { &mut parts.1 } else { &mut parts.0 };
            part.values.extend_from_slice(values);
            part.labels.push(label);
        }
        parts
    }

    /// The same images for every trial, in the same random order.
    fn shuffled(self, shape: ImageShape) -> ImageSet {
        let order = permutation(&mut generator(HELD_OUT_SEED, Purpose::HeldOut, u64::MAX, 0), self.len());
        let mut shuffled = ImageSet { values: Vec::with_capacity(self.values.len()), labels: Vec::new() };
        for index in order {
            let from = index as usize * shape.values() as usize;
            shuffled.values.extend_from_slice(&self.values[from..from + shape.values() as usize]);
            shuffled.labels.push(self.labels[index as usize]);
        }
        shuffled
    }
}

impl Listed {
    fn read(&self) -> Result<Part, ImageError> {
        match self.format {
            Format::Idx => idx::read(&self.path),
            Format::Cifar(layout) => cifar::read(&self.path, layout),
        }
    }
}

/// The files of images in a folder, by name: those of one format.
fn listed(folder: &Path) -> Result<Vec<Listed>, ImageError> {
    let mut files: Vec<Listed> = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImageError::io(folder))? {
        let path = entry.map_err(ImageError::io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A file that lies there compressed as well is read once.
        let is_twin = name.strip_suffix(".gz").is_some_and(|unpacked| folder.join(unpacked).is_file());
        // Archivers leave hidden files of the same name (`._train-images-idx3-ubyte`) that hold no images.
        if let Some((format, is_test)) = recognised(name)
            && !(is_twin || name.starts_with('.'))
            && path.is_file()
        {
            files.push(Listed { path, format, is_test });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(first) = files.first()
        && let Some(other) = files.iter().find(|file| file.format != first.format)
    {
        return Err(ImageError::Formats { path: folder.into(), one: first.path.clone(), other: other.path.clone() });
    }
    Ok(files)
}

/// The format of a file of that name, and whether it belongs to the test part.
fn recognised(name: &str) -> Option<(Format, bool)> {
    match name {
        "test_batch.bin" => return Some((Format::Cifar(cifar::Layout::Ten), true)),
        "train.bin" => return Some((Format::Cifar(cifar::Layout::Hundred), false)),
        "test.bin" => return Some((Format::Cifar(cifar::Layout::Hundred), true)),
        _ if name.starts_with("data_batch_") && name.ends_with(".bin") => {
            return Some((Format::Cifar(cifar::Layout::Ten), false));
        }
        _ => {}
    }
    let unpacked = name.strip_suffix(".gz").unwrap_or(name);
    let part = idx::IMAGES.iter().find_map(|suffix| unpacked.strip_suffix(suffix))?;
    Some((Format::Idx, part.contains("t10k") || part.contains("test")))
}

#[cfg(test)]
mod tests;

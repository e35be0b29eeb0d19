//! Images with their classes, from the files in which MNIST and CIFAR are published.
//!
//! | files | content |
//! |---|---|
//! | `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` | IDX: MNIST and data sets in its format; also as `.gz` and with `.idx` |
//! | `t10k-...` or `...test-...` beside them | IDX: the test part |
//! | `data_batch_1.bin` ..., `test_batch.bin` | CIFAR-10 |
//! | `train.bin`, `test.bin` | CIFAR-100, by its fine classes |
//!
//! The test part is used for validation. Without one, a random share of the training part is held out instead.

mod cifar;
mod error;
mod idx;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use recipe::ImageShape;
use recipe::seeds::{HELD_OUT_SEED, Purpose, generator, is_held_out, permutation};

pub use error::ImageError;

/// The images of a folder, in the parts in which they were published.
#[derive(Debug)]
pub struct PublishedImages {
    pub shape: ImageShape,
    /// Number of classes; every label is smaller.
    pub classes: u32,
    pub train: ImageSet,
    /// Empty if the folder has no test part.
    pub test: ImageSet,
    /// All files that were read, including the files of labels.
    pub files: Vec<PathBuf>,
}

/// What a folder of images has. The images themselves are not held in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub shape: ImageShape,
    /// Number of classes; every label is smaller.
    pub classes: u32,
    /// Images in the training part.
    pub train: u64,
    /// Images in the test part; 0 if the folder has none.
    pub test: u64,
    /// All files that were read, including the files of labels.
    pub files: Vec<PathBuf>,
}

/// Opens the file of this name in a folder.
pub type Open<'a> = &'a dyn Fn(&str) -> io::Result<Box<dyn Read>>;

/// A folder that is being read.
struct Folder<'a> {
    /// For messages, and the start of the paths in `files`.
    path: &'a Path,
    /// Names of the files in it.
    names: &'a [String],
    open: Open<'a>,
    /// Whether images are held in memory, or only counted. Labels are always held.
    keep: bool,
}

/// The images of a folder, divided into a training part and a validation part.
#[derive(Debug)]
pub struct Images {
    pub shape: ImageShape,
    /// Number of classes; every label is smaller.
    pub classes: u32,
    pub train: ImageSet,
    /// Shuffled, so that the first images are of all classes.
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

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Idx,
    Cifar(cifar::Variant),
}

/// A file of images that a folder holds.
#[derive(Debug)]
struct ImageFile {
    name: String,
    format: Format,
    is_test: bool,
}

/// The content of one file, or of several files of the same part.
struct Content {
    shape: ImageShape,
    set: ImageSet,
    /// Number of classes, if the format defines it.
    classes: Option<u32>,
    /// The files that were read; never empty.
    files: Vec<PathBuf>,
}

impl PublishedImages {
    /// Reads and checks all files of `folder`.
    ///
    /// # Errors
    /// A file is missing, damaged, or does not match the others; the error names it.
    pub fn read(folder: &Path) -> Result<Self, ImageError> {
        let open = |name: &str| Ok(Box::new(File::open(folder.join(name))?) as Box<dyn Read>);
        Self::read_files(&Folder { path: folder, names: &file_names(folder)?, open: &open, keep: true })
    }

    /// Reads and checks all files of `folder`, whose files have these `names`, without holding the images in memory.
    /// `folder` is for messages; a file is read through `open`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn survey(folder: &Path, names: &[String], open: Open) -> Result<Survey, ImageError> {
        let Self { shape, classes, train, test, files } =
            Self::read_files(&Folder { path: folder, names, open, keep: false })?;
        Ok(Survey { shape, classes, train: train.len() as u64, test: test.len() as u64, files })
    }

    fn read_files(folder: &Folder) -> Result<Self, ImageError> {
        let (mut train, mut test) = (None::<Content>, None::<Content>);
        for file in image_files(folder)? {
            let content = file.read(folder)?;
            let shape = train.as_ref().or(test.as_ref()).map_or(content.shape, |first| first.shape);
            if content.shape != shape {
                return Err(ImageError::Shape {
                    path: folder.path.join(file.name),
                    found: content.shape,
                    expected: shape,
                });
            }
            match if file.is_test { &mut test } else { &mut train } {
                // A part has one IDX file: a second one is the same images under another name, or another data set.
                Some(read) if file.format == Format::Idx => {
                    let one = read.files[0].clone();
                    return Err(ImageError::Sets { path: folder.path.into(), one, other: folder.path.join(file.name) });
                }
                Some(read) => read.append(content),
                none => *none = Some(content),
            }
        }
        let Some(Content { shape, set: train, classes, mut files }) = train else {
            return Err(ImageError::NoFiles { path: folder.path.into() });
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
    /// Reads and checks all files of `folder`. Without a test part, the share `held_out` of the images is held out for
    /// validation; the choice depends on their indices alone.
    ///
    /// # Errors
    /// Those of [`PublishedImages::read`], and a share that leaves one of the parts empty.
    pub fn read(folder: &Path, held_out: f64) -> Result<Self, ImageError> {
        let PublishedImages { shape, classes, train, test, .. } = PublishedImages::read(folder)?;
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

impl Content {
    fn append(&mut self, mut other: Content) {
        self.set.values.append(&mut other.set.values);
        self.set.labels.append(&mut other.set.labels);
        self.files.append(&mut other.files);
    }
}

impl ImageSet {
    /// Images of one size, in one row of values, with a label each.
    ///
    /// # Panics
    /// If `values` is not as many images of one size as there are `labels`.
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

    /// The intensities `[height, width, channels]` and the class of the image at `index` (from 0).
    pub fn image(&self, index: usize) -> (&[u8], u8) {
        let size = self.values.len() / self.labels.len();
        (&self.values[index * size..(index + 1) * size], self.labels[index])
    }

    /// Divides the images into the part for which `is_second` is false and the part for which it is true. Its argument
    /// is the index of the image.
    fn split(self, shape: ImageShape, is_second: impl Fn(u64) -> bool) -> (ImageSet, ImageSet) {
        let mut parts = (ImageSet::default(), ImageSet::default());
        for ((index, values), &label) in (0..).zip(self.values.chunks(shape.values() as usize)).zip(&self.labels) {
            let part = if is_second(index) { &mut parts.1 } else { &mut parts.0 };
            part.values.extend_from_slice(values);
            part.labels.push(label);
        }
        parts
    }

    /// The images in a random order, which is the same for every trial.
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

impl ImageFile {
    fn read(&self, folder: &Folder) -> Result<Content, ImageError> {
        match self.format {
            Format::Idx => idx::read(folder, &self.name),
            Format::Cifar(variant) => cifar::read(folder, &self.name, variant),
        }
    }
}

impl Folder<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|found| found == name)
    }
}

/// The names of the files in a folder. One that is not UTF-8 holds no images.
fn file_names(folder: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImageError::io(folder))? {
        let path = entry.map_err(ImageError::io(folder))?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_file()
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The files of images in a folder, sorted by name. All have the same format.
fn image_files(folder: &Folder) -> Result<Vec<ImageFile>, ImageError> {
    let mut files: Vec<ImageFile> = Vec::new();
    for name in folder.names {
        // If a file is also present without compression, only that one is read.
        let is_twin = name.strip_suffix(".gz").is_some_and(|unpacked| folder.has(unpacked));
        // Archivers leave hidden files of the same name (`._train-images-idx3-ubyte`) that hold no images.
        if let Some((format, is_test)) = recognised(name)
            && !(is_twin || name.starts_with('.'))
        {
            files.push(ImageFile { name: name.clone(), format, is_test });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(first) = files.first()
        && let Some(other) = files.iter().find(|file| file.format != first.format)
    {
        let [one, other] = [first, other].map(|file| folder.path.join(&file.name));
        return Err(ImageError::Formats { path: folder.path.into(), one, other });
    }
    Ok(files)
}

/// The format of a file with this name, and true if the file belongs to the test part. `None` if it holds no images.
fn recognised(name: &str) -> Option<(Format, bool)> {
    match name {
        "test_batch.bin" => return Some((Format::Cifar(cifar::Variant::Ten), true)),
        "train.bin" => return Some((Format::Cifar(cifar::Variant::Hundred), false)),
        "test.bin" => return Some((Format::Cifar(cifar::Variant::Hundred), true)),
        _ if name.starts_with("data_batch_") && name.ends_with(".bin") => {
            return Some((Format::Cifar(cifar::Variant::Ten), false));
        }
        _ => {}
    }
    let unpacked = name.strip_suffix(".gz").unwrap_or(name);
    let part = idx::IMAGES.iter().find_map(|suffix| unpacked.strip_suffix(suffix))?;
    Some((Format::Idx, part.contains("t10k") || part.contains("test")))
}

#[cfg(test)]
mod tests;

//! The binary format of CIFAR (Krizhevsky 2009): records of labels, then the red, the green and the blue plane of an image
//! of 32 x 32 pixels.

use std::fs;
use std::path::Path;

use recipe::ImageShape;

use crate::{ImageError, ImageSet, Part};

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Ten,
    Hundred,
}

impl Layout {
    const fn classes(self) -> u32 {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// Labels in a record. Of two, the first is the coarse one; the last is the one that counts.
    const fn labels(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }
}

pub(super) fn read(path: &Path, layout: Layout) -> Result<Part, ImageError> {
    let bytes = fs::read(path).map_err(ImageError::io(path))?;
    if bytes.is_empty() {
        return Err(ImageError::Empty { path: path.into() });
    }
    let (image, labels) = (SHAPE.values() as usize, layout.labels());
    let record = image + labels;
    if !bytes.len().is_multiple_of(record) {
        return Err(ImageError::Records { path: path.into(), bytes: bytes.len() as u64, record: record as u64 });
    }
    let mut set = ImageSet { values: Vec::with_capacity(bytes.len()), labels: Vec::new() };
    for record in bytes.chunks_exact(record) {
        let (record_labels, planes) = record.split_at(labels);
        let label = record_labels[labels - 1];
        if u32::from(label) >= layout.classes() {
            return Err(ImageError::Label { path: path.into(), found: label, classes: layout.classes() });
        }
        set.labels.push(label);
        // [channels, pixels] -> [pixels, channels]
        let pixels = image / SHAPE.channels as usize;
        set.values
            .extend((0..image).map(|at| planes[at % SHAPE.channels as usize * pixels + at / SHAPE.channels as usize]));
    }
    Ok(Part { shape: SHAPE, set, classes: Some(layout.classes()), files: vec![path.into()] })
}

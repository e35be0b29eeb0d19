//! The binary format of CIFAR (Krizhevsky 2009). A record is one or two labels, and the red, the green and the blue
//! plane of an image of 32 x 32 pixels.

use std::fs;
use std::path::Path;

use recipe::ImageShape;

use crate::{Content, ImageError, ImageSet};

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };

/// CIFAR-10 or CIFAR-100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Ten,
    Hundred,
}

impl Variant {
    const fn classes(self) -> u32 {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// Number of labels in a record. CIFAR-100 has a coarse and a fine one; the last, the fine one, is used.
    const fn labels(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }
}

pub(super) fn read(path: &Path, variant: Variant) -> Result<Content, ImageError> {
    let bytes = fs::read(path).map_err(ImageError::io(path))?;
    if bytes.is_empty() {
        return Err(ImageError::Empty { path: path.into() });
    }
    let (image, labels) = (SHAPE.values() as usize, variant.labels());
    let record = image + labels;
    if !bytes.len().is_multiple_of(record) {
        return Err(ImageError::Records { path: path.into(), bytes: bytes.len() as u64, record: record as u64 });
    }
    let mut set = ImageSet { values: Vec::with_capacity(bytes.len()), labels: Vec::new() };
    for record in bytes.chunks_exact(record) {
        let (record_labels, planes) = record.split_at(labels);
        let label = record_labels[labels - 1];
        if u32::from(label) >= variant.classes() {
            return Err(ImageError::Label { path: path.into(), found: label, classes: variant.classes() });
        }
        set.labels.push(label);
        // The planes [channels, pixels] become [pixels, channels].
        let pixels = image / SHAPE.channels as usize;
        set.values
            .extend((0..image).map(|at| planes[at % SHAPE.channels as usize * pixels + at / SHAPE.channels as usize]));
    }
    Ok(Content { shape: SHAPE, set, classes: Some(variant.classes()), files: vec![path.into()] })
}

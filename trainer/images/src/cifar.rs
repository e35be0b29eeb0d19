//! The binary format of CIFAR (Krizhevsky 2009). A record is one or two labels, and the red, the green and the blue
//! plane of an image of 32 x 32 pixels.

use std::io::{BufReader, Read};

use recipe::ImageShape;

use crate::idx::MOST_BYTES;
use crate::{Content, Folder, ImageError, ImageSet};

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

pub(super) fn read(folder: &Folder, name: &str, variant: Variant) -> Result<Content, ImageError> {
    let path = &folder.path.join(name);
    let mut file = BufReader::with_capacity(1 << 18, (folder.open)(name).map_err(ImageError::io(path))?);
    let (image, labels) = (SHAPE.values() as usize, variant.labels());
    let record = image + labels;
    let (mut set, mut bytes, mut buffer) = (ImageSet::default(), 0, Vec::with_capacity(record));
    loop {
        buffer.clear();
        let found = file.by_ref().take(record as u64).read_to_end(&mut buffer).map_err(ImageError::io(path))?;
        bytes += found as u64;
        if bytes > MOST_BYTES {
            return Err(ImageError::TooLong { path: path.into(), most: MOST_BYTES });
        }
        if found < record {
            break;
        }
        let (record_labels, planes) = buffer.split_at(labels);
        let label = record_labels[labels - 1];
        if u32::from(label) >= variant.classes() {
            return Err(ImageError::Label { path: path.into(), found: label, classes: variant.classes() });
        }
        set.labels.push(label);
        if folder.keep {
            // The planes [channels, pixels] become [pixels, channels].
            let (channels, pixels) = (SHAPE.channels as usize, image / SHAPE.channels as usize);
            set.values.extend((0..image).map(|at| planes[at % channels * pixels + at / channels]));
        }
    }
    if bytes == 0 {
        return Err(ImageError::Empty { path: path.into() });
    }
    if !bytes.is_multiple_of(record as u64) {
        return Err(ImageError::Records { path: path.into(), bytes, record: record as u64 });
    }
    Ok(Content { shape: SHAPE, set, classes: Some(variant.classes()), files: vec![path.into()] })
}

//! IDX, the format of MNIST (LeCun et al. 1998). A file holds two zero bytes, the type of the elements, the number of
//! dimensions, the size of each dimension as a big-endian 32-bit number, and the elements.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use recipe::ImageShape;

use crate::{Content, ImageError, ImageSet};

/// Endings of the names of image files, without `.gz`.
pub(super) const IMAGES: [&str; 2] = ["images-idx3-ubyte", "images.idx3-ubyte"];
/// Endings of the names of the files with their labels, in the same order.
const LABELS: [&str; 2] = ["labels-idx1-ubyte", "labels.idx1-ubyte"];
/// The code of the element type, unsigned bytes.
const BYTES: u8 = 0x08;
/// Upper bound on the data of a file. Images are held in memory, and a small compressed file can unpack to any size.
const MOST_BYTES: u64 = 4 << 30;

/// Reads a file of images and the file of labels beside it.
pub(super) fn read(path: &Path) -> Result<Content, ImageError> {
    let ([images, height, width], values) = array(path)?;
    let labels_path = labels_of(path)?;
    let ([count], labels) = array(&labels_path)?;
    if count != images {
        return Err(ImageError::Count { path: path.into(), images: images.into(), labels_path, labels: count.into() });
    }
    let shape = ImageShape { height, width, channels: 1 };
    Ok(Content { shape, set: ImageSet { values, labels }, classes: None, files: vec![path.into(), labels_path] })
}

/// The file with the labels of a file of images, compressed or not.
fn labels_of(images: &Path) -> Result<PathBuf, ImageError> {
    let name = images.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let unpacked = name.strip_suffix(".gz").unwrap_or(name);
    let ends = IMAGES.iter().zip(LABELS);
    let named = ends.filter_map(|(image, label)| Some(format!("{}{label}", unpacked.strip_suffix(image)?)));
    let candidates: Vec<PathBuf> =
        named.flat_map(|name| [images.with_file_name(format!("{name}.gz")), images.with_file_name(name)]).collect();
    // If both are present, the file without compression is used.
    candidates.iter().rev().find(|path| path.is_file()).cloned().ok_or_else(|| ImageError::NoLabels {
        path: images.into(),
        labels: candidates.last().cloned().unwrap_or_default(),
    })
}

/// The sizes of the `N` dimensions of a file, all above 0, and its elements.
fn array<const N: usize>(path: &Path) -> Result<([u32; N], Vec<u8>), ImageError> {
    let file = BufReader::new(File::open(path).map_err(ImageError::io(path))?);
    let compressed = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn Read> = if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof if compressed => {
            ImageError::Damaged { path: path.into(), source }
        }
        _ => ImageError::Io { path: path.into(), source },
    };
    let length = 4 + 4 * N as u64;
    let mut header = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut header).map_err(failed)?;
    let expected = [0, 0, BYTES, N as u8];
    let magic = header.first_chunk::<4>().copied();
    if let Some(found) = magic
        && found != expected
    {
        return Err(ImageError::Magic {
            path: path.into(),
            found: hex::encode(found),
            expected: hex::encode(expected),
        });
    }
    if (header.len() as u64) < length {
        return Err(ImageError::Header { path: path.into(), found: header.len() as u64, expected: length });
    }
    let mut sizes = [0; N];
    for (size, bytes) in sizes.iter_mut().zip(header[4..].as_chunks::<4>().0) {
        *size = u32::from_be_bytes(*bytes);
    }
    if sizes.contains(&0) {
        return Err(ImageError::Empty { path: path.into() });
    }
    // Reading one byte more than the header claims is enough to see that there are too many. No memory is reserved in
    // advance, because the header may be damaged.
    let claimed = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size.into())).unwrap_or(u64::MAX);
    if claimed > MOST_BYTES {
        return Err(ImageError::TooLarge { path: path.into(), claimed, most: MOST_BYTES });
    }
    let mut elements = Vec::new();
    reader.take(claimed.saturating_add(1)).read_to_end(&mut elements).map_err(failed)?;
    let found = elements.len() as u64;
    if found != claimed {
        return Err(ImageError::Bytes { path: path.into(), found, expected: claimed });
    }
    Ok((sizes, elements))
}

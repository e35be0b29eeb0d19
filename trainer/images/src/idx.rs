//! IDX, the format of MNIST (LeCun et al. 1998). A file holds two zero bytes, the type of the elements, the number of
//! dimensions, the size of each dimension as a big-endian 32-bit number, and the elements.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use recipe::ImageShape;

use crate::{Content, Folder, ImageError, ImageSet};

/// Endings of the names of image files, without `.gz`.
pub(super) const IMAGES: [&str; 2] = ["images-idx3-ubyte", "images.idx3-ubyte"];
/// Endings of the names of the files with their labels, in the same order.
const LABELS: [&str; 2] = ["labels-idx1-ubyte", "labels.idx1-ubyte"];
/// The code of the element type, unsigned bytes.
const BYTES: u8 = 0x08;
/// Upper bound on the images of a file in bytes, decompressed. The trainer holds them in memory, and a small compressed
/// file can unpack to any size.
pub(super) const MOST_BYTES: u64 = 4 << 30;
/// Upper bound on the labels of a file, and so on its images. Labels are held in memory by the server too.
const MOST_LABELS: u64 = 1 << 26;

/// Reads a file of images and the file of labels beside it.
pub(super) fn read(folder: &Folder, name: &str) -> Result<Content, ImageError> {
    let ([images, height, width], values) = array(folder, name, MOST_BYTES, folder.keep)?;
    let labels_name = labels_of(folder, name)?;
    let ([count], labels) = array(folder, &labels_name, MOST_LABELS, true)?;
    let [path, labels_path] = [name, &labels_name].map(|name| folder.path.join(name));
    if count != images {
        return Err(ImageError::Count { path, images: images.into(), labels_path, labels: count.into() });
    }
    let shape = ImageShape { height, width, channels: 1 };
    Ok(Content { shape, set: ImageSet { values, labels }, classes: None, files: vec![path, labels_path] })
}

/// The file with the labels of a file of images, compressed or not.
fn labels_of(folder: &Folder, images: &str) -> Result<String, ImageError> {
    let unpacked = images.strip_suffix(".gz").unwrap_or(images);
    let ends = IMAGES.iter().zip(LABELS);
    let named = ends.filter_map(|(image, label)| Some(format!("{}{label}", unpacked.strip_suffix(image)?)));
    let candidates: Vec<String> = named.flat_map(|name| [format!("{name}.gz"), name]).collect();
    // If both are present, the file without compression is used.
    candidates.iter().rev().find(|name| folder.has(name)).cloned().ok_or_else(|| ImageError::NoLabels {
        path: folder.path.join(images),
        labels: folder.path.join(candidates.last().map_or("", String::as_str)),
    })
}

/// The sizes of the `N` dimensions of a file, all above 0, and its elements if they are to be kept. There may be `most`
/// elements.
fn array<const N: usize>(
    folder: &Folder,
    name: &str,
    most: u64,
    keep: bool,
) -> Result<([u32; N], Vec<u8>), ImageError> {
    let path = &folder.path.join(name);
    let file = BufReader::with_capacity(1 << 18, (folder.open)(name).map_err(ImageError::io(path))?);
    let compressed = name.ends_with(".gz");
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
    if claimed > most {
        return Err(ImageError::TooLarge { path: path.into(), claimed, most });
    }
    let mut elements = Vec::new();
    let mut reader = reader.take(claimed.saturating_add(1));
    let found = match keep {
        true => reader.read_to_end(&mut elements).map_err(failed)? as u64,
        false => io::copy(&mut reader, &mut io::sink()).map_err(failed)?,
    };
    if found != claimed {
        return Err(ImageError::Bytes { path: path.into(), found, expected: claimed });
    }
    Ok((sizes, elements))
}

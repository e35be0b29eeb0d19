//! Text files as a stream of documents: one paragraph a line, a blank line between documents.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use recipe::seeds::{Purpose, generator, uniform};
use sha2::{Digest, Sha256};
use xz2::bufread::XzDecoder;

use super::DataError;

const EXTENSIONS: [&str; 4] = [".txt", ".txt.xz", ".txt.gz", ".txt.zst"];
const BUFFER_BYTES: usize = 1 << 18;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Of the corpus, not of a trial: every seed and every arm validates on the same documents.
const HELD_OUT_SEED: u64 = 0x6865_6c64_206f_7574;

/// The files of a corpus, in the order in which they are read.
#[derive(Debug, Clone)]
pub struct Corpus {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// Size of all files as they are stored, compressed or not.
    pub bytes: u64,
}

/// One document: its lines that are not blank, each ended by `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Place in the corpus, from 0.
    pub index: u64,
    pub text: String,
}

impl Document {
    /// Whether the document belongs to the validation part at this held-out share: an independent draw per document.
    pub fn is_held_out(&self, share: f64) -> bool {
        uniform(&mut generator(HELD_OUT_SEED, Purpose::HeldOut, self.index, 0)) < share
    }
}

impl Corpus {
    /// A file of any name, or the `.txt`, `.txt.xz`, `.txt.gz` and `.txt.zst` files of a folder, sorted by name.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut files = Vec::new();
        if fs::metadata(path).map_err(DataError::io(path))?.is_dir() {
            for entry in fs::read_dir(path).map_err(DataError::io(path))? {
                let file = entry.map_err(DataError::io(path))?.path();
                if file.file_name().and_then(OsStr::to_str).is_some_and(is_text) && file.is_file() {
                    files.push(file);
                }
            }
            files.sort();
            if files.is_empty() {
                return Err(DataError::NoFiles { path: path.into() });
            }
        } else {
            files.push(path.into());
        }
        let mut bytes = 0;
        for file in &files {
            bytes += fs::metadata(file).map_err(DataError::io(file))?.len();
        }
        Ok(Self { path: path.into(), files, bytes })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hex sha256 over the sha256 of each file, in reading order. `progress` gets (bytes done, bytes in all).
    pub fn digest(&self, mut progress: impl FnMut(u64, u64)) -> Result<String, DataError> {
        let mut all = Sha256::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut done = 0;
        for path in &self.files {
            let mut file = File::open(path).map_err(DataError::io(path))?;
            let mut digest = Sha256::new();
            loop {
                let count = file.read(&mut buffer).map_err(DataError::io(path))?;
                if count == 0 {
                    break;
                }
                digest.update(&buffer[..count]);
                done += count as u64;
                progress(done, self.bytes);
            }
            all.update(digest.finalize());
        }
        Ok(hex::encode(all.finalize()))
    }

    /// Reads the documents from the first file on. The end of a file ends a document too.
    pub fn documents(&self) -> Documents {
        Documents {
            files: self.files.clone().into_iter(),
            open: None,
            index: 0,
            stored_bytes_read: Arc::default(),
            failed: false,
        }
    }
}

fn is_text(name: &str) -> bool {
    EXTENSIONS.iter().any(|extension| name.strip_suffix(extension).is_some_and(|stem| !stem.is_empty()))
}

/// Iterator over the documents of a corpus; ends at the first error.
pub struct Documents {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<Lines>,
    index: u64,
    stored_bytes_read: Arc<AtomicU64>,
    failed: bool,
}

impl Documents {
    /// Bytes of the stored files that were read so far; of the same kind as [`Corpus::bytes`]. The counter stays valid
    /// when the iterator moves to another thread.
    pub fn stored_bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.stored_bytes_read)
    }

    fn read(&mut self) -> Result<Option<String>, DataError> {
        let mut text = String::new();
        loop {
            let Some(lines) = &mut self.open else {
                let Some(path) = self.files.next() else { return Ok(None) };
                self.open = Some(Lines::open(path, Arc::clone(&self.stored_bytes_read))?);
                continue;
            };
            let line = lines.next()?;
            let ended = line.is_none();
            let line = line.unwrap_or_default();
            if line.is_empty() {
                if ended {
                    self.open = None;
                }
                if !text.is_empty() {
                    return Ok(Some(text));
                }
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        let text = read.transpose()?;
        let index = self.index;
        self.index += 1;
        Some(text.map(|text| Document { index, text }))
    }
}

/// The lines of one file, decompressed and checked.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    compressed: bool,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    fn open(path: PathBuf, stored_bytes_read: Arc<AtomicU64>) -> Result<Self, DataError> {
        let file = File::open(&path).map_err(DataError::io(&path))?;
        let mut stored = BufReader::with_capacity(BUFFER_BYTES, Counted { file, read: stored_bytes_read });
        // The content decides, not the name: a renamed or unpacked file still reads.
        let magic = stored.fill_buf().map_err(DataError::io(&path))?;
        let decoder: Box<dyn Read + Send> = if magic.starts_with(b"\xfd7zXZ\0") {
            Box::new(XzDecoder::new_multi_decoder(stored))
        } else if magic.starts_with(b"\x1f\x8b") {
            Box::new(MultiGzDecoder::new(stored))
        } else if magic.starts_with(b"\x28\xb5\x2f\xfd") {
            Box::new(zstd::Decoder::with_buffer(stored).map_err(DataError::io(&path))?)
        } else {
            return Ok(Self { path, reader: Box::new(stored), compressed: false, line: 0, buffer: Vec::new() });
        };
        let reader = Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder));
        Ok(Self { path, reader, compressed: true, line: 0, buffer: Vec::new() })
    }

    /// The next line without white space around it; empty for a blank line; none at the end.
    fn next(&mut self) -> Result<Option<&str>, DataError> {
        self.buffer.clear();
        let (path, line) = (&self.path, self.line + 1);
        let count = self.reader.read_until(b'\n', &mut self.buffer).map_err(|source| match self.compressed {
            true => DataError::Damaged { path: path.clone(), line, source },
            false => DataError::Io { path: path.clone(), source },
        })?;
        if count == 0 {
            return Ok(None);
        }
        self.line = line;
        let mark = if line == 1 { BYTE_ORDER_MARK } else { b"" };
        let bytes = self.buffer.strip_prefix(mark).unwrap_or(&self.buffer);
        let text = str::from_utf8(bytes).map_err(|_| DataError::NotUtf8 { path: path.clone(), line })?;
        Ok(Some(text.trim()))
    }
}

struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

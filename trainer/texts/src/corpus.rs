//! Text, plain or compressed, as lines and documents: one paragraph per line, a blank line between documents.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use xz2::bufread::XzDecoder;
use xz2::stream::{CONCATENATED, Stream};

use crate::TextError;
use crate::lines::{Line, read_line, text};

const EXTENSIONS: [&str; 4] = [".txt", ".txt.xz", ".txt.gz", ".txt.zst"];
const BUFFER_BYTES: usize = 1 << 18;
/// Largest window of a zstd stream, as a power of two: 128 MiB, the most that its own program reads by default. A
/// stream could ask for 2 GiB of memory.
const ZSTD_WINDOW: u32 = 27;
/// Memory that an xz stream may ask for in bytes. `xz -9`, its largest preset, needs 65 MiB; a stream could ask for 4 GiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Longest line of a corpus in bytes, decompressed. A line is a paragraph; whole books on one line have a few million
/// bytes, and each core tokenises lines of its own.
pub const MOST_LINE_BYTES: usize = 16 << 20;
/// Longest document in bytes, decompressed. A document is held in memory as a whole.
pub const MOST_DOCUMENT_BYTES: usize = 1 << 30;
/// Text that registration reads of each file in bytes, decompressed. Beyond it only the trainer reads the text, with the
/// same bounds: to decompress a whole corpus takes minutes.
pub const CHECKED_BYTES: u64 = 4 << 20;

/// True if a file with this name belongs to a corpus.
pub fn is_text(name: &str) -> bool {
    EXTENSIONS.iter().any(|extension| name.strip_suffix(extension).is_some_and(|stem| !stem.is_empty()))
}

/// The lines of one file, decompressed and checked.
pub struct CorpusLines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    compressed: bool,
    line: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl CorpusLines {
    /// Reads `file`; `path` is for error messages.
    ///
    /// # Errors
    /// A failed read of the first bytes.
    pub fn new(path: PathBuf, file: impl Read + Send + 'static) -> Result<Self, TextError> {
        let mut stored = BufReader::with_capacity(BUFFER_BYTES, file);
        // The format is taken from the content, so that a renamed or unpacked file can still be read.
        let magic = stored.fill_buf().map_err(TextError::io(&path))?;
        let (reader, compressed): (Box<dyn Read + Send>, bool) = if magic.starts_with(b"\xfd7zXZ\0") {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED);
            let stream = stream.map_err(|error| TextError::io(&path)(error.into()))?;
            (Box::new(XzDecoder::new_stream(stored, stream)), true)
        } else if magic.starts_with(b"\x1f\x8b") {
            (Box::new(MultiGzDecoder::new(stored)), true)
        } else if magic.starts_with(b"\x28\xb5\x2f\xfd") {
            let mut decoder = zstd::Decoder::with_buffer(stored).map_err(TextError::io(&path))?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(TextError::io(&path))?;
            (Box::new(decoder), true)
        } else {
            (Box::new(stored), false)
        };
        let reader = Box::new(BufReader::with_capacity(BUFFER_BYTES, reader));
        Ok(Self { path, reader, compressed, line: 0, bytes: 0, buffer: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the line that [`next`](Self::next) returned last, from 1; 0 before the first.
    pub fn number(&self) -> u64 {
        self.line
    }

    /// The next line without white space around it, empty for a blank line; `None` at the end of the file.
    ///
    /// # Errors
    /// A failed read, a damaged compressed file, a line that is too long or not UTF-8.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Result<Option<&str>, TextError> {
        let (path, line) = (&self.path, self.line + 1);
        match read_line(&mut self.reader, MOST_LINE_BYTES, &mut self.buffer) {
            Ok(Line::Whole) => {}
            Ok(Line::TooLong) => {
                return Err(TextError::LongLine { path: path.clone(), line, most: MOST_LINE_BYTES });
            }
            Ok(Line::None) => return Ok(None),
            Err(source) if self.compressed => return Err(TextError::Damaged { path: path.clone(), line, source }),
            Err(source) => return Err(TextError::Io { path: path.clone(), source }),
        }
        self.line = line;
        self.bytes += self.buffer.len() as u64;
        let text = text(&self.buffer, line).ok_or_else(|| TextError::NotUtf8 { path: path.clone(), line })?;
        Ok(Some(text.trim()))
    }
}

/// What [`check`] has found at the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// There is a line that is not blank.
    Text,
    /// The whole file has none.
    Blank,
    /// There is none in the part that was read.
    Unknown,
}

/// Reads the first [`CHECKED_BYTES`] of a file of a corpus; `path` is for error messages.
///
/// # Errors
/// Those of [`CorpusLines`].
pub fn check(path: PathBuf, file: impl Read + Send + 'static) -> Result<Beginning, TextError> {
    let mut lines = CorpusLines::new(path, file)?;
    let mut found = Beginning::Blank;
    while let Some(line) = lines.next()? {
        if !line.is_empty() {
            found = Beginning::Text;
        }
        if lines.bytes >= CHECKED_BYTES {
            return Ok(if found == Beginning::Text { found } else { Beginning::Unknown });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A gzip file of `bytes` times the letter x, without a newline.
    fn bomb(bytes: u64) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::repeat(b'x').take(bytes), &mut encoder).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_line_longer_than_the_bound_is_refused_plain_and_compressed() {
        let most = MOST_LINE_BYTES as u64;
        let check = |bytes: Vec<u8>| check("a.txt".into(), io::Cursor::new(bytes));
        let packed = bomb(8 * most);
        assert!(packed.len() < 1 << 20);
        for bytes in [packed, vec![b'x'; MOST_LINE_BYTES + 1]] {
            let error = check(bytes).unwrap_err();
            assert!(matches!(error, TextError::LongLine { line: 1, .. }), "{error}");
        }
        assert_eq!(check(bomb(most)).unwrap(), Beginning::Text);
    }

    #[test]
    fn only_the_beginning_of_a_file_is_checked() {
        let check = |bytes: Vec<u8>| check("a.txt".into(), io::Cursor::new(bytes));
        assert_eq!(check(b" \n\n".to_vec()).unwrap(), Beginning::Blank);
        assert_eq!(check(vec![b'\n'; CHECKED_BYTES as usize]).unwrap(), Beginning::Unknown);
        let mut late = b"text\n".repeat(CHECKED_BYTES as usize / 5 + 1);
        late.extend(b"\xff\n");
        assert_eq!(check(late).unwrap(), Beginning::Text);
        assert_eq!(check(b"a\n\xff\n".to_vec()).unwrap_err().to_string(), "a.txt, line 2: not UTF-8");
    }

    #[test]
    fn a_file_of_a_corpus_is_known_by_its_name() {
        for (name, expected) in [("a.txt", true), ("a.txt.zst", true), (".txt", false), ("a.xz", false), ("txt", false)]
        {
            assert_eq!(is_text(name), expected, "{name}");
        }
    }
}

//! Text files as a stream of documents: one paragraph per line, a blank line between documents. The lines are read by
//! [`texts::corpus`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recipe::seeds::is_held_out;
use sha2::{Digest, Sha256};
use texts::TextError;
use texts::corpus::{CorpusLines, MOST_DOCUMENT_BYTES, is_text};

use super::DataError;

const BUFFER_BYTES: usize = 1 << 18;

/// The files of a corpus, in the order in which they are read.
#[derive(Debug, Clone)]
pub struct Corpus {
    path: PathBuf,
    files: Vec<PathBuf>,
    /// Size of all files as stored, compressed or not.
    pub bytes: u64,
}

/// The lines of one document, each with a `\n` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Index in the corpus, from 0.
    pub index: u64,
    pub text: String,
}

impl Document {
    /// True if the document belongs to the validation part at this held-out share. Each document is drawn
    /// independently.
    pub fn is_held_out(&self, share: f64) -> bool {
        is_held_out(self.index, share)
    }
}

impl Corpus {
    /// Opens a file of any name, or the `.txt`, `.txt.xz`, `.txt.gz` and `.txt.zst` files of a folder, sorted by name.
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

    /// Hex sha256 over the sha256 of each file, in reading order. `progress` gets (bytes done, total bytes).
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

    /// Reads the documents, starting with the first file. The end of a file also ends a document.
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

/// Iterator over the documents of a corpus. It ends at the first error.
pub struct Documents {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<CorpusLines>,
    index: u64,
    stored_bytes_read: Arc<AtomicU64>,
    failed: bool,
}

impl Documents {
    /// Bytes of the stored files read so far, out of [`Corpus::bytes`]. The counter stays valid when the iterator moves
    /// to another thread.
    pub fn stored_bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.stored_bytes_read)
    }

    fn read(&mut self) -> Result<Option<String>, DataError> {
        let mut text = String::new();
        loop {
            let Some(lines) = &mut self.open else {
                let Some(path) = self.files.next() else { return Ok(None) };
                let file = File::open(&path).map_err(DataError::io(&path))?;
                let read = Arc::clone(&self.stored_bytes_read);
                self.open = Some(CorpusLines::new(path, Counted { file, read })?);
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
            } else if text.len() + line.len() < MOST_DOCUMENT_BYTES {
                text.push_str(line);
                text.push('\n');
            } else {
                let (path, line) = (lines.path().to_owned(), lines.number());
                return Err(TextError::LongDocument { path, line, most: MOST_DOCUMENT_BYTES }.into());
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use tempfile::TempDir;
    use texts::corpus::MOST_LINE_BYTES;

    use super::*;

    const TEXT: &str = "first line\nsecond line\n\nanother document\n";

    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn texts(path: &Path) -> Result<Vec<String>, DataError> {
        Corpus::open(path)?.documents().map(|document| document.map(|document| document.text)).collect()
    }

    fn texts_of(bytes: &[u8]) -> Result<Vec<String>, DataError> {
        let folder = folder(&[("a.txt", bytes)]);
        texts(&folder.path().join("a.txt"))
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    type Packer = fn(&[u8]) -> Vec<u8>;
    const PACKERS: [Packer; 3] = [xz, gz, zst];

    #[test]
    fn a_blank_line_or_the_end_of_a_file_ends_a_document() {
        let folder = folder(&[
            ("b.txt", b"\n\n  \nthree\n \t\r\n\nfour\r\nfour again"),
            ("a.txt", b"\xef\xbb\xbfone\ntwo"),
            ("empty.txt", b""),
            ("notes.md", b"not text of the corpus"),
        ]);
        assert_eq!(texts(folder.path()).unwrap(), ["one\ntwo\n", "three\n", "four\nfour again\n"]);
        let indexes: Vec<u64> =
            Corpus::open(folder.path()).unwrap().documents().map(|document| document.unwrap().index).collect();
        assert_eq!(indexes, [0, 1, 2]);
    }

    #[test]
    fn the_format_of_a_file_is_read_from_its_content_and_not_from_its_name() {
        let expected = texts_of(TEXT.as_bytes()).unwrap();
        for pack in PACKERS {
            assert_eq!(texts_of(&pack(TEXT.as_bytes())).unwrap(), expected);
            // Archives are often concatenations of others.
            let joined = [pack(TEXT.as_bytes()), pack(b"\nthird"), pack(b" part\n")].concat();
            assert_eq!(texts_of(&joined).unwrap(), [&expected[..], &["third part\n".into()]].concat());
        }
        let folder =
            folder(&[("a.txt.xz", &xz(b"1")), ("b.txt.gz", &gz(b"2")), ("c.txt.zst", &zst(b"3")), ("d.txt", b"4")]);
        assert_eq!(texts(folder.path()).unwrap(), ["1\n", "2\n", "3\n", "4\n"]);
    }

    #[test]
    fn a_damaged_file_is_an_error_with_file_and_line_and_is_never_read_as_a_short_file() {
        let text: String = (0..20_000).map(|i| format!("line {} of it\n", i * 7919 % 10_007)).collect();
        for pack in PACKERS {
            let packed = pack(text.as_bytes());
            let damage = |bytes: &[u8]| texts_of(bytes).map(|texts| texts.concat().len()).unwrap_err();
            for cut in [packed.len() / 2, packed.len() - 1] {
                let error = damage(&packed[..cut]);
                assert!(
                    matches!(&error, DataError::Text(TextError::Damaged { path, .. }) if path.ends_with("a.txt")),
                    "{error}"
                );
            }
            let mut flipped = packed.clone();
            flipped[packed.len() / 2] ^= 0x10;
            assert!(matches!(damage(&flipped), DataError::Text(TextError::Damaged { .. } | TextError::NotUtf8 { .. })));
        }
        let error = texts_of(b"good\n\nbad \xff\n").unwrap_err();
        assert!(matches!(error, DataError::Text(TextError::NotUtf8 { line: 3, .. })), "{error}");
        assert!(matches!(texts(Path::new("/no/such/corpus")).unwrap_err(), DataError::Io { .. }));
        assert!(matches!(texts(folder(&[("a.md", b"text")]).path()).unwrap_err(), DataError::NoFiles { .. }));
    }

    #[test]
    fn a_line_longer_than_the_bound_is_bad_data_with_file_and_line() {
        let long = [&b"short\n"[..], &[b'x'; MOST_LINE_BYTES + 1]].concat();
        for bytes in [gz(&long), long] {
            let failure = recipe::Failure::from(texts_of(&bytes).unwrap_err());
            assert_eq!(failure.kind, recipe::FailureKind::BadData);
            assert!(failure.message.contains("a.txt, line 2: the line is longer than 16777216 bytes"), "{failure:?}");
        }
    }

    #[test]
    fn the_digest_depends_on_content_and_order_and_not_on_names() {
        let digest = |files: &[(&str, &[u8])]| {
            let folder = folder(files);
            let mut last = (0, 0);
            let digest = Corpus::open(folder.path()).unwrap().digest(|done, total| last = (done, total)).unwrap();
            assert_eq!(last.0, last.1, "progress ends at its total");
            digest
        };
        let here = digest(&[("a.txt", b"1"), ("b.txt", b"2")]);
        assert_eq!(here, digest(&[("c.txt", b"1"), ("d.txt", b"2")]));
        assert_ne!(here, digest(&[("a.txt", b"2"), ("b.txt", b"1")]));
        assert_ne!(here, digest(&[("a.txt", b"12"), ("b.txt", b"")]));
    }

    #[test]
    fn documents_are_held_out_in_the_given_share() {
        let held = |share: f64| -> Vec<u64> {
            (0..20_000).filter(|&index| Document { index, text: String::new() }.is_held_out(share)).collect()
        };
        // Five standard deviations of a binomial.
        for share in [0.003, 0.02, 0.3] {
            let expected = 20_000.0 * share;
            assert!((held(share).len() as f64 - expected).abs() < 5.0 * (expected * (1.0 - share)).sqrt());
        }
        assert_eq!(held(0.02)[..6], PINNED, "a document must never change its part");
        assert!(held(0.0).is_empty());
    }

    const PINNED: [u64; 6] = [11, 25, 46, 65, 134, 172];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The text is cut into pieces, each of which is compressed as a stream of its own.
        #[test]
        fn documents_do_not_depend_on_how_the_text_is_split_into_streams(
            paragraphs in prop::collection::vec(prop::collection::vec("[a-zé東 ]{0,12}", 0..4), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            packer in 0usize..3,
            newline in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = paragraphs.iter().map(|lines| lines.join(newline)).collect::<Vec<_>>().join(&newline.repeat(2));
            let mut expected = vec![String::new()];
            for line in text.split(newline).map(str::trim) {
                let last = expected.last_mut().unwrap();
                match (line.is_empty(), last.is_empty()) {
                    (false, _) => { last.push_str(line); last.push('\n') }
                    (true, false) => expected.push(String::new()),
                    (true, true) => {}
                }
            }
            expected.retain(|document| !document.is_empty());

            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
            at.sort_unstable();
            let streams: Vec<u8> =
                at.windows(2).flat_map(|pair| PACKERS[packer](&text.as_bytes()[pair[0]..pair[1]])).collect();
            prop_assert_eq!(&texts_of(&streams).unwrap(), &expected);
            prop_assert_eq!(&texts_of(text.as_bytes()).unwrap(), &expected);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), packer in 0usize..4) {
            let magic: [&[u8]; 4] = [b"\xfd7zXZ\0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b""];
            let _ = texts_of(&[magic[packer], &bytes].concat());
        }
    }
}

//! The lines of a text, none longer than a bound, and small files as a whole.

use std::io::{self, BufRead, Read};
use std::path::Path;

use crate::TextError;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a UTF-8 text. A line ends with `\n` alone, as everywhere in published data: other characters that end a
/// line in Unicode, such as U+2028, are part of the line.
pub struct Lines<'a, R> {
    path: &'a Path,
    reader: R,
    most: usize,
    number: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    /// Lines of at most `most` bytes. `path` is for error messages.
    pub fn new(path: &'a Path, reader: R, most: usize) -> Self {
        Self { path, reader, most, number: 0, buffer: Vec::new() }
    }

    /// The number of the line that [`next`](Self::next) returned last, from 1; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without `\n` or `\r\n` at its end, and without a byte-order mark at the start of the text; `None` at
    /// the end of the text.
    ///
    /// # Errors
    /// A failed read, a line that is too long, a line that is not UTF-8.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    pub fn next(&mut self) -> Result<Option<&str>, TextError> {
        let number = self.number + 1;
        match read_line(&mut self.reader, self.most, &mut self.buffer) {
            Ok(Line::Whole) => {}
            Ok(Line::TooLong) => {
                return Err(TextError::LongLine { path: self.path.into(), line: number, most: self.most });
            }
            Ok(Line::None) => return Ok(None),
            Err(source) => return Err(TextError::Io { path: self.path.into(), source }),
        }
        // A byte-order mark and nothing else is an empty text, which has no lines.
        if number == 1 && self.buffer == BYTE_ORDER_MARK {
            return Ok(None);
        }
        self.number = number;
        text(&self.buffer, number).map(Some).ok_or_else(|| TextError::NotUtf8 { path: self.path.into(), line: number })
    }
}

/// What [`read_line`] has found.
pub(crate) enum Line {
    Whole,
    TooLong,
    None,
}

/// Reads up to and with the next `\n`, but no more than a little over `most` bytes, into the emptied `buffer`.
pub(crate) fn read_line(reader: &mut impl BufRead, most: usize, buffer: &mut Vec<u8>) -> io::Result<Line> {
    buffer.clear();
    // Two bytes more have room for the end of the line, `\r\n`.
    let found = reader.by_ref().take(most as u64 + 2).read_until(b'\n', buffer)?;
    let content = buffer.strip_suffix(b"\n").unwrap_or(buffer);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    Ok(match found {
        0 => Line::None,
        _ if content.len() > most => Line::TooLong,
        _ => Line::Whole,
    })
}

/// A line without its end and without the byte-order mark that the first may have; `None` if it is not UTF-8.
pub(crate) fn text(line: &[u8], number: u64) -> Option<&str> {
    let mark = if number == 1 { BYTE_ORDER_MARK } else { b"" };
    let line = line.strip_prefix(mark).unwrap_or(line);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()
}

/// The content of a file of at most `most` bytes.
///
/// # Errors
/// A failed read, and a file that is longer.
pub fn whole(path: &Path, reader: impl Read, most: u64) -> Result<Vec<u8>, TextError> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(TextError::io(path))?;
    match bytes.len() as u64 > most {
        true => Err(TextError::TooLarge { path: path.into(), most }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], most: usize) -> Result<Vec<String>, String> {
        let mut lines = Lines::new(Path::new("a.txt"), bytes, most);
        let mut found = Vec::new();
        while let Some(line) = lines.next().map_err(|error| error.to_string())? {
            found.push(line.to_owned());
        }
        Ok(found)
    }

    #[test]
    fn only_a_newline_ends_a_line() {
        assert_eq!(
            lines(b"\xef\xbb\xbfa\r\n\xe2\x80\xa8\n\nb\rc\x0bd", 9).unwrap(),
            ["a", "\u{2028}", "", "b\rc\u{b}d"]
        );
        for empty in [&b""[..], b"\xef\xbb\xbf"] {
            assert_eq!(lines(empty, 9).unwrap(), [""; 0]);
        }
        assert_eq!(lines(b"a\n", 9).unwrap(), ["a"]);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_bound_and_no_longer() {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(lines(format!("1\n12345{end}").as_bytes(), 5).unwrap(), ["1", "12345"], "{end:?}");
            let message = lines(format!("1\n123456{end}").as_bytes(), 5).unwrap_err();
            assert_eq!(message, "a.txt, line 2: the line is longer than 5 bytes, the most that is read");
        }
        // A line without an end is not read to its end.
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert!(matches!(Lines::new(Path::new("a"), &mut endless, 5).next(), Err(TextError::LongLine { .. })));
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        assert_eq!(lines(b"a\n\xff\n", 9).unwrap_err(), "a.txt, line 2: not UTF-8");
    }

    #[test]
    fn a_file_may_be_as_long_as_the_bound_and_no_longer() {
        assert_eq!(whole(Path::new("a"), &b"12345"[..], 5).unwrap(), b"12345");
        let error = whole(Path::new("a"), io::repeat(b'x'), 5).unwrap_err();
        assert_eq!(error.to_string(), "a: the file is longer than 5 bytes, the most that is read");
    }
}

//! `vocab.txt`: one token per line, whose id is the number of its line from 0.
//!
//! The rule is that of `transformers` (`load_vocab`), so that a published vocabulary means here what it means there: a
//! token may be white space or empty, and if a token is there twice, its last line counts. Ids stay numbers of lines.

use std::io::Read;
use std::path::Path;

use crate::TextError;
use crate::lines::{Lines, whole};

/// The tokens that every vocabulary must have. They are never masked and never drawn as a replacement.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Largest `vocab.txt` in bytes. Those of multilingual BERT have 1 MB; a file of this size is held in memory several
/// times over while it is read.
pub const MOST_BYTES: u64 = 16 << 20;
/// Longest line of a `vocab.txt` in bytes. A word of more than 100 characters is never looked up.
pub const MOST_LINE_BYTES: usize = 1 << 10;

/// The content of a `vocab.txt`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyText {
    /// The file, byte for byte.
    pub text: String,
    /// Number of lines; every id is smaller.
    pub tokens: u32,
    /// Ids of [`SPECIAL_TOKENS`], in that order.
    pub special: [u32; 5],
}

impl VocabularyText {
    /// Reads and checks a `vocab.txt`; `path` is for error messages.
    ///
    /// # Errors
    /// A failed read, a file or a line that is too long, a line that is not UTF-8, and a special token that is missing.
    pub fn read(path: &Path, reader: impl Read) -> Result<Self, TextError> {
        let bytes = whole(path, reader, MOST_BYTES)?;
        let mut special = [None; 5];
        let mut lines = Lines::new(path, &bytes[..], MOST_LINE_BYTES);
        while let Some(token) = lines.next()? {
            if let Some(index) = SPECIAL_TOKENS.iter().position(|wanted| *wanted == token) {
                special[index] = Some(lines.number() as u32 - 1);
            }
        }
        let tokens = lines.number() as u32;
        let ids = special.map(Option::unwrap_or_default);
        let missing = SPECIAL_TOKENS.iter().zip(special).filter(|(_, id)| id.is_none());
        let missing: Vec<&str> = missing.map(|(token, _)| *token).collect();
        if !missing.is_empty() {
            return Err(TextError::MissingTokens { path: path.into(), tokens: missing });
        }
        // Every line was UTF-8 when it was read alone.
        let text = String::from_utf8(bytes).map_err(|_| TextError::NotUtf8 { path: path.into(), line: 1 })?;
        Ok(Self { text, tokens, special: ids })
    }

    /// The tokens with their ids, in the order of the lines. Of equal tokens, the last has the id that counts, as when
    /// they are collected into a map.
    pub fn ids(&self) -> impl Iterator<Item = (&str, u32)> {
        let lines = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text).split('\n');
        lines.map(|line| line.strip_suffix('\r').unwrap_or(line)).zip(0..self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(text: &str) -> Result<VocabularyText, String> {
        VocabularyText::read(Path::new("v.txt"), text.as_bytes()).map_err(|error| error.to_string())
    }

    /// As the official vocabulary of Chinese BERT, which has U+2028 as a token.
    #[test]
    fn a_token_may_be_white_space_or_empty_or_on_two_lines() {
        let read = read("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n\u{2028}\n\u{a0}\n\na\n##s\r\n").unwrap();
        assert_eq!((read.tokens, read.special), (11, [0, 1, 2, 3, 4]));
        let ids = read.ids().collect::<HashMap<_, _>>();
        let id = |token: &str| ids.get(token).copied();
        assert_eq!([id("\u{2028}"), id("\u{a0}"), id(""), id("a"), id("##s")], [6, 7, 8, 9, 10].map(Some));
        assert_eq!(ids.len(), 10);
    }

    #[test]
    fn a_vocabulary_needs_its_special_tokens_and_has_bounds() {
        assert_eq!(read("[PAD]\n[CLS]\n[SEP]\nthe\n").unwrap_err(), "v.txt: the vocabulary has no [UNK], no [MASK]");
        assert!(read("").unwrap_err().contains("no [PAD], no [UNK]"));
        assert!(read(&format!("[PAD]\n{}\n", "x".repeat(1025))).unwrap_err().starts_with("v.txt, line 2: the line"));
        let error = VocabularyText::read(Path::new("v"), std::io::repeat(b'\n')).unwrap_err();
        assert!(matches!(error, TextError::TooLarge { most: MOST_BYTES, .. }), "{error}");
    }
}

//! WordPiece: the vocabulary, and the tokenisation of uncased BERT.
//!
//! Text is cleaned, spaced around CJK characters, stripped of accents and lowercased, and split at white space and
//! punctuation; each word is then cut into the longest pieces of the vocabulary. A special token that is written out in
//! a text is ordinary text: only Lamina itself places `[CLS]`, `[SEP]` and `[MASK]`.

mod train;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ahash::AHashMap;
use rand_chacha::rand_core::Rng;
use recipe::seeds::below;
use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::DataError;
pub use texts::vocabulary::SPECIAL_TOKENS;
use texts::vocabulary::VocabularyText;
pub(super) use train::{WordCounts, count_words, train};

/// Number of words that an encoder caches, about 100 MB. Ordinary text has few others.
const CACHED_WORDS: usize = 1 << 20;

/// A checked vocabulary.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    text: String,
    digest: String,
    model: WordPiece,
    /// Ids of [`SPECIAL_TOKENS`], in that order.
    special: [u32; 5],
    special_sorted: [u32; 5],
    size: u32,
}

impl Vocabulary {
    /// Reads and checks a `vocab.txt`, by the rules of [`texts::vocabulary`].
    ///
    /// # Errors
    /// The file cannot be read, is too large, is not UTF-8, or lacks a special token.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::of_text(path, File::open(path).map_err(DataError::io(path))?)
    }

    /// Checks the content of a `vocab.txt`; `path` is for error messages only.
    pub(super) fn of_text(path: &Path, text: impl Read) -> Result<Self, DataError> {
        let read = VocabularyText::read(path, text)?;
        let ids: AHashMap<String, u32> = read.ids().map(|(token, id)| (token.to_owned(), id)).collect();
        let VocabularyText { text, tokens: size, special } = read;
        let mut special_sorted = special;
        special_sorted.sort_unstable();
        let model = WordPiece::builder().vocab(ids).build().map_err(DataError::Tokenizer)?;
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        Ok(Self { text, digest, model, special, special_sorted, size })
    }

    /// Number of lines of the vocabulary; every id is smaller.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The content of `vocab.txt`, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Hex sha256 of [`text`](Self::text).
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub fn pad(&self) -> u32 {
        self.special[0]
    }
    pub fn unknown(&self) -> u32 {
        self.special[1]
    }
    pub fn cls(&self) -> u32 {
        self.special[2]
    }
    pub fn sep(&self) -> u32 {
        self.special[3]
    }
    pub fn mask(&self) -> u32 {
        self.special[4]
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// A token drawn uniformly from those that are not special; `[MASK]` if all are special.
    pub fn random_ordinary(&self, draws: &mut impl Rng) -> u32 {
        let ordinary = self.size - self.special.len() as u32;
        if ordinary == 0 {
            return self.mask();
        }
        let draw = below(draws, u64::from(ordinary)) as u32;
        // The draw counts ordinary tokens; each special id at or below it moves it up by one.
        self.special_sorted.iter().fold(draw, |id, &special| if special <= id { id + 1 } else { id })
    }

    /// An encoder with an empty cache. Each thread needs its own.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { vocabulary: self, cached: AHashMap::new(), arena: Vec::new() }
    }
}

/// Turns text into ids, and caches the ids of each word: text repeats its words, and a look-up is many times faster
/// than tokenising a word again.
pub struct Encoder<'a> {
    vocabulary: &'a Vocabulary,
    /// Start and end of each word's ids in `arena`.
    cached: AHashMap<Box<str>, (u32, u32)>,
    arena: Vec<u32>,
}

impl<'a> Encoder<'a> {
    pub fn vocabulary(&self) -> &'a Vocabulary {
        self.vocabulary
    }

    /// The ids of `text`, without special tokens around them.
    pub fn encode(&mut self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of `text`.
    pub fn encode_into(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<(), DataError> {
        for chunk in chunks(text) {
            if let Some(&(start, end)) = self.cached.get(chunk) {
                ids.extend_from_slice(&self.arena[start as usize..end as usize]);
                continue;
            }
            let start = ids.len();
            for word in words(chunk)? {
                let tokens = self.vocabulary.model.tokenize(&word).map_err(DataError::Tokenizer)?;
                ids.extend(tokens.iter().map(|token| token.id));
            }
            if self.cached.len() < CACHED_WORDS {
                let from = self.arena.len() as u32;
                self.arena.extend_from_slice(&ids[start..]);
                self.cached.insert(chunk.into(), (from, self.arena.len() as u32));
            }
        }
        Ok(())
    }
}

/// Splits a text at white space, so that tokenising each chunk gives the same words as tokenising the whole text. Other
/// control characters do not split, because cleaning deletes them and thereby joins what is around them.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\n', '\t', '\r']).filter(|chunk| !chunk.is_empty())
}

/// The normalised words of a chunk.
fn words(chunk: &str) -> Result<Vec<String>, DataError> {
    if chunk.is_ascii() { Ok(ascii_words(chunk)) } else { unicode_words(chunk) }
}

/// The same words as [`unicode_words`] for ASCII, which most text is, at a tenth of the cost.
fn ascii_words(chunk: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in chunk.chars().filter(|c| !c.is_ascii_control()) {
        if !c.is_ascii_punctuation() {
            word.push(c.to_ascii_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        words.push(c.into());
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn unicode_words(text: &str) -> Result<Vec<String>, DataError> {
    let mut normalized = NormalizedString::from(text);
    BertNormalizer::default().normalize(&mut normalized).map_err(DataError::Tokenizer)?;
    let mut pieces = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut pieces).map_err(DataError::Tokenizer)?;
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

#[cfg(test)]
pub(super) mod tests;

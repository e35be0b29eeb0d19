//! Trains a WordPiece vocabulary: the same corpus gives the same file, on any machine and with any number of threads.

use std::collections::BTreeMap;
use std::path::Path;

use ahash::AHashMap;
use compact_str::CompactString;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use super::{DataError, SPECIAL_TOKENS, Vocabulary, chunks, words};

/// Largest number of characters that get pieces of their own, as in BERT's vocabularies. A word with any other is
/// unknown.
const ALPHABET: usize = 1000;
/// Least number of times that a pair of pieces has to occur to be merged.
const LEAST_FREQUENCY: u64 = 2;

/// Largest number of characters of a token. A word of more than 100 is unknown, so a longer token would never be used, and
/// a line of a vocabulary has a bound ([`texts::vocabulary::MOST_LINE_BYTES`]).
const MOST_CHARACTERS: usize = 200;

pub(in crate::data) type WordCounts = AHashMap<CompactString, u64>;

/// Adds to `counts` how often each normalised word occurs in `text`.
pub(in crate::data) fn count_words(text: &str, counts: &mut WordCounts) -> Result<(), DataError> {
    let mut chunk_counts: AHashMap<&str, u64> = AHashMap::new();
    chunks(text).for_each(|chunk| *chunk_counts.entry(chunk).or_default() += 1);
    for (chunk, count) in chunk_counts {
        for word in words(chunk)? {
            *counts.entry(CompactString::from(word)).or_default() += count;
        }
    }
    Ok(())
}

/// Trains a vocabulary of at most `size` tokens; it has fewer if no more pairs occur often enough. `path` is the
/// corpus, for error messages only.
pub(in crate::data) fn train(path: &Path, mut counts: WordCounts, size: u32) -> Result<Vocabulary, DataError> {
    let alphabet = alphabet(&counts, size as usize);
    counts.retain(|word, _| word.chars().all(|c| alphabet.binary_search(&c).is_ok()));
    // The trainer counts pairs in 32 bits, so the counts are scaled down. A pair cannot occur more often than there are
    // characters.
    let characters: u64 = counts.iter().map(|(word, count)| word.chars().count() as u64 * count).sum();
    let scale = characters.div_ceil(i32::MAX as u64).max(1);
    counts.values_mut().for_each(|count| *count = count.div_ceil(scale));

    // The trainer would number the pieces `##c` in the order of a hash map, and it breaks ties by these numbers. Listed
    // here as special tokens, they have fixed numbers, and training is a function of the counts.
    let pieces = alphabet.iter().flat_map(|c| [c.to_string(), format!("##{c}")]);
    let named = SPECIAL_TOKENS.iter().map(|token| (*token).to_owned()).chain(pieces);
    let trainer = BpeTrainer::builder()
        .continuing_subword_prefix("##".into())
        .special_tokens(named.map(|token| AddedToken::from(token, true)).collect())
        .vocab_size(size as usize)
        .min_frequency(LEAST_FREQUENCY)
        .max_token_length(Some(MOST_CHARACTERS))
        .show_progress(false)
        .build();
    let mut model = BPE::default();
    trainer.do_train(&counts, &mut model).map_err(DataError::Tokenizer)?;
    let by_id: BTreeMap<u32, String> =
        tokenizers::Model::get_vocab(&model).into_iter().map(|(token, id)| (id, token)).collect();
    let text: String = by_id.into_values().map(|token| token + "\n").collect();
    Vocabulary::of_text(path, text.as_bytes())
}

/// The most frequent characters, sorted by code point. Each needs two pieces, one for the start of a word and one for
/// its inside; together they take up at most half of the vocabulary.
fn alphabet(counts: &WordCounts, size: usize) -> Vec<char> {
    let mut by_character: AHashMap<char, u64> = AHashMap::new();
    for (word, count) in counts {
        word.chars().for_each(|c| *by_character.entry(c).or_default() += count);
    }
    let mut characters: Vec<(char, u64)> = by_character.into_iter().collect();
    characters.sort_unstable_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    characters.truncate(ALPHABET.min(size.saturating_sub(SPECIAL_TOKENS.len()) / 4));
    let mut alphabet: Vec<char> = characters.into_iter().map(|(c, _)| c).collect();
    alphabet.sort_unstable();
    alphabet
}

//! Builds a cache entry: one pass over the corpus for the vocabulary, if it is trained, and one for the ids.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::shard::Writer;
use super::{DataError, Index, Inputs, Progress, VocabularyInput};
use crate::data::corpus::{Corpus, Document};
use crate::data::pack::Packer;
use crate::data::pipeline::in_order;
use crate::data::vocabulary::{Vocabulary, WordCounts, count_words, train};

/// Builds the folder `entry`, whose lock the caller holds.
pub(super) fn build(
    corpus: &Corpus,
    vocabulary_input: VocabularyInput,
    inputs: &Inputs,
    entry: &Path,
    progress: Progress,
) -> Result<(), DataError> {
    let partial = Partial::create(entry.with_extension("partial"))?;
    let vocabulary = match vocabulary_input {
        VocabularyInput::Given(vocabulary) => *vocabulary,
        VocabularyInput::Trained { size } => train_vocabulary(corpus, size, inputs.held_out, progress)?,
    };
    let index = tokenize(corpus, &vocabulary, inputs, &partial.0, progress)?;
    write(&partial.0.join("vocab.txt"), vocabulary.text().as_bytes())?;
    let path = partial.0.join("index.json");
    let index = serde_json::to_vec_pretty(&index).map_err(|error| DataError::io(&path)(error.into()))?;
    write(&path, &index)?;
    partial.publish(entry)
}

fn train_vocabulary(corpus: &Corpus, size: u32, held_out: f64, progress: Progress) -> Result<Vocabulary, DataError> {
    let documents = corpus.documents();
    let read = documents.stored_bytes_read();
    let mut counts = WordCounts::new();
    let worker = || {
        |batch: Vec<Document>| {
            let mut counts = WordCounts::new();
            for document in batch.iter().filter(|document| !document.is_held_out(held_out)) {
                count_words(&document.text, &mut counts)?;
            }
            Ok(counts)
        }
    };
    in_order(documents, worker, |batch: WordCounts| {
        for (word, count) in batch {
            *counts.entry(word).or_default() += count;
        }
        progress("training vocabulary", read.load(Ordering::Relaxed), corpus.bytes);
        Ok(())
    })?;
    if counts.is_empty() {
        return Err(DataError::NoText { path: corpus.path().into() });
    }
    train(corpus.path(), counts, size)
}

/// The ids of one document, and the part that it belongs to.
struct Tokenized {
    ids: Vec<u32>,
    held_out: bool,
}

fn tokenize(
    corpus: &Corpus,
    vocabulary: &Vocabulary,
    inputs: &Inputs,
    folder: &Path,
    progress: Progress,
) -> Result<Index, DataError> {
    let documents = corpus.documents();
    let read = documents.stored_bytes_read();
    let part = |name| -> Result<_, DataError> {
        Ok((Packer::new(vocabulary, inputs.length), Writer::create(folder.join(name), vocabulary.size())?))
    };
    let (mut train, mut valid) = (part("train.ids")?, part("valid.ids")?);
    let worker = || {
        let mut encoder = vocabulary.encoder();
        move |batch: Vec<Document>| {
            let tokenized = |document: Document| {
                let held_out = document.is_held_out(inputs.held_out);
                Ok(Tokenized { ids: encoder.encode(&document.text)?, held_out })
            };
            batch.into_iter().map(tokenized).collect::<Result<Vec<_>, DataError>>()
        }
    };
    in_order(documents, worker, |batch| {
        for document in batch {
            let (packer, writer) = if document.held_out { &mut valid } else { &mut train };
            writer.count_document(&document.ids, vocabulary.unknown());
            packer.push(&document.ids, |sequence| writer.write(sequence))?;
        }
        progress("tokenizing", read.load(Ordering::Relaxed), corpus.bytes);
        Ok(())
    })?;
    let (train, valid) = (train.1, valid.1);
    let documents = train.shard().documents + valid.shard().documents;
    if documents == 0 {
        return Err(DataError::NoText { path: corpus.path().into() });
    }
    let parts = [("training", &train), ("held-out", &valid)];
    if let Some((part, _)) = parts.iter().find(|(_, writer)| writer.shard().documents == 0) {
        let path = corpus.path().into();
        return Err(DataError::EmptyPart { path, documents, part, held_out: inputs.held_out });
    }
    for (part, writer) in parts {
        check(corpus, inputs, part, writer)?;
    }
    Ok(Index {
        inputs: inputs.clone(),
        vocabulary: vocabulary.digest().into(),
        train: train.finish()?,
        valid: valid.finish()?,
    })
}

fn check(corpus: &Corpus, inputs: &Inputs, part: &'static str, writer: &Writer) -> Result<(), DataError> {
    let (path, shard) = (PathBuf::from(corpus.path()), writer.shard());
    if shard.sequences == 0 {
        return Err(DataError::TooShort { path, part, tokens: shard.tokens, length: inputs.length });
    }
    if !writer.has_known() {
        return Err(DataError::AllUnknown { path, part });
    }
    Ok(())
}

/// A folder that is being filled. Unless it is published, it is removed again, so that a full disk gets its space back.
struct Partial(PathBuf);

impl Partial {
    /// Creates the folder, after removing what a killed process left under this name. The lock ensures that no other
    /// process uses it.
    fn create(path: PathBuf) -> Result<Self, DataError> {
        remove(&path)?;
        fs::create_dir(&path).map_err(DataError::io(&path))?;
        Ok(Self(path))
    }

    /// Renames the folder to `entry`, and replaces a damaged one.
    fn publish(self, entry: &Path) -> Result<(), DataError> {
        sync_folder(&self.0)?;
        // A process that has mapped the damaged entry can still read its files; they are freed with the last mapping.
        remove(entry)?;
        fs::rename(&self.0, entry).map_err(DataError::io(entry))?;
        entry.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("{error}");
        }
    }
}

fn remove(folder: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DataError::Io { path: folder.into(), source })
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let mut file = File::create(path).map_err(DataError::io(path))?;
    file.write_all(bytes).map_err(DataError::io(path))?;
    file.sync_all().map_err(DataError::io(path))
}

fn sync_folder(folder: &Path) -> Result<(), DataError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(DataError::io(folder))
}

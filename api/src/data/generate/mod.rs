//! `lamina data generate`: a small language with agreement, topics and synonyms, its corpus, its vocabulary, and
//! GLUE-shaped tasks about it; and images of a few shapes. For machines with neither data nor network; its scores say nothing about GLUE.
//!
//! | module | what it is |
//! |---|---|
//! | [`words`] | the words |
//! | [`grammar`] | facts and the sentences that say them |
//! | [`tasks`] | the tasks |
//! | [`images`] | images of shapes |

mod grammar;
mod images;
mod tasks;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use recipe::Task;

use grammar::{Draw, Fact};
use words::TOPICS;

/// A folder with this file holds generated data.
pub(super) const MARK: &str = "GENERATED.md";
/// The names of generated data sets begin so.
pub(super) const PREFIX: &str = "generated-";

const CORPUS_BYTES: usize = 2_000_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// New folder for corpus/, vocab/, glue/, images/ and GENERATED.md
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Equal seeds write equal files
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let out = &arguments.out;
    let taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) && !out.join(MARK).exists();
    ensure!(!taken, "{} holds data that was not generated; name another folder with --out", out.display());
    write(out, arguments.seed).with_context(|| format!("cannot write to {}", out.display()))?;
    println!(
        "Generated data with seed {} is in {1}. Register it with: lamina data import {1}",
        arguments.seed,
        out.display()
    );
    Ok(())
}

fn write(out: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(out)?;
    // First, so that nothing here can ever pass for real data.
    fs::write(out.join(MARK), mark(seed))?;
    let corpus = corpus(seed);
    let mut texts = vec![corpus.clone()];
    for task in Task::ALL {
        let folder = out.join("glue").join(task.row().folder);
        fs::create_dir_all(&folder)?;
        for file in tasks::files(task, seed) {
            let text = file.lines.join("\n") + "\n";
            fs::write(folder.join(file.name), &text)?;
            texts.push(text);
        }
    }
    for (name, text) in [("corpus/generated-text.txt", corpus), ("vocab/generated-words-vocab.txt", vocabulary(&texts))]
    {
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    let shapes = out.join("images/generated-shapes");
    fs::create_dir_all(&shapes)?;
    for (name, bytes) in images::files(seed) {
        fs::write(shapes.join(name), bytes)?;
    }
    Ok(())
}

fn mark(seed: u64) -> String {
    format!(
        "# Generated data\n\n\
         Everything in this folder was written by `lamina data generate --seed {seed}`: a grammar with a few hundred words.\n\
         `glue/` has the layout of GLUE and none of its content. Scores on it are not GLUE scores and must not be\n\
         reported as such. `images/` holds shapes in the files of MNIST. `lamina data import` registers it all under names\n\
         that begin with `{PREFIX}`.\n"
    )
}

/// Documents of a few paragraphs, each about one topic; one paragraph a line, a blank line between documents.
fn corpus(seed: u64) -> String {
    let mut draw = Draw::new(seed, 0);
    let mut text = String::new();
    while text.len() < CORPUS_BYTES {
        let topic = draw.below(TOPICS.len());
        for _ in 0..2 + draw.below(4) {
            // A paragraph stays with its people: what was said of them once is said again.
            let mut fact = Fact::draw(&mut draw, topic);
            let sentences: Vec<String> = (0..3 + draw.below(5))
                .map(|_| {
                    fact = Fact {
                        person: fact.person,
                        people: fact.people,
                        good: fact.good,
                        ..Fact::draw(&mut draw, topic)
                    };
                    fact.tell(&mut draw)
                })
                .collect();
            text.push_str(&sentences.join(" "));
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// BERT's special tokens, every word and sign in lower case, and every character, so that nothing is unknown.
fn vocabulary(texts: &[String]) -> String {
    let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).to_vec();
    let lower = texts.join("\n").to_lowercase().replace('\u{feff}', "");
    let characters: BTreeSet<char> =
        lower.chars().filter(|c| !c.is_whitespace()).chain('a'..='z').chain('0'..='9').collect();
    tokens.extend(characters.iter().map(char::to_string));
    tokens.extend(characters.iter().filter(|c| c.is_ascii_alphanumeric()).map(|c| format!("##{c}")));
    let words: BTreeSet<&str> = lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1).collect();
    tokens.extend(words.into_iter().map(String::from));
    tokens.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_write_equal_files_and_mark_them() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, other] = ["one", "two", "other"].map(|name| folder.path().join(name));
        for (out, seed) in [(&one, 1), (&two, 1), (&other, 2)] {
            run(&Arguments { out: out.clone(), seed }).unwrap();
        }
        for name in [
            "corpus/generated-text.txt",
            "glue/RTE/train.tsv",
            "vocab/generated-words-vocab.txt",
            "images/generated-shapes/train-images-idx3-ubyte",
        ] {
            let read = |out: &Path| fs::read(out.join(name)).unwrap();
            assert_eq!(read(&one), read(&two), "{name}");
        }
        let corpus = |out: &Path| fs::read_to_string(out.join("corpus/generated-text.txt")).unwrap();
        assert_ne!(corpus(&one), corpus(&other));
        assert!(fs::read_to_string(one.join(MARK)).unwrap().contains("must not be"));
    }

    #[test]
    fn a_corpus_is_documents_of_paragraphs() {
        let text = corpus(0);
        assert!((CORPUS_BYTES..CORPUS_BYTES + 10_000).contains(&text.len()));
        let documents: Vec<&str> = text.trim_end().split("\n\n").collect();
        assert!(documents.len() > 500);
        assert!(documents.iter().all(|document| (2..=5).contains(&document.lines().count())));
    }

    #[test]
    fn no_word_is_missing_from_the_vocabulary_and_none_is_there_twice() {
        let text = corpus(0);
        let vocabulary = vocabulary(std::slice::from_ref(&text));
        let tokens: BTreeSet<&str> = vocabulary.lines().collect();
        assert_eq!(tokens.len(), vocabulary.lines().count());
        let lower = text.to_lowercase();
        assert!(
            lower
                .split(|c: char| !c.is_ascii_alphabetic())
                .filter(|word| !word.is_empty())
                .all(|word| tokens.contains(word))
        );
    }

    #[test]
    fn real_data_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.txt"), "").unwrap();
        let error = run(&Arguments { out: folder.path().to_owned(), seed: 0 }).unwrap_err().to_string();
        assert!(error.contains("not generated"), "{error}");
    }
}

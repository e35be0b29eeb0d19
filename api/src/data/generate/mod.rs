//! `lamina data generate` writes data for machines without data and network: a corpus in a small language with
//! agreement, topics and synonyms, the vocabulary of this language, GLUE-shaped tasks about it, and images of four
//! shapes. Scores on generated data say nothing about GLUE.
//!
//! | module | content |
//! |---|---|
//! | [`words`] | the words |
//! | [`grammar`] | scenes and the sentences that describe them |
//! | [`tasks`] | the tasks |
//! | [`images`] | the images |

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

use grammar::{Draw, Scene};
use words::TOPICS;

use crate::home::Home;
use crate::terminal::say;

/// The file that marks a folder of generated data.
pub(super) const MARK: &str = "GENERATED.md";
/// The prefix of the names of generated data sets.
pub(super) const PREFIX: &str = "generated-";

const CORPUS_BYTES: usize = 2_000_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder to make, with corpus/, vocab/, glue/, images/ and GENERATED.md [default: data/generated in the home, where
    /// `lamina up` may read]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Home of a local `lamina up`
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Seed of the random draws; equal seeds give equal files
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let out = &match arguments.out {
        Some(out) => out,
        None => Home::new(arguments.home)?.data_folder().join("generated"),
    };
    let taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) && !out.join(MARK).exists();
    ensure!(!taken, "{} contains files that were not generated; name another folder with --out", out.display());
    write(out, arguments.seed).with_context(|| format!("cannot write to {}", out.display()))?;
    say(format_args!(
        "Generated data with seed {} is in {1}. Register it with: lamina data import {1}",
        arguments.seed,
        out.display()
    ))
}

fn write(out: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(out)?;
    // The mark is written first, so that even incomplete data does not pass for real data.
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
         `lamina data generate --seed {seed}` wrote everything in this folder, by a grammar of a few hundred words.\n\
         `glue/` has the layout of GLUE and none of its content. Scores on it are not GLUE scores and must not be\n\
         reported as such. `images/` has images of shapes in the format of MNIST. `lamina data import` registers all of\n\
         it under names that begin with `{PREFIX}`.\n"
    )
}

/// Documents of a few paragraphs, each about one topic, with one paragraph per line and a blank line between documents.
fn corpus(seed: u64) -> String {
    let mut draw = Draw::new(seed, 0);
    let mut text = String::new();
    while text.len() < CORPUS_BYTES {
        let topic = draw.below(TOPICS.len());
        for _ in 0..2 + draw.below(4) {
            // All sentences of a paragraph are about the same people, whose character is good in all of them or bad in all.
            let mut scene = Scene::draw(&mut draw, topic);
            let sentences: Vec<String> = (0..3 + draw.below(5))
                .map(|_| {
                    scene = Scene {
                        person: scene.person,
                        people: scene.people,
                        good: scene.good,
                        ..Scene::draw(&mut draw, topic)
                    };
                    scene.corpus_sentence(&mut draw)
                })
                .collect();
            text.push_str(&sentences.join(" "));
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// A vocabulary without unknown words: BERT's special tokens, every character, and every word in lower case.
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
    fn equal_seeds_give_equal_files_with_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, other] = ["one", "two", "other"].map(|name| folder.path().join(name));
        for (out, seed) in [(&one, 1), (&two, 1), (&other, 2)] {
            run(Arguments { out: Some(out.clone()), home: None, seed }).unwrap();
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
    fn a_corpus_consists_of_documents_of_two_to_five_paragraphs() {
        let text = corpus(0);
        assert!((CORPUS_BYTES..CORPUS_BYTES + 10_000).contains(&text.len()));
        let documents: Vec<&str> = text.trim_end().split("\n\n").collect();
        assert!(documents.len() > 500);
        assert!(documents.iter().all(|document| (2..=5).contains(&document.lines().count())));
    }

    #[test]
    fn the_vocabulary_has_every_word_of_the_corpus_once() {
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
    fn real_data_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.txt"), "").unwrap();
        let error =
            run(Arguments { out: Some(folder.path().to_owned()), home: None, seed: 0 }).unwrap_err().to_string();
        assert!(error.contains("not generated"), "{error}");
    }
}

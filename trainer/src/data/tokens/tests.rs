use std::collections::BTreeSet;
use std::sync::Barrier;

use recipe::{Failure, FailureKind, Mlm};
use tempfile::TempDir;

use super::shard::Writer;
use super::*;
use crate::data::masking::{Masking, Order, masked_batch, masked_per_sequence, validation_batch};

const LENGTH: u32 = 16;
const HELD_OUT: f64 = 0.2;

/// A folder with a small corpus, a vocabulary of its words, and a cache.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write("corpus.txt", &Self::documents(0..300).join("\n"));
        let words: Vec<String> = (0..300).map(|i| format!("w{i}")).collect();
        bench.write("vocab.txt", &format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{}\n", words.join("\n")));
        bench
    }

    /// Document n begins with the word `wn`, which occurs in no other document, and goes on with common words.
    fn documents(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|n| format!("w{n} {}\n", "w7 w8 w9 ".repeat(3 + n % 5))).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn open(&self, source: &VocabularySource, length: u32) -> (Result<Shards, DataError>, BTreeSet<String>) {
        let mut seen = BTreeSet::new();
        let mut progress = |what: &str, done: u64, total: u64| {
            assert!(done <= total);
            seen.insert(what.to_owned());
        };
        let shards = Shards::build_or_open(
            &self.path("corpus.txt"),
            source,
            &self.path("cache"),
            HELD_OUT,
            length,
            &mut progress,
        );
        (shards, seen)
    }

    fn file(&self) -> VocabularySource {
        VocabularySource::File(self.path("vocab.txt"))
    }

    /// The shards, and true if they had to be built.
    fn built(&self) -> (Shards, bool) {
        let (shards, seen) = self.open(&self.file(), LENGTH);
        (shards.unwrap(), seen.contains("tokenizing"))
    }

    fn error(&self, length: u32) -> String {
        let error = self.open(&self.file(), length).0.map(|_| ()).unwrap_err();
        assert!(self.entries().is_empty(), "a failed build leaves nothing behind");
        Failure::from(error).message
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("cache")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

fn ids(sequences: &Sequences) -> Vec<Vec<i64>> {
    (0..sequences.sequences()).map(|i| sequences.sequence(i).collect()).collect()
}

#[test]
fn every_document_is_in_one_part_and_a_second_start_builds_nothing() {
    let bench = Bench::new();
    let (shards, built) = bench.built();
    assert!(built);
    assert_eq!((shards.train.length(), shards.valid.length()), (LENGTH as usize, LENGTH as usize));
    // Word n has id n + 5. Words 7 to 9 are in every document, each other word is in one.
    let names = |sequences| -> BTreeSet<i64> {
        ids(sequences).concat().into_iter().filter(|&id| id >= 5 && !(12..=14).contains(&id)).collect()
    };
    let (train, valid) = (names(&shards.train), names(&shards.valid));
    assert!(train.is_disjoint(&valid));
    // The last documents of each part may be missing, because they do not fill a sequence.
    assert!((294..=297).contains(&(train.len() + valid.len())), "{} + {}", train.len(), valid.len());
    assert!((30..=90).contains(&valid.len()));

    let (again, built) = bench.built();
    assert!(!built);
    assert_eq!((ids(&again.train), ids(&again.valid)), (ids(&shards.train), ids(&shards.valid)));
    assert_eq!(again.vocabulary.text(), fs::read_to_string(bench.path("vocab.txt")).unwrap());
}

#[test]
fn another_corpus_vocabulary_or_length_is_another_entry() {
    let bench = Bench::new();
    bench.built();
    bench.open(&bench.file(), LENGTH + 1).0.unwrap();
    bench.open(&VocabularySource::Trained { size: 100 }, LENGTH).0.unwrap();
    let text = fs::read_to_string(bench.path("vocab.txt")).unwrap();
    bench.write("vocab.txt", &(text + "more\n"));
    assert!(bench.built().1);
    bench.write("corpus.txt", &Bench::documents(0..299).join("\n"));
    assert!(bench.built().1);
    assert_eq!(bench.entries().len(), 5);
}

#[test]
fn a_trained_vocabulary_comes_from_the_training_part_alone_and_is_the_same_each_time() {
    let bench = Bench::new();
    let source = VocabularySource::Trained { size: 400 };
    let (shards, seen) = bench.open(&source, LENGTH);
    let shards = shards.unwrap();
    assert_eq!(seen, ["reading corpus", "tokenizing", "training vocabulary"].map(String::from).into());
    fs::remove_dir_all(bench.path("cache")).unwrap();
    assert_eq!(bench.open(&source, LENGTH).0.unwrap().vocabulary.text(), shards.vocabulary.text());

    // The character z is only in a held-out document.
    let held_out =
        (0..300).find(|&index| crate::data::corpus::Document { index, text: String::new() }.is_held_out(HELD_OUT));
    let mut documents = Bench::documents(0..300);
    documents[held_out.unwrap() as usize] += "zzzz zzzz zzzz\n";
    documents[held_out.unwrap() as usize + 1] += "yyyy yyyy\n";
    bench.write("corpus.txt", &documents.join("\n"));
    let vocabulary = bench.open(&source, LENGTH).0.unwrap().vocabulary;
    assert!(!vocabulary.text().contains('z'));
    assert!(vocabulary.text().contains('y'));
}

#[test]
fn a_damaged_entry_is_built_again() {
    let bench = Bench::new();
    let (shards, _) = bench.built();
    let expected = (ids(&shards.train), ids(&shards.valid));
    let entry = bench.entries().remove(0);
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damage: [(&str, Damage); 8] = [
        ("train.ids", |bytes| bytes[..bytes.len() - 1].to_vec()),
        ("train.ids", |mut bytes| {
            bytes[40] ^= 1;
            bytes
        }),
        ("valid.ids", |_| Vec::new()),
        ("vocab.txt", |bytes| bytes[..bytes.len() - 2].to_vec()),
        ("vocab.txt", |bytes| String::from_utf8(bytes).unwrap().replace("w299", "x299").into_bytes()),
        ("index.json", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("index.json", |bytes| {
            String::from_utf8(bytes).unwrap().replace("\"length\": 16", "\"length\": 17").into_bytes()
        }),
        ("index.json", |bytes| {
            String::from_utf8(bytes).unwrap().replace("\"bytes_per_id\": 2", "\"bytes_per_id\": 3").into_bytes()
        }),
    ];
    for (name, damage) in damage {
        let path = entry.join(name);
        let before = fs::read(&path).unwrap();
        let after = damage(before.clone());
        assert_ne!(before, after, "{name} is damaged");
        fs::write(&path, after).unwrap();
        let (again, built) = bench.built();
        assert!(built, "{name}");
        assert_eq!((ids(&again.train), ids(&again.valid)), expected, "{name}");
        assert!(!bench.built().1, "{name}");
    }
    fs::remove_file(entry.join("valid.ids")).unwrap();
    assert!(bench.built().1);
    // A mapping stays valid after its entry is removed.
    drop(shards);
    let (held, _) = bench.built();
    fs::remove_dir_all(&entry).unwrap();
    assert!(bench.built().1);
    assert_eq!(ids(&held.train), expected.0);
}

#[test]
fn a_folder_left_by_a_killed_builder_is_replaced() {
    let bench = Bench::new();
    let entry = {
        bench.built();
        bench.entries().remove(0)
    };
    fs::rename(&entry, entry.with_extension("partial")).unwrap();
    fs::write(entry.with_extension("partial").join("train.ids"), b"half").unwrap();
    assert!(bench.built().1);
    assert_eq!(bench.entries(), [entry]);
}

#[test]
fn several_builders_of_one_entry_build_it_once() {
    let bench = Bench::new();
    let start = Barrier::new(4);
    let opened: Vec<(Shards, bool)> = std::thread::scope(|scope| {
        let build = || {
            start.wait();
            bench.built()
        };
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(opened.iter().filter(|(_, built)| *built).count(), 1);
    assert_eq!(bench.entries().len(), 1);
    assert!(opened.iter().all(|(shards, _)| ids(&shards.train) == ids(&opened[0].0.train)));
}

#[test]
fn bad_text_is_an_error_with_its_path_and_leaves_no_entry() {
    let bench = Bench::new();
    let corpus = bench.path("corpus.txt");
    let named = |rest: &str| format!("{}{rest}", corpus.display());

    bench.write("corpus.txt", " \n\n");
    assert_eq!(bench.error(LENGTH), named(": there is no text in it"));
    bench.write("corpus.txt", "w1 w2 w3\n");
    assert_eq!(
        bench.error(LENGTH),
        named(
            ": none of the 1 documents is in the held-out part at a held-out share of 0.2: add documents or change the share"
        )
    );
    bench.write("corpus.txt", &Bench::documents(0..40).join("\n"));
    let message = bench.error(512);
    assert!(message.starts_with(&named(": the held-out part has ")), "{message}");
    bench.write("corpus.txt", &"东 é x\n\n".repeat(100));
    assert_eq!(bench.error(8), named(": the training part contains no word of the vocabulary"));
    fs::write(&corpus, b"w1 w2\nw3 \xff\n").unwrap();
    assert_eq!(bench.error(LENGTH), named(", line 2: not UTF-8"));
}

#[test]
fn a_full_disk_is_reported_as_disk_full() {
    let mut writer = Writer::create("/dev/full".into(), 1000).unwrap();
    let error = (0..1 << 17).try_for_each(|_| writer.write(&[1; 16])).unwrap_err();
    assert_eq!(Failure::from(error).kind, FailureKind::DiskFull);
}

#[test]
fn ids_of_a_large_vocabulary_take_four_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (size, bytes) in [(1 << 16, 2), ((1 << 16) + 1, 4)] {
        let path = folder.path().join("train.ids");
        let mut writer = Writer::create(path.clone(), size).unwrap();
        writer.write(&[0, 1, size - 1]).unwrap();
        let shard = writer.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 * bytes);
        let sequences = Sequences::open(&path, &shard, 3).unwrap();
        assert_eq!(sequences.sequence(0).collect::<Vec<_>>(), [0, 1, i64::from(size) - 1]);
    }
}

#[test]
fn a_batch_is_masked_row_by_row_and_validation_is_masked_the_same_in_any_batch() {
    let bench = Bench::new();
    let (shards, _) = bench.built();
    let (train, vocabulary, objective) = (&shards.train, &shards.vocabulary, Mlm::default());
    let masking = Masking::new(&objective, objective.rate, vocabulary);
    let rows = Order::new(4, train.sequences() as u32).batch_sequences(8, 11);
    let batch = masked_batch(train, &rows, 0, &masking, 4, 11);
    let batch = batch.masked();
    assert_eq!(batch.ids.len(), 8 * LENGTH as usize);
    assert_eq!(batch.positions.len(), 8 * masked_per_sequence(LENGTH as usize, objective.rate));
    let mut restored = batch.ids.clone();
    for (&at, &label) in batch.positions.iter().zip(&batch.labels) {
        restored[at as usize] = label;
    }
    let original: Vec<i64> = rows.iter().flat_map(|&row| train.sequence(row as usize)).collect();
    assert_eq!(restored, original);
    assert_ne!(batch.positions, masked_batch(train, &rows, 0, &masking, 4, 12).masked().positions);
    assert_ne!(batch.positions, masked_batch(train, &rows, 0, &masking, 5, 11).masked().positions);

    let valid = |rows| validation_batch(&shards.valid, rows, &masking).masked().ids.clone();
    assert_eq!(valid(0..6), [valid(0..1), valid(1..4), valid(4..6)].concat());
}

//! Measures how fast text becomes batches, in tokens/s: tokenising and packing with an empty cache, then masking.
//!
//!     cargo bench -p trainer --bench loader -- corpus.txt vocab.txt

use std::path::Path;
use std::thread::available_parallelism;
use std::time::Instant;

use recipe::Mlm;
use trainer::data::masking::{Masking, Order, masked_batch};
use trainer::data::tokens::{Shards, VocabularySource};

const LENGTH: u32 = 128;
const BATCH: u32 = 32;
const STEPS: u64 = 2000;

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [corpus, vocabulary] = &paths[..] else {
        eprintln!("usage: loader CORPUS VOCABULARY, a text and a vocab.txt");
        std::process::exit(2);
    };
    let cache = tempfile::tempdir().expect("a temporary folder");
    let source = VocabularySource::File(vocabulary.into());
    let open = || {
        Shards::build_or_open(Path::new(corpus), &source, cache.path(), 0.02, LENGTH, &mut |_, _, _| ())
            .expect("a corpus and a vocabulary")
    };
    let started = Instant::now();
    let shards = open();
    let seconds = started.elapsed().as_secs_f64();
    let tokens = (shards.train.sequences() + shards.valid.sequences()) as f64 * f64::from(LENGTH);
    let cores = available_parallelism().map_or(1, usize::from);
    println!("tokenised and packed: {:.2} million tokens/s on {cores} cores", tokens / seconds / 1e6);
    let started = Instant::now();
    drop(open());
    println!("opened again: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let masking = Masking::new(&Mlm::default(), Mlm::default().rate, &shards.vocabulary);
    let mut order = Order::new(0, shards.train.sequences() as u32);
    let started = Instant::now();
    let mut made = 0;
    for step in 0..STEPS {
        let batch = masked_batch(&shards.train, &order.batch_sequences(BATCH, step), 0, &masking, 0, step);
        made += batch.masked().ids.len();
    }
    println!("masked batches: {:.1} million tokens/s on one core", made as f64 / started.elapsed().as_secs_f64() / 1e6);
}

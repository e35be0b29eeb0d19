//! The worth of each kernel: a pre-train step with all kernels, beside the step in which libtorch's operators replace one.
//!
//!     cargo bench -p trainer --bench kernels -- --rounds 4 --steps 4
//!
//! The size is `narrow`: 12 blocks of width 128, 2 heads, 32 sequences of 128 tokens, a vocabulary of 30,522. The two kinds
//! of steps alternate (with, without, without, with, ...), so that a drift of the machine adds the same to both. A ratio is
//! the median over the rounds; beside it stand the lowest and the highest round.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use recipe::{Moment, Pretrain, Seeds};
use serde_json::json;
use tch::Device;
use trainer::data::tokens::{Shards, VocabularySource};
use trainer::optimizer::Optimizer;
use trainer::pretraining::Pretraining;
use trainer::train::{Training, update};
use trainer::{device, kernel};

const LENGTH: u32 = 128;
const BATCH: u32 = 32;
const WORDS: u64 = 30_517;
/// Steps of the schedule, more than are run.
const STEPS: u64 = 100_000;
/// The last comparison: every operator is replaced.
const ALL: &str = "all of them";

#[derive(Parser)]
struct Options {
    /// Rounds over all operators.
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Steps of each kind per round and operator; an even number.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    /// `float32` or `bfloat16`; both by default.
    #[arg(long, default_values = ["float32", "bfloat16"])]
    precision: Vec<String>,
    /// `cargo bench` passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let threads = device::pin_threads(None);
    kernel::keep_memory();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shards = Arc::new(shards(folder.path()));
    kernel::choose("");
    let description = device::description(Device::Cpu, threads);
    println!(
        "{}, {threads} threads, {} kernels, libtorch {}",
        description.model,
        kernel::chosen(),
        description.libtorch
    );
    println!("{} rounds of {} steps of each kind", options.rounds, options.steps);
    for precision in &options.precision {
        let mut run = Run::new(precision, shards.clone());
        println!("\n{precision}\n");
        println!(
            "| replaced by libtorch | ms per step with all kernels | without this one | ratio | lowest to highest round |"
        );
        println!("|---|---:|---:|---:|---|");
        let operators: Vec<&str> = kernel::OPERATORS.into_iter().chain([ALL]).collect();
        let mut rounds = vec![Vec::new(); operators.len()];
        for _ in 0..options.rounds {
            for (operator, rounds) in operators.iter().zip(&mut rounds) {
                rounds.push(run.compare(operator, options.steps));
            }
        }
        for (operator, rounds) in operators.iter().zip(rounds) {
            let ratios = sorted(rounds.iter().map(|(with, without)| without / with));
            let median = |times: Vec<f64>| times[times.len() / 2] * 1e3;
            let with = median(sorted(rounds.iter().map(|(with, _)| *with)));
            let without = median(sorted(rounds.iter().map(|(_, without)| *without)));
            let [low, middle, high] = [0, ratios.len() / 2, ratios.len() - 1].map(|place| ratios[place]);
            println!("| {operator} | {with:.0} | {without:.0} | {middle:.3} | {low:.3} to {high:.3} |");
        }
    }
}

/// A model in training.
struct Run {
    training: Pretraining,
    optimizer: Optimizer,
    step: u64,
}

impl Run {
    fn new(precision: &str, shards: Arc<Shards>) -> Self {
        let recipe = json!({
            "model": {"blocks": 12, "hidden": 128, "heads": 2, "intermediate": 512, "norm": "pre"},
            "learning_rate": {"peak": 1e-4}, "steps": STEPS, "batch": BATCH, "length": LENGTH, "precision": precision,
            "corpus": {"name": "random words"}, "vocabulary": {"kind": "file", "dataset": {"name": "numbers"}},
            "validate_every": STEPS,
        });
        let recipe: Pretrain = serde_json::from_value(recipe).expect("a recipe; is the precision float32 or bfloat16?");
        let training = Pretraining::new(recipe, Seeds::default(), shards, Device::Cpu);
        let optimizer = Optimizer::new(training.optimizer(), training.weights());
        Self { training, optimizer, step: 0 }
    }

    /// Mean seconds of a step with all kernels, and of a step without the kernels of `operator`.
    fn compare(&mut self, operator: &str, steps: u32) -> (f64, f64) {
        let with = || assert!(kernel::choose(""));
        let without = || assert!(if operator == ALL { kernel::choose("libtorch") } else { kernel::replace(operator) });
        // Untimed: oneDNN and the allocator prepare for new shapes in the first step of each kind.
        for prepare in [&with as &dyn Fn(), &without] {
            prepare();
            self.step();
        }
        let mut seconds = [0.0, 0.0];
        for pair in 0..steps {
            for kind in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
                with();
                if kind == 1 {
                    without();
                }
                seconds[kind] += self.step();
            }
        }
        with();
        let [with, without] = seconds.map(|seconds| seconds / f64::from(steps));
        (with, without)
    }

    /// The seconds that a step takes.
    fn step(&mut self) -> f64 {
        let moment = Moment::of_step(self.step, STEPS);
        self.step += 1;
        let start = Instant::now();
        let loss = update(&mut self.training, &mut self.optimizer, &moment).loss;
        let seconds = start.elapsed().as_secs_f64();
        assert!(loss.is_finite(), "the loss of step {} is {loss}", self.step);
        seconds
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Random words, each one token of the vocabulary.
fn shards(folder: &Path) -> Shards {
    // The words aaaa, aaab, ...: only letters, so that the tokeniser leaves each in one piece.
    let word = |number: u64| -> String {
        [3, 2, 1, 0].map(|place| char::from(b'a' + (number / 26u64.pow(place) % 26) as u8)).iter().collect()
    };
    let vocabulary: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(String::from)
        .into_iter()
        .chain((0..WORDS).map(word))
        .collect();
    let document = |number: u64| -> String {
        let words = (number * 2000..(number + 1) * 2000).map(|place| word(mixed(place) % WORDS));
        words.collect::<Vec<_>>().join(" ")
    };
    let text: Vec<String> = (0..300).map(document).collect();
    let [corpus_path, vocabulary_path] = ["text.txt", "vocab.txt"].map(|name| folder.join(name));
    fs::write(&corpus_path, text.join("\n\n") + "\n").expect("a corpus");
    fs::write(&vocabulary_path, vocabulary.join("\n") + "\n").expect("a vocabulary");
    let source = VocabularySource::File(vocabulary_path);
    Shards::build_or_open(&corpus_path, &source, &folder.join("cache"), 0.02, LENGTH, &mut |_, _, _| ())
        .expect("sequences of the corpus")
}

/// A number that looks random (the finaliser of SplitMix64).
fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

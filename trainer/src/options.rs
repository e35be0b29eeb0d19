//! The flags of `lamina-trainer run`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recipe::{Pretrain, Recipe, Vocabulary};

use crate::device::Choice;
use crate::failure::TrainerError;

/// Names the recipe, the data and the folder to write to.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The recipe and seeds of the trial, a JSON file {"recipe": {"stage": "pretrain" | "finetune" | "timing" |
    /// "probe", ...}, "seeds": {...}}
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Folder for checkpoints and report.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Continue from the newest checkpoint in --out, or start at step 0 if there is none
    #[arg(long)]
    pub resume: bool,
    /// Text to pre-train on: a file, or a folder of .txt, .txt.xz, .txt.gz or .txt.zst files, with one paragraph per
    /// line and a blank line between documents. For a recipe with images: the folder of their IDX (MNIST) or
    /// CIFAR-10/100 files
    #[arg(long, value_name = "PATH")]
    pub corpus: Option<PathBuf>,
    /// vocab.txt, one WordPiece per line; required unless the recipe trains a vocabulary or learns from images
    #[arg(long, value_name = "FILE")]
    pub vocabulary: Option<PathBuf>,
    /// Folder with the GLUE tasks in their official layout (RTE/train.tsv, ...), to fine-tune on
    #[arg(long, value_name = "DIR")]
    pub glue: Option<PathBuf>,
    /// Checkpoint folder to fine-tune from or to probe, written by this program or published in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Folder for tokenised text, shared by runs [default: <OUT>/cache]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// auto (the first GPU, or the CPU if there is none), cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
    /// CPU threads; two runs are equal bit for bit only with the same number [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<u32>>,
    /// Seconds between checkpoints; 0 writes one after every step
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    pub checkpoint_seconds: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Options {
    pub fn corpus(&self) -> Result<&Path, TrainerError> {
        given("--corpus", &self.corpus)
    }

    pub fn vocabulary(&self) -> Result<&Path, TrainerError> {
        given("--vocabulary", &self.vocabulary)
    }

    pub fn glue(&self) -> Result<&Path, TrainerError> {
        given("--glue", &self.glue)
    }

    pub fn from(&self) -> Result<&Path, TrainerError> {
        given("--from", &self.from)
    }

    pub fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.out.join("cache"))
    }

    /// Checks that the flags name every input of `recipe`, before anything is written.
    ///
    /// # Errors
    /// `Usage` that lists all missing flags.
    pub fn require_inputs(&self, recipe: &Recipe) -> Result<(), TrainerError> {
        let from_file = |recipe: &Pretrain| matches!(recipe.vocabulary, Some(Vocabulary::File { .. }));
        let (corpus, vocabulary, from, glue) = match recipe {
            Recipe::Timing(timing) => (true, timing.arms.iter().any(|arm| from_file(&arm.recipe)), false, false),
            Recipe::Pretrain(pretrain) => (true, from_file(pretrain), false, false),
            Recipe::Finetune(_) => (false, false, true, true),
            // A published checkpoint brings its own vocabulary.
            Recipe::Probe(probe) => (true, probe.published.is_none() && from_file(&probe.from), true, false),
        };
        let missing: Vec<&str> = [
            ("--corpus", corpus, &self.corpus),
            ("--vocabulary", vocabulary, &self.vocabulary),
            ("--from", from, &self.from),
            ("--glue", glue, &self.glue),
        ]
        .into_iter()
        .filter_map(|(flag, required, given)| (required && given.is_none()).then_some(flag))
        .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(TrainerError::Usage(format!("a recipe of stage {} needs {}", recipe.stage().name(), missing.join(" and "))))
    }
}

fn given<'a>(flag: &str, path: &'a Option<PathBuf>) -> Result<&'a Path, TrainerError> {
    path.as_deref().ok_or_else(|| TrainerError::Usage(format!("{flag} is missing")))
}

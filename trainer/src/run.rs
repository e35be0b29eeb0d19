//! `lamina-trainer run`: from flags and a recipe to a report.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use images::Images;
use recipe::problem::Problems;
use recipe::report::{FinetuneReport, PREDICTIONS, PredictionFile, PretrainReport};
use recipe::{
    Dataset, Event, Finetune, Images as ImageRule, Keep, LargestBatch, Pretrain, Probe, Published, Recipe, Report,
    Seeds, Source, Stage, Timing, TrialSpec, Vocabulary, published,
};
use sha2::{Digest, Sha256};
use tch::Device;

use crate::checkpoint::{self, Verified};
use crate::data::DataError;
use crate::data::material::Material;
use crate::data::tokens::{Shards, VocabularySource};
use crate::device::{self, Choice};
use crate::emit::Emitter;
use crate::failure::{Broken, TrainerError, caught};
use crate::finetune::{DEV, Finetuning, SELECTION};
use crate::kernel;
use crate::memory;
use crate::objective::VALIDATION_ACCURACY;
use crate::origin::{self, Origin};
use crate::pretrain::Pretraining;
use crate::probe;
use crate::timing;
use crate::train::{self, Attempt, Ended, Finish, Training};

/// What to train, where the data are and where to write.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What to train: a JSON file {"recipe": {"stage": "pretrain" | "finetune" | "timing" | "probe", ...}, "seeds": {...}}
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Folder for checkpoints and report.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the newest checkpoint in --out; start at step 0 when there is none
    #[arg(long)]
    pub resume: bool,
    /// Text to pre-train on: a file or a folder of .txt, .txt.xz, .txt.gz or .txt.zst; one paragraph a line, a blank line
    /// between documents. For a recipe with images, the folder of their IDX (MNIST) or CIFAR-10/100 files
    #[arg(long, value_name = "PATH")]
    pub corpus: Option<PathBuf>,
    /// vocab.txt, one WordPiece a line; needed unless the recipe trains a vocabulary or learns from images
    #[arg(long, value_name = "FILE")]
    pub vocabulary: Option<PathBuf>,
    /// Folder with the GLUE tasks in their official layout (RTE/train.tsv, ...), to fine-tune on
    #[arg(long, value_name = "DIR")]
    pub glue: Option<PathBuf>,
    /// Checkpoint folder to fine-tune from, made here or published in Hugging Face's layout
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Folder for tokenised text, shared by runs [default: <OUT>/cache]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// auto (the first GPU, else the CPU), cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Choice,
    /// CPU threads; results are equal bit for bit only at an equal number [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<u32>>,
    /// Seconds between checkpoints; 0 writes one after every step
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    pub checkpoint_seconds: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// How an attempt ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    Interrupted,
}

/// Carries out one attempt and says how it goes; all but the failure, which is the caller's to say. `stop` asks for a
/// checkpoint at the next step boundary and an early end.
///
/// # Errors
/// Anything that ends the attempt early; see [`TrainerError`].
pub fn run(options: &Options, stop: &AtomicBool, emitter: &mut Emitter) -> Result<Outcome, TrainerError> {
    caught(|| Run::prepare(options, stop)?.carry_out(emitter))
}

struct Run<'a> {
    options: &'a Options,
    recipe: Recipe,
    seeds: Seeds,
    fingerprint: String,
    threads: u32,
    device: Device,
    resumed: Option<Verified>,
    stop: &'a AtomicBool,
}

impl<'a> Run<'a> {
    /// Everything that can be refused before data are touched.
    fn prepare(options: &'a Options, stop: &'a AtomicBool) -> Result<Self, TrainerError> {
        let TrialSpec { recipe, seeds } = read_recipe(&options.recipe)?;
        require_flags(&recipe, options)?;
        let threads = device::pin_threads(options.threads);
        kernel::keep_memory();
        let device = options.device.device()?;
        fs::create_dir_all(&options.out).map_err(TrainerError::io(&options.out))?;
        let newest = checkpoint::newest(&options.out)?;
        if let (Some(folder), false) = (&newest, options.resume) {
            return Err(TrainerError::Usage(format!(
                "{} is already there: go on from it with --resume, or choose another --out",
                folder.display()
            )));
        }
        let resumed = newest.map(|folder| Verified::open(&folder)).transpose()?;
        let fingerprint = recipe.fingerprint().to_string();
        Ok(Self { options, recipe, seeds, fingerprint, threads, device, resumed, stop })
    }

    fn carry_out(&self, emitter: &mut Emitter) -> Result<Outcome, TrainerError> {
        let ended = match &self.recipe {
            Recipe::Timing(recipe) => afresh(self.time(recipe, emitter))?,
            Recipe::Pretrain(recipe) => self.pretrain(recipe, emitter)?,
            Recipe::Finetune(recipe) => self.finetune(recipe, emitter)?,
            Recipe::Probe(recipe) => afresh(self.probe(recipe, emitter))?,
        };
        let report = match ended {
            Ok(report) => report,
            Err(step) => {
                emitter.emit(&Event::Interrupted { step })?;
                return Ok(Outcome::Interrupted);
            }
        };
        let path = self.options.out.join("report.json");
        fs::write(&path, serde_json::to_vec_pretty(&report)?).map_err(TrainerError::io(&path))?;
        if self.recipe.stage() == Stage::Finetune {
            checkpoint::remove_all(&self.options.out)?;
        }
        emitter.emit(&Event::Finished { report })?;
        Ok(Outcome::Finished)
    }

    fn time(&self, recipe: &Timing, emitter: &mut Emitter) -> Result<Report, Broken> {
        self.started(timing::total_steps(recipe), emitter)?;
        let mut materials: Vec<Material> = Vec::with_capacity(recipe.arms.len());
        for (index, arm) in recipe.arms.iter().enumerate() {
            // Images are held in memory: arms that read the same share them.
            let is_same = |earlier: &recipe::TimingArm| {
                let data = |arm: &recipe::TimingArm| (arm.recipe.images, arm.recipe.held_out, arm.recipe.length);
                arm.recipe.images.is_some() && data(earlier) == data(arm)
            };
            let material = match recipe.arms[..index].iter().position(is_same) {
                Some(same) => materials[same].clone(),
                None => self.material(&arm.recipe, &format!("/recipe/arms/{index}/recipe"), emitter)?,
            };
            materials.push(material);
        }
        let arm = |(arm, material): (&recipe::TimingArm, &Material)| {
            Pretraining::new(arm.recipe.clone(), self.seeds, material.clone(), self.device)
        };
        let arms = recipe.arms.iter().zip(&materials).map(arm).collect();
        // A timing that was broken off starts afresh: turns before and after a pause cannot be compared.
        let mut report = timing::run(recipe, arms, self.device, self.stop, emitter)?;
        if let Some(LargestBatch { limit_bytes }) = recipe.largest_batch {
            // The arms of the timing are gone: all of the device's memory is there again.
            let limit = limit_bytes.unwrap_or_else(|| memory::available(self.device));
            let total = recipe.arms.len() as u64;
            for (done, ((arm, material), row)) in (1..).zip(recipe.arms.iter().zip(&materials).zip(&mut report.arms)) {
                let largest = memory::largest_batch(&arm.recipe, self.seeds, material, self.device, limit, self.stop)?;
                row.largest_batch = Some(largest);
                emitter.preparing("largest batch", done, total)?;
            }
        }
        Ok(Report::Timing(report))
    }

    fn pretrain(&self, recipe: &Pretrain, emitter: &mut Emitter) -> Result<Result<Report, u64>, TrainerError> {
        self.started(recipe.steps, emitter)?;
        let material = self.material(recipe, "/recipe", emitter)?;
        let mut training = Pretraining::new(recipe.clone(), self.seeds, material, self.device);
        let finish = match self.train(&mut training, emitter)? {
            Ended::Interrupted { step } => return Ok(Err(step)),
            Ended::Finished(finish) => finish,
        };
        let Finish { state, evaluation, last } = finish;
        // The others stand in the points of the last evaluation.
        let [(_, validation_loss), ..] = evaluation[..] else { unreachable!("pre-training evaluates its loss first") };
        let accuracy = evaluation.iter().find(|(name, _)| name == VALIDATION_ACCURACY);
        Ok(Ok(Report::Pretrain(PretrainReport {
            steps: state.step,
            trained_seconds: state.trained_seconds,
            tokens: state.step * u64::from(recipe.batch) * u64::from(recipe.length),
            validation_loss,
            validation_accuracy: accuracy.map(|(_, accuracy)| *accuracy),
            digest: state.chain,
            checkpoint: last,
        })))
    }

    fn finetune(&self, recipe: &Finetune, emitter: &mut Emitter) -> Result<Result<Report, u64>, TrainerError> {
        let (from, glue) = (needed(&self.options.from), needed(&self.options.glue));
        let mut training = Finetuning::new(recipe.clone(), self.seeds, from, glue, self.device)?;
        self.started(training.budget().steps, emitter)?;
        let finish = match self.train(&mut training, emitter)? {
            Ended::Interrupted { step } => return Ok(Err(step)),
            Ended::Finished(finish) => finish,
        };
        let on_dev = |(name, value): &(String, f64)| Some((name.strip_prefix(DEV)?.to_owned(), *value));
        let metrics: BTreeMap<String, f64> = finish.evaluation.iter().filter_map(on_dev).collect();
        let selection = finish.evaluation.iter().find(|(name, _)| name == SELECTION);
        Ok(Ok(Report::Finetune(FinetuneReport {
            steps: finish.state.step,
            trained_seconds: finish.state.trained_seconds,
            score: metrics.values().sum::<f64>() / metrics.len() as f64,
            metrics,
            selection_score: selection.map(|(_, score)| *score),
            majority_score: training.majority_score(),
            // No checkpoint is left to compare, so the chain's last link is the weights and moments themselves.
            digest: hex::encode(Sha256::digest(finish.state.chain + &finish.last)),
            predictions: self.write_answers(&training)?,
        })))
    }

    fn probe(&self, probe: &Probe, emitter: &mut Emitter) -> Result<Report, Broken> {
        self.started(1, emitter)?;
        let (mut training, step) = match &probe.published {
            Some(checkpoint) => (self.published(probe, checkpoint, emitter)?, 0),
            None => self.pretrained(probe, emitter)?,
        };
        let report = probe::run(&mut training, probe, self.seeds.data, step, |done, total| {
            emitter.preparing("probing", done, total)?;
            Broken::by(self.stop)
        })?;
        Ok(Report::Probe(report))
    }

    /// The checkpoint that the probe's recipe left, and its step.
    fn pretrained(&self, probe: &Probe, emitter: &mut Emitter) -> Result<(Pretraining, u64), TrainerError> {
        let from = needed(&self.options.from);
        let checkpoint = origin::made_here(&probe.from, from)?;
        let material = self.material(&probe.from, "/recipe/from", emitter)?;
        if let Some(words) = material.vocabulary().map(|vocabulary| vocabulary.size()) {
            let trained = checkpoint.vocabulary()?.size();
            if words != trained {
                return Err(TrainerError::corrupt(from, format!("has {trained} tokens, the corpus {words}")));
            }
        }
        let training = Pretraining::new(asked(probe), probe.from_seeds, material, self.device);
        checkpoint.restore_model(training.weights())?;
        Ok((training, checkpoint.manifest.step))
    }

    /// The published checkpoint that the probe names.
    fn published(
        &self,
        probe: &Probe,
        checkpoint: &Dataset,
        emitter: &mut Emitter,
    ) -> Result<Pretraining, TrainerError> {
        let (from, recipe) = (needed(&self.options.from), asked(probe));
        let published = Published { model: recipe.model.clone(), checkpoint: checkpoint.clone() };
        let source = Source::Published(Box::new(published));
        let origin = Origin::open(&source, from)?;
        let vocabulary = VocabularySource::File(from.join(published::VOCABULARY));
        let material = Material::Text(self.shards(&recipe, vocabulary, emitter)?);
        let training = Pretraining::with_rows(recipe, probe.from_seeds, material, origin.rows, self.device);
        origin.restore(training.weights(), &source, Keep::All)?;
        Ok(training)
    }

    /// Answers the task's test files, each in a file of its own.
    fn write_answers(&self, training: &Finetuning) -> Result<Vec<PredictionFile>, TrainerError> {
        let folder = self.options.out.join(PREDICTIONS);
        fs::create_dir_all(&folder).map_err(TrainerError::io(&folder))?;
        let answers = training.answers().into_iter().map(|(set, text)| {
            let path = folder.join(set.answers);
            fs::write(&path, &text).map_err(TrainerError::io(&path))?;
            Ok(PredictionFile {
                name: set.answers.to_owned(),
                rows: text.lines().skip(1).count() as u64,
                sha256: hex::encode(Sha256::digest(&text)),
                bytes: text.len() as u64,
            })
        });
        answers.collect()
    }

    fn train(&self, training: &mut impl Training, emitter: &mut Emitter) -> Result<Ended, TrainerError> {
        let attempt = Attempt {
            out: &self.options.out,
            fingerprint: &self.fingerprint,
            seeds: self.seeds,
            device: self.device,
            resumed: self.resumed.as_ref(),
            checkpoint_every: self.options.checkpoint_seconds,
            stop: self.stop,
        };
        train::run(training, &attempt, emitter)
    }

    fn started(&self, total_steps: u64, emitter: &mut Emitter) -> Result<(), TrainerError> {
        let device = device::facts(self.device, self.threads);
        let resumed_from = self.resumed.as_ref().map(|verified| verified.manifest.step);
        eprintln!(
            "recipe {} | lamina-trainer {} | libtorch {} | {} ({}), {} threads | {:?} | {total_steps} steps{}",
            self.fingerprint,
            device.trainer,
            device.libtorch,
            device.name,
            device.model,
            device.threads,
            self.seeds,
            resumed_from.map(|step| format!(", going on from {step}")).unwrap_or_default(),
        );
        emitter.emit(&Event::Started { fingerprint: self.fingerprint.clone(), device, total_steps, resumed_from })
    }

    /// What `recipe`, which stands at `pointer`, reads.
    fn material(&self, recipe: &Pretrain, pointer: &str, emitter: &mut Emitter) -> Result<Material, TrainerError> {
        match recipe.images {
            Some(rule) => self.images(recipe, rule, pointer, emitter),
            None => {
                let vocabulary = match &recipe.vocabulary {
                    Some(Vocabulary::Trained { size }) => VocabularySource::Trained { size: *size },
                    Some(Vocabulary::File { .. }) | None => {
                        VocabularySource::File(needed(&self.options.vocabulary).to_owned())
                    }
                };
                Ok(Material::Text(self.shards(recipe, vocabulary, emitter)?))
            }
        }
    }

    fn images(
        &self,
        recipe: &Pretrain,
        rule: ImageRule,
        pointer: &str,
        emitter: &mut Emitter,
    ) -> Result<Material, TrainerError> {
        let folder = needed(&self.options.corpus);
        emitter.preparing("reading images", 0, 0)?;
        let images = Images::read(folder, recipe.held_out).map_err(DataError::from)?;
        let mut problems = Problems::at(pointer);
        rule.check_shape(images.shape, recipe.length, &mut problems);
        let problems = problems.into_vec();
        if !problems.is_empty() {
            return Err(TrainerError::InvalidRecipe { path: self.options.recipe.clone(), problems });
        }
        if matches!(rule, ImageRule::Classifier { .. }) && images.classes < 2 {
            return Err(DataError::OneClass { path: folder.to_owned() }.into());
        }
        Ok(Material::Images { images: Arc::new(images), rule })
    }

    fn shards(
        &self,
        recipe: &Pretrain,
        vocabulary: VocabularySource,
        emitter: &mut Emitter,
    ) -> Result<Arc<Shards>, TrainerError> {
        let cache = self.options.cache.clone().unwrap_or_else(|| self.options.out.join("cache"));
        let corpus = needed(&self.options.corpus);
        let mut said = Ok(());
        let mut progress = |what: &str, done: u64, total: u64| {
            if said.is_ok() {
                said = emitter.preparing(what, done, total);
            }
        };
        let shards = Shards::build_or_open(corpus, &vocabulary, &cache, recipe.held_out, recipe.length, &mut progress)?;
        said?;
        Ok(Arc::new(shards))
    }
}

/// The recipe of what a probe looks into, with as many held-out sequences as it looks at.
fn asked(probe: &Probe) -> Pretrain {
    Pretrain { validation_sequences: probe.sequences, ..(*probe.from).clone() }
}

/// What has been broken off and leaves nothing to go on from starts at step 0 the next time.
fn afresh(ended: Result<Report, Broken>) -> Result<Result<Report, u64>, TrainerError> {
    match ended {
        Ok(report) => Ok(Ok(report)),
        Err(Broken::Stopped) => Ok(Err(0)),
        Err(Broken::Failed(error)) => Err(error),
    }
}

fn read_recipe(path: &Path) -> Result<TrialSpec, TrainerError> {
    let text = fs::read(path).map_err(TrainerError::io(path))?;
    let spec: TrialSpec =
        serde_json::from_slice(&text).map_err(|source| TrainerError::RecipeSyntax { path: path.to_owned(), source })?;
    let problems = spec.validate();
    if problems.is_empty() { Ok(spec) } else { Err(TrainerError::InvalidRecipe { path: path.to_owned(), problems }) }
}

/// Checks that the flags name every input of the recipe's stage.
fn require_flags(recipe: &Recipe, options: &Options) -> Result<(), TrainerError> {
    let from_file = |recipe: &Pretrain| matches!(recipe.vocabulary, Some(Vocabulary::File { .. }));
    let (corpus, vocabulary, from, glue) = match recipe {
        Recipe::Timing(timing) => (true, timing.arms.iter().any(|arm| from_file(&arm.recipe)), false, false),
        Recipe::Pretrain(pretrain) => (true, from_file(pretrain), false, false),
        Recipe::Finetune(_) => (false, false, true, true),
        // A published checkpoint brings its vocabulary.
        Recipe::Probe(probe) => (true, probe.published.is_none() && from_file(&probe.from), true, false),
    };
    let missing: Vec<&str> = [
        ("--corpus", corpus, &options.corpus),
        ("--vocabulary", vocabulary, &options.vocabulary),
        ("--from", from, &options.from),
        ("--glue", glue, &options.glue),
    ]
    .into_iter()
    .filter_map(|(flag, needed, given)| (needed && given.is_none()).then_some(flag))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(TrainerError::Usage(format!("a recipe of stage {} needs {}", recipe.stage().name(), missing.join(" and "))))
}

/// An input that [`require_flags`] has seen.
fn needed(flag: &Option<PathBuf>) -> &Path {
    match flag {
        Some(path) => path,
        None => unreachable!("require_flags comes first"),
    }
}

//! Fine-tuning as the loop sees it: one GLUE task from a checkpoint, at full depth.

use std::path::Path;

use recipe::seeds::{Purpose, generator, permutation};
use recipe::task::TestSet;
use recipe::{Finetune, Gate, Model, Moment, Seeds, finetune};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::bert::{Classifier, Encoder, Input, TextHead, Weights, published};
use crate::data::batch::{Batch, collate, epoch_batches};
use crate::data::glue::{Example, Glue};
use crate::data::prefetcher::Prefetcher;
use crate::data::vocabulary::Vocabulary;
use crate::device::upload;
use crate::evaluation::Evaluation;
use crate::failure::TrainerError;
use crate::kernel::Noise;
use crate::metrics;
use crate::origin::Origin;
use crate::recompute::Tape;
use crate::train::{Budget, Training};

pub struct Finetuning {
    recipe: Finetune,
    /// The model of the checkpoint with the blocks that the recipe keeps.
    model: Model,
    seeds: Seeds,
    vocabulary: Vocabulary,
    /// Number of rows in the word embedding.
    rows: u32,
    glue: Glue,
    steps_per_epoch: u64,
    /// Makes the training batch of a step, and that of the next step in the background.
    prefetcher: Prefetcher<u64, Batch>,
    /// Examples of the training file that are set apart for selection.
    selection: Vec<Example>,
    /// The test files that exist, each with what the GLUE server expects of it.
    tests: Vec<(&'static TestSet, Vec<Example>)>,
    weights: Weights,
    encoder: Encoder,
    head: Classifier,
    device: Device,
}

impl Finetuning {
    /// Starts with the encoder of the checkpoint in the folder `from` and a fresh head, and reads the task's files
    /// under `glue`.
    ///
    /// # Errors
    /// A checkpoint that is corrupt or is not the one of `recipe.from`; bad GLUE files.
    pub fn new(recipe: Finetune, seeds: Seeds, from: &Path, glue: &Path, device: Device) -> Result<Self, TrainerError> {
        let origin = Origin::open(&recipe.from, from)?;
        let Origin { vocabulary, rows, family, .. } = &origin;
        let tests = Glue::read_tests(glue, recipe.task, vocabulary, recipe.length)?;
        let mut glue = Glue::read(glue, recipe.task, vocabulary, recipe.length)?;
        let selection = recipe.selection.map_or_else(Vec::new, |share| set_apart(&mut glue.train, share));
        let model = recipe.model();
        let head = TextHead::Classifier { outputs: recipe.task.outputs(), family: *family };
        let weights = Weights::new(&model, *rows, head, &seeds, device).with_precision(recipe.precision);
        origin.restore(&weights, &recipe.from, recipe.keep)?;
        let train = std::mem::take(&mut glue.train);
        Ok(Self {
            steps_per_epoch: train.len().div_ceil(recipe.batch as usize) as u64,
            prefetcher: prefetcher(train, recipe.batch, vocabulary.pad(), seeds.data),
            encoder: Encoder::new(&weights, *family, &model, i64::from(vocabulary.pad())),
            head: Classifier::new(&weights, *family, &model),
            recipe,
            model,
            seeds,
            rows: origin.rows,
            vocabulary: origin.vocabulary,
            glue,
            selection,
            tests,
            weights,
            device,
        })
    }

    /// The score of always predicting the most frequent class of dev.
    pub fn majority_score(&self) -> f64 {
        let scores: Vec<f64> = self
            .glue
            .dev_parts()
            .map(|(_, examples)| metrics::majority_score(self.recipe.task, &labels(examples)))
            .collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }

    /// The answers to each test file that exists, in the format of the GLUE server.
    pub fn answers(&self) -> Vec<(&'static TestSet, String)> {
        let text = |examples: &[Example]| metrics::answers(self.recipe.task, &self.predictions(examples));
        self.tests.iter().map(|(set, examples)| (*set, text(examples))).collect()
    }

    /// The training batch of `step`.
    fn batch_of(&mut self, step: u64) -> Batch {
        self.prefetcher.get(step, (step + 1 < self.budget().steps).then_some(step + 1))
    }

    /// The output of the head, `[B, outputs]`.
    fn logits(&self, batch: &Batch, gates: &[Gate], noise: Option<&Noise>) -> Tensor {
        let shape = [batch.rows as i64, batch.length as i64];
        let on_device = |values: &[i64]| upload(values, self.device).view(shape);
        let input = Input::padded(on_device(&batch.ids), on_device(&batch.types), &on_device(&batch.mask));
        self.head.forward(&self.encoder.forward(&input, gates, noise), noise)
    }

    /// One number per example: the class with the largest logit, or the score itself.
    fn predictions(&self, examples: &[Example]) -> Vec<f64> {
        // Examples of similar length share a batch, so that there is little padding.
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|&row| examples[row].ids.len());
        let gates = Gate::full_depth(self.model.blocks, self.model.blocks);
        let mut predictions = vec![0.0; order.len()];
        for rows in order.chunks(self.recipe.batch as usize) {
            let examples: Vec<&Example> = rows.iter().map(|&row| &examples[row]).collect();
            let answers: Tensor = no_grad(|| {
                let logits = self.logits(&collate(&examples, self.vocabulary.pad()), &gates, None);
                if self.recipe.task.outputs() == 1 { logits.squeeze_dim(1) } else { logits.argmax(1, false) }
            });
            let mut found = vec![0.0; rows.len()];
            answers.to_kind(Kind::Double).copy_data(&mut found, rows.len());
            for (&row, answer) in rows.iter().zip(found) {
                predictions[row] = answer;
            }
        }
        predictions
    }
}

impl Training for Finetuning {
    fn budget(&self) -> Budget {
        Budget { steps: u64::from(self.recipe.epochs) * self.steps_per_epoch, seconds: None }
    }

    fn learning_rate(&self, moment: &Moment) -> f64 {
        self.recipe.learning_rate.at(moment)
    }

    fn gates(&self, _moment: &Moment, _micro_batch: u32) -> Vec<Gate> {
        Gate::full_depth(self.model.blocks, self.model.blocks)
    }

    fn theta(&self, _moment: &Moment) -> Option<f64> {
        None
    }

    fn micro_batch_size(&self) -> u32 {
        self.recipe.batch
    }

    fn blocks(&self) -> u32 {
        self.model.blocks
    }

    /// Cross-entropy over the classes, or the mean squared error of a score.
    fn loss(&mut self, moment: &Moment, micro_batch: u32, gates: &[Gate], _tape: &mut Tape) -> Tensor {
        let batch = self.batch_of(moment.step);
        let noise = Noise::new(self.seeds.dropout, moment.step, micro_batch);
        let logits = self.logits(&batch, gates, Some(&noise));
        let labels = upload(&batch.labels, self.device);
        match self.recipe.task.outputs() {
            1 => logits.squeeze_dim(1).mse_loss(&labels, Reduction::Mean),
            _ => logits.cross_entropy_loss::<Tensor>(&labels.to_kind(Kind::Int64), None, Reduction::Mean, -100, 0.0),
        }
    }

    fn evaluates_after(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.steps_per_epoch)
    }

    /// The task's metrics on dev, as `dev_<metric>`, and the score on the selection part, as `selection_score`. The
    /// headline is the mean of the metrics on dev.
    fn evaluate(&mut self, _gates: &[Gate]) -> Evaluation {
        let task = self.recipe.task;
        let mut values = Vec::new();
        for (suffix, examples) in self.glue.dev_parts() {
            let (metrics, _) = metrics::score(task, &self.predictions(examples), &labels(examples));
            values.extend(metrics.into_iter().map(|(name, value)| (format!("{DEV}{name}{suffix}"), value)));
        }
        let headline = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
        if !self.selection.is_empty() {
            let (_, score) = metrics::score(task, &self.predictions(&self.selection), &labels(&self.selection));
            values.push((SELECTION.to_owned(), score));
        }
        Evaluation { headline, values }
    }

    fn leaves_checkpoint(&self) -> bool {
        false
    }

    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    fn optimizer(&self) -> recipe::Optimizer {
        self.recipe.optimizer
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        Some(&self.vocabulary)
    }

    fn config(&self, _blocks: u32) -> serde_json::Value {
        let head = TextHead::Classifier { outputs: self.recipe.task.outputs(), family: self.head.family() };
        published::config(&self.model, self.rows, self.vocabulary.pad(), head)
    }
}

/// Prefix of the metrics on dev.
pub const DEV: &str = "dev_";
/// Name of the score on the examples that were set apart from the training file.
pub const SELECTION: &str = "selection_score";

/// Returns a prefetcher that makes the training batch of a step.
fn prefetcher(train: Vec<Example>, batch: u32, pad: u32, seed: u64) -> Prefetcher<u64, Batch> {
    let lengths: Vec<u32> = train.iter().map(|example| example.ids.len() as u32).collect();
    let epoch_of = move |epoch: u64| (epoch, epoch_batches(&lengths, batch, seed, epoch));
    let mut last = epoch_of(0);
    Prefetcher::new(move |step| {
        let steps = last.1.len() as u64;
        if last.0 != step / steps {
            last = epoch_of(step / steps);
        }
        let rows = &last.1[(step % steps) as usize];
        collate(&rows.iter().map(|&row| &train[row as usize]).collect::<Vec<_>>(), pad)
    })
}

/// Moves a share of `examples` to the returned list. The choice depends only on the number of examples.
fn set_apart(examples: &mut Vec<Example>, share: f64) -> Vec<Example> {
    let count = finetune::selection_size(examples.len() as u64, share) as usize;
    let mut chosen = vec![false; examples.len()];
    for row in permutation(&mut generator(0, Purpose::Selection, 0, 0), examples.len()).into_iter().take(count) {
        chosen[row as usize] = true;
    }
    let mut chosen = chosen.into_iter();
    examples.extract_if(.., |_| chosen.next().unwrap_or_default()).collect()
}

fn labels(examples: &[Example]) -> Vec<f64> {
    examples.iter().map(|example| f64::from(example.label)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use recipe::task::{ANSWERS_HEADER, Column, Row, Target};
    use recipe::{Norm, Size, Task};
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn the_examples_set_apart_depend_only_on_the_number_of_examples(count in 2usize..500, share in 0.01f64..0.5) {
            let numbered = |offset: u32| -> Vec<Example> {
                (0..count as u32).map(|id| Example { ids: vec![id + offset], second: 0, label: 0.0 }).collect()
            };
            let split = |offset: u32| {
                let mut train = numbered(offset);
                let apart = set_apart(&mut train, share);
                let ids = |of: &[Example]| of.iter().map(|e| e.ids[0] - offset).collect::<Vec<u32>>();
                (ids(&train), ids(&apart))
            };
            let (train, apart) = split(0);
            prop_assert_eq!((&train, &apart), (&split(9).0, &split(9).1));
            prop_assert!(train.is_sorted() && apart.is_sorted() && !train.is_empty() && !apart.is_empty());
            let mut all = [train, apart].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count as u32).collect::<Vec<_>>());
        }
    }

    /// A text for a task's files; different numbers give different texts.
    fn sentence(number: usize) -> String {
        (0..3 + number % 4)
            .map(|place| ["abc", "d", "fe", "hgh", "ba"][(number * 3 + place * (number + 2)) % 5])
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A file of a task with texts from number `first` on. Its last column has labels, or line numbers under the name
    /// `index`.
    fn file(row: &Row, index: Option<&str>, lines: usize, first: usize) -> String {
        let name = |column: Column| match column {
            Column::Named(name) => name,
            Column::At(_) => "sentence",
        };
        let label = |n: usize| match row.target {
            Target::Classes(classes) => classes[n % classes.len()].to_owned(),
            Target::Score { .. } => format!("{}", (n * 7 % 11) as f64 / 2.0),
        };
        let text = |n: usize| {
            let second = row.second.map(|_| format!("\t{}", sentence(3 * n + 1))).unwrap_or_default();
            sentence(n + first) + &second
        };
        if index.is_none() && !row.header {
            return (0..lines).map(|n| format!("x\t{}\t\t{}\n", label(n), text(n))).collect();
        }
        let names = [Some(row.first), row.second].into_iter().flatten().map(name).collect::<Vec<_>>().join("\t");
        let last = |n: usize| if index.is_some() { n.to_string() } else { label(n) };
        let head = format!("{names}\t{}\n", index.unwrap_or_else(|| name(row.label)));
        head + &(0..lines).map(|n| format!("{}\t{}\n", text(n), last(n))).collect::<String>()
    }

    /// A fine-tune from the checkpoint that transformers saved, with every file that `task` can have.
    fn finetuning(task: Task) -> Finetuning {
        let row = task.row();
        let glue = tempfile::tempdir().unwrap();
        let write = |path: &str, text: String| {
            let path = glue.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(&format!("{}/train.tsv", row.folder), file(row, None, 10, 0));
        for (dev, first) in [Some(row.dev), row.mismatched].into_iter().flatten().zip([20, 60]) {
            write(&format!("{}/{dev}", row.folder), file(row, None, 11 + first / 20, first));
        }
        for (set, first) in row.tests.iter().zip([100, 140, 180]) {
            write(set.path, file(row, Some(set.index), 7, first));
        }
        let size = Size { blocks: 2, hidden: 32, heads: 4, intermediate: 37 };
        let model = Model { positions: 40, dropout: 0.0, attention_dropout: 0.0, ..Model::of_size(size, Norm::Post) };
        let recipe = json!({
            "from": {"kind": "published", "model": model, "checkpoint": {"name": "transformers"}},
            "task": task, "glue": {"name": "generated"}, "epochs": 1, "batch": 4, "length": 24,
            "learning_rate": {"peak": 1e-3},
        });
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published/bert");
        let recipe = serde_json::from_value(recipe).unwrap();
        let training = Finetuning::new(recipe, Seeds::default(), &from, glue.path(), Device::Cpu).unwrap();
        // The head is changed so that its answers spread around 2.5.
        no_grad(|| {
            let dev: Vec<&Example> = training.glue.dev.iter().collect();
            let logits = training.logits(&collate(&dev, training.vocabulary.pad()), &Gate::full_depth(2, 2), None);
            let named = training.weights.named();
            let factor = logits.std_dim([0i64].as_slice(), true, false).reciprocal();
            let mean = logits.mean_dim([0i64].as_slice(), false, Kind::Float);
            named["classifier.bias"].shallow_clone().copy_(&(mean * -&factor + 2.5));
            let _ = named["classifier.weight"].shallow_clone().g_mul_(&factor.unsqueeze(1));
        });
        training
    }

    #[test]
    fn each_of_the_nine_tasks_has_the_right_outputs_loss_scores_and_answers() {
        let mut files = 0;
        for task in Task::ALL {
            let mut training = finetuning(task);
            let gates = Gate::full_depth(2, 2);
            let outputs = match task {
                Task::StsB => 1,
                Task::Mnli => 3,
                _ => 2,
            };
            let rows_of = |training: &Finetuning, batch: &Batch| {
                let logits = no_grad(|| training.logits(batch, &gates, None));
                assert_eq!(logits.size(), [batch.rows as i64, outputs], "{}", task.name());
                Vec::<Vec<f64>>::try_from(logits.to_kind(Kind::Double)).unwrap()
            };
            let batch = training.batch_of(0);
            assert_eq!(batch.rows, 4);
            let losses = rows_of(&training, &batch).into_iter().zip(&batch.labels).map(|(logits, &label)| match task {
                Task::StsB => (logits[0] - f64::from(label)).powi(2),
                _ => logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[label as usize],
            });
            let expected = losses.sum::<f64>() / 4.0;
            let loss = training.loss(&Moment::of_step(0, 3), 0, &gates, &mut Tape::default()).double_value(&[]);
            assert!((loss - expected).abs() < 1e-5 * expected, "{}: {loss}, expected {expected}", task.name());

            // Each example in a batch of its own, in the order of the file.
            let pad = training.vocabulary.pad();
            let alone = |training: &Finetuning, examples: &[Example]| -> Vec<f64> {
                let answer = |example: &Example| {
                    let logits = rows_of(training, &collate(&[example], pad)).remove(0);
                    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                    if outputs == 1 { logits[0] } else { best as f64 }
                };
                examples.iter().map(answer).collect()
            };
            let mut expected = Vec::new();
            for (part, suffix) in [(&training.glue.dev, ""), (&training.glue.mismatched, "_mismatched")] {
                assert_eq!(part.is_empty(), !suffix.is_empty() && task != Task::Mnli);
                if !part.is_empty() {
                    let answers = alone(&training, part);
                    assert!(answers.iter().any(|answer| *answer != answers[0]), "{}: {answers:?}", task.name());
                    let truth: Vec<f64> = part.iter().map(|example| f64::from(example.label)).collect();
                    let (values, _) = metrics::score(task, &answers, &truth);
                    expected.extend(values.into_iter().map(|(name, value)| (format!("dev_{name}{suffix}"), value)));
                }
            }
            let found = training.evaluate(&gates).values;
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-4,
                    "{found:?}, expected {expected:?}"
                );
            }

            for ((set, text), (_, examples)) in training.answers().into_iter().zip(&training.tests) {
                files += 1;
                let mut lines = text.lines();
                assert_eq!(lines.next(), Some(ANSWERS_HEADER), "{}", set.answers);
                let lines: Vec<&str> = lines.collect();
                assert_eq!(lines.len(), 7, "{}", set.answers);
                for (number, (line, expected)) in lines.into_iter().zip(alone(&training, examples)).enumerate() {
                    let answer = line.strip_prefix(&format!("{number}\t")).unwrap();
                    match task.row().target {
                        Target::Classes(classes) => assert_eq!(answer, classes[expected as usize], "{}", set.answers),
                        Target::Score { .. } => {
                            let off = (answer.parse::<f64>().unwrap() - expected.clamp(0.0, 5.0)).abs();
                            assert!(off < 1e-3, "{line}, expected {expected}");
                        }
                    }
                }
            }
        }
        assert_eq!(files, Task::test_sets().count());
    }
}

//! From a submission to its trials: looks the datasets up, expands the job, verifies that the datasets are unchanged.

use std::time::Duration;

use recipe::Problem;
use recipe::nearest::did_you_mean;

use crate::dataset::{DatasetError, DatasetKind, Roots, Scan};
use crate::expand::{self, Datasets, Estimate, Expansion};
use crate::job::{JobSpec, VocabularyChoice};
use crate::store::{Store, StoreError};
use crate::work::WorkError;

/// Why a job cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Every problem of the job, datasets that are not registered among them.
    #[error("the job is not valid")]
    Invalid(Vec<Problem>),
    /// The job is valid but for datasets that are not registered.
    #[error("the job names datasets that are not registered")]
    NotRegistered(Vec<Problem>),
    #[error("the dataset {name:?} has changed since it was registered: {source}")]
    Changed { name: String, pointer: String, source: Box<DatasetError> },
    /// Whether the datasets have changed is not known.
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A dataset that a job names.
struct Named<'a> {
    kind: DatasetKind,
    name: &'a str,
    /// Where the submission names it.
    pointer: String,
}

impl Named<'_> {
    /// Most registered names that a message lists.
    const MOST_LISTED: usize = 10;

    /// The problem of a name that stands for no dataset of the kind, with what `registered` offers in its place.
    fn missing(self, registered: &[(String, DatasetKind)]) -> Problem {
        let Self { kind, name, pointer } = self;
        let noun = kind.noun();
        let mut message = format!("no {noun} is registered under the name {name:?}");
        if let Some((_, other)) = registered.iter().find(|(other, _)| other == name) {
            message += &format!(", which stands for a {}", other.noun());
        }
        let of_kind = registered.iter().filter(|(_, other)| *other == kind);
        let names: Vec<&str> = of_kind.map(|(name, _)| name.as_str()).collect();
        let listed: Vec<_> = names.iter().take(Self::MOST_LISTED).map(|name| format!("{name:?}")).collect();
        let listed = listed.join(", ");
        message += &match names.len().saturating_sub(Self::MOST_LISTED) {
            _ if names.is_empty() => {
                ", and none under another name: `lamina data fetch` downloads data, `lamina data import` registers them"
                    .into()
            }
            0 => format!("; registered: {listed}"),
            more => format!("; registered: {listed} and {more} more (`lamina datasets` lists them)"),
        };
        message += &did_you_mean(name, names);
        Problem { pointer, message }
    }
}

/// The datasets that a job names, looked up.
pub struct Inputs {
    datasets: Datasets,
    found: Vec<(Scan, String)>,
    missing: Vec<Problem>,
}

/// Expands a submission whose defaults are filled in. The files of its datasets are looked at beneath `roots`.
pub async fn plan(store: &Store, roots: &Roots, spec: &JobSpec) -> Result<Expansion, PlanError> {
    let inputs = look_up(store, spec).await?;
    let expansion = inputs.expand(spec)?;
    inputs.verify(roots).await?;
    Ok(expansion)
}

/// Looks the datasets up that a submission names.
///
/// # Errors
/// If the job is too large, whatever its datasets are.
pub async fn look_up(store: &Store, spec: &JobSpec) -> Result<Inputs, PlanError> {
    expand::check_before_lookup(spec).map_err(PlanError::Invalid)?;
    let vocabulary = spec.vocabulary();
    let mut datasets = Datasets::default();
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for named in named(spec, vocabulary.as_ref()) {
        match store.dataset_by_name(named.name).await?.filter(|scan| scan.kind() == named.kind) {
            Some(scan) => {
                match named.kind {
                    DatasetKind::Corpus | DatasetKind::Images => datasets.corpus = Some(scan.clone()),
                    DatasetKind::Vocabulary => datasets.vocabulary = Some(scan.clone()),
                    DatasetKind::Glue => datasets.glue = Some(scan.clone()),
                    DatasetKind::Checkpoint => {
                        datasets.checkpoints.insert(named.name.to_owned(), scan.clone());
                    }
                }
                found.push((scan, named.pointer));
            }
            None => missing.push(named),
        }
    }
    let registered = if missing.is_empty() { Vec::new() } else { store.dataset_names().await? };
    let missing = missing.into_iter().map(|named| named.missing(&registered)).collect();
    Ok(Inputs { datasets, found, missing })
}

impl Inputs {
    /// Expands the submission. This may take seconds of a processor.
    pub fn expand(&self, spec: &JobSpec) -> Result<Expansion, PlanError> {
        match expand::expand(spec, &self.datasets) {
            Err(problems) => Err(PlanError::Invalid(problems.into_iter().chain(self.missing.clone()).collect())),
            Ok(_) if !self.missing.is_empty() => Err(PlanError::NotRegistered(self.missing.clone())),
            Ok(expansion) => Ok(expansion),
        }
    }

    /// Fails unless the files of the datasets are still what was registered.
    pub async fn verify(&self, roots: &Roots) -> Result<(), PlanError> {
        for (scan, pointer) in &self.found {
            roots.verify(scan).await.map_err(|error| match error {
                DatasetError::Work(error) => PlanError::Work(error),
                source => {
                    PlanError::Changed { name: scan.name.clone(), pointer: pointer.clone(), source: Box::new(source) }
                }
            })?;
        }
        Ok(())
    }
}

/// The newest timed jobs that an estimate looks at.
const TIMED_JOBS: i64 = 50;

/// What the job will take of this fleet.
pub async fn estimate(
    store: &Store,
    inputs: &Inputs,
    spec: &JobSpec,
    expansion: &Expansion,
    lease: Duration,
) -> Result<Estimate, StoreError> {
    let timed = store.timed_jobs(TIMED_JOBS).await?;
    let slots = store.free_slots(lease).await?;
    Ok(expand::estimate(spec, &inputs.datasets, expansion, &timed, slots))
}

/// The datasets that the job needs, each once.
fn named<'a>(spec: &'a JobSpec, vocabulary: Option<&'a VocabularyChoice>) -> Vec<Named<'a>> {
    let mut named: Vec<Named<'a>> = Vec::new();
    let mut need = |kind, name, pointer: String| {
        if !named.iter().any(|other| other.kind == kind && other.name == name) {
            named.push(Named { kind, name, pointer });
        }
    };
    let pretrains = spec.pretraining_arms().next().is_some();
    if let Some(VocabularyChoice::Named(name)) = vocabulary.filter(|_| pretrains) {
        need(DatasetKind::Vocabulary, name, "/vocabulary".into());
    }
    if pretrains || spec.probe.is_some() {
        let kind = if spec.images.is_some() { DatasetKind::Images } else { DatasetKind::Corpus };
        need(kind, &spec.corpus, "/corpus".into());
    }
    if let Some(glue) = &spec.glue {
        need(DatasetKind::Glue, &glue.dataset, "/glue/dataset".into());
    }
    for (index, arm) in spec.arms.iter().enumerate() {
        if let Some(name) = &arm.checkpoint {
            need(DatasetKind::Checkpoint, name, format!("/arms/{index}/checkpoint"));
        }
    }
    named
}

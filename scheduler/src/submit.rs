//! From a submission to its trials: looks the datasets up, expands the job, verifies that the datasets are unchanged.

use recipe::Problem;

use crate::dataset::{DatasetError, DatasetKind, Scan};
use crate::expand::{self, Datasets, Expansion};
use crate::job::{JobSpec, VocabularyChoice};
use crate::store::{Store, StoreError};

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
    Changed { name: String, pointer: String, source: DatasetError },
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

/// Expands a submission whose defaults are filled in.
pub async fn plan(store: &Store, spec: &JobSpec) -> Result<Expansion, PlanError> {
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
            None => {
                let message = format!("no {} is registered under the name {:?}", named.kind.noun(), named.name);
                missing.push(Problem { pointer: named.pointer, message });
            }
        }
    }
    match expand::expand(spec, &datasets) {
        Err(problems) => Err(PlanError::Invalid(problems.into_iter().chain(missing).collect())),
        Ok(_) if !missing.is_empty() => Err(PlanError::NotRegistered(missing)),
        Ok(expansion) => {
            for (scan, pointer) in found {
                verify(scan, pointer).await?;
            }
            Ok(expansion)
        }
    }
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

/// Fails unless the files of the dataset are still what was registered.
async fn verify(scan: Scan, pointer: String) -> Result<(), PlanError> {
    let name = scan.name.clone();
    match tokio::task::spawn_blocking(move || scan.verify()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(PlanError::Changed { name, pointer, source }),
        Err(stopped) => {
            Err(StoreError::Internal(format!("the check of the dataset {name:?} stopped: {stopped}")).into())
        }
    }
}

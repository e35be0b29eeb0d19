//! The errors that end an attempt early, and the [`Failure`] that is reported for each.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use recipe::{Failure, FailureKind, Problem};
use tch::TchError;

use crate::data::DataError;

#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    RecipeSyntax { path: PathBuf, source: serde_json::Error },
    #[error("{}: {}", path.display(), listed(problems))]
    InvalidRecipe { path: PathBuf, problems: Vec<Problem> },
    /// The flags do not fit the recipe or each other.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Data(#[from] DataError),
    /// The value `name`, a loss or a number of an evaluation, is not a finite number.
    #[error("the {name} of step {step} is {value}: try a lower learning rate or a longer warm-up")]
    NotFinite { name: String, step: u64, value: f64 },
    #[error(
        "the loss has diverged: its moving average is {smoothed:.3} after step {step}, and was {lowest:.3} at its lowest; \
         try a lower learning rate or a longer warm-up"
    )]
    Diverged { step: u64, smoothed: f64, lowest: f64 },
    #[error("{}: {why}", path.display())]
    CorruptCheckpoint { path: PathBuf, why: String },
    #[error("a value cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The message of libtorch.
    #[error("{0}")]
    Torch(String),
}

impl TrainerError {
    /// For `map_err`: adds the path of the file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The error for a training loss that is not finite.
    pub(crate) fn non_finite_loss(step: u64, loss: f64) -> Self {
        Self::NotFinite { name: "loss".to_owned(), step, value: loss }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::CorruptCheckpoint { path: path.into(), why: why.into() }
    }

    /// The error for an intact checkpoint that the recipe cannot start from.
    pub(crate) fn unsuited(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::InvalidRecipe {
            path: path.into(),
            problems: vec![Problem { pointer: "/from".into(), message: why.into() }],
        }
    }
}

impl TrainerError {
    /// The kind of failure that is reported.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            TrainerError::Data(error) => error.kind(),
            TrainerError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::DiskFull,
                io::ErrorKind::OutOfMemory => FailureKind::OutOfMemory,
                _ => FailureKind::Internal,
            },
            TrainerError::RecipeSyntax { .. } | TrainerError::InvalidRecipe { .. } | TrainerError::Usage(_) => {
                FailureKind::InvalidRecipe
            }
            TrainerError::NotFinite { .. } => FailureKind::NonFiniteLoss,
            TrainerError::Diverged { .. } => FailureKind::Diverged,
            TrainerError::CorruptCheckpoint { .. } => FailureKind::CorruptCheckpoint,
            TrainerError::Json(_) => FailureKind::Internal,
            TrainerError::Torch(text) => torch_kind(text),
        }
    }
}

impl From<TchError> for TrainerError {
    fn from(error: TchError) -> Self {
        Self::Torch(first_line(&error.to_string()))
    }
}

impl From<TrainerError> for Failure {
    fn from(error: TrainerError) -> Self {
        Failure { kind: error.kind(), message: error.to_string() }
    }
}

/// Runs `work` and turns a panic into an error. tch's operators panic with libtorch's message; their variants that
/// return a `Result` would need a question mark after every operation of the model, and the attempt ends either way.
pub fn caught<T>(work: impl FnOnce() -> Result<T, TrainerError>) -> Result<T, TrainerError> {
    // Nothing that `work` touched is used again after a panic, so nobody sees it half-changed.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(TrainerError::Torch(first_line(&message(&panic)))))
}

fn message(panic: &Box<dyn Any + Send>) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without a message".to_owned(),
    }
}

/// The first line of a message of libtorch, without the C++ stack trace that follows it.
fn first_line(text: &str) -> String {
    let text = text.split_once("Torch(\"").map_or(text, |(_, inner)| inner);
    text.split("\\n").next().unwrap_or(text).lines().next().unwrap_or_default().trim_end_matches("\")").to_owned()
}

fn torch_kind(text: &str) -> FailureKind {
    let text = text.to_lowercase();
    let contains = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if contains(&["out of memory", "not enough memory", "can't allocate memory"]) {
        FailureKind::OutOfMemory
    } else if contains(&["cuda error", "cublas", "cudnn", "cusolver", "device-side assert"]) {
        FailureKind::DeviceFault
    } else {
        FailureKind::Internal
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_allocation_is_out_of_memory() {
        let failed = caught(|| {
            let _ = tch::Tensor::zeros([1 << 60], (tch::Kind::Float, tch::Device::Cpu));
            Ok(())
        });
        let failure = Failure::from(failed.unwrap_err());
        assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure:?}");
        assert!(failure.message.contains("4611686018427387904 bytes"), "{failure:?}");
        assert!(!failure.message.contains("frame #"), "{failure:?}");
    }

    #[test]
    fn a_full_disk_and_a_device_fault_are_not_reported_as_internal() {
        let kind = |error| Failure::from(error).kind;
        let io = |code| TrainerError::io("checkpoints/x")(io::Error::from_raw_os_error(code));
        assert_eq!(kind(io(libc::ENOSPC)), FailureKind::DiskFull);
        assert_eq!(kind(io(libc::EACCES)), FailureKind::Internal);
        assert_eq!(kind(TrainerError::Torch("CUDA error: an illegal memory access".into())), FailureKind::DeviceFault);
        assert_eq!(kind(TrainerError::Torch("CUDA out of memory. Tried to".into())), FailureKind::OutOfMemory);
        assert_eq!(kind(caught::<()>(|| panic!("index 3")).unwrap_err()), FailureKind::Internal);
    }
}

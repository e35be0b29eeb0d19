//! The events of a trainer: one JSON object per line on its standard output.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::report::TrialReport;

/// A metric point: a number at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Point {
    /// `train_loss`, `learning_rate`, `theta`, `open_blocks`, `gradient_norm`, `step_seconds`, `validation_loss`, or a
    /// GLUE metric such as `dev_accuracy`.
    pub name: String,
    /// Optimiser updates made so far.
    pub step: u64,
    pub value: f64,
    /// Training time so far, over all attempts, without evaluation, checkpoints and queueing.
    pub trained_seconds: f64,
}

/// The device and the software of an attempt, as far as its result can depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Device {
    /// `cpu` or `cuda:0`.
    pub name: String,
    /// Processor or accelerator model.
    pub model: String,
    pub threads: u32,
    pub libtorch: String,
    /// Version of the trainer.
    pub trainer: String,
}

/// Something that happened in an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Event {
    /// The first event of an attempt.
    Started {
        fingerprint: String,
        device: Device,
        total_steps: u64,
        /// Step of the checkpoint from which the attempt resumes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed_from: Option<u64>,
    },
    /// Progress of work that is not a step. Before the first step: `tokenizing`, `training vocabulary`, `packing`,
    /// `reading images`; otherwise `probing`, `largest batch`.
    Preparing {
        what: String,
        done: u64,
        total: u64,
    },
    /// The current step, and the points since the last event of this kind. At most a few are sent per second.
    Progress {
        step: u64,
        total_steps: u64,
        trained_seconds: f64,
        points: Vec<Point>,
    },
    /// A validation, or an evaluation on a dev file, has ended.
    Evaluated {
        step: u64,
        trained_seconds: f64,
        points: Vec<Point>,
    },
    /// A checkpoint is complete on disk.
    Checkpointed {
        step: u64,
        trained_seconds: f64,
        /// Folder, relative to `--out`.
        folder: String,
        /// Hex sha256 of its `manifest.json`.
        manifest: String,
    },
    Finished {
        report: TrialReport,
    },
    Failed {
        failure: Failure,
    },
    /// The attempt was asked to stop, and left a checkpoint at this step.
    Interrupted {
        step: u64,
    },
}

/// Name of the file that lists the files of a checkpoint.
pub const MANIFEST: &str = "manifest.json";

/// The content of [`MANIFEST`]. It is written last, so that a folder with a valid manifest is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub fingerprint: String,
    pub step: u64,
    pub files: Vec<ManifestFile>,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ManifestFile {
    /// A plain file name, without any folder.
    pub name: String,
    /// Hex sha256 of the file's bytes.
    pub sha256: String,
    pub bytes: u64,
}

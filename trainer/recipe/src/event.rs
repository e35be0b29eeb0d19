//! What a trainer says: one JSON object a line on stdout.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::report::Report;

/// A number at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Point {
    /// `train_loss`, `learning_rate`, `theta`, `open_blocks`, `gradient_norm`, `step_seconds`, `validation_loss`, or a
    /// GLUE metric such as `dev_accuracy`.
    pub name: String,
    /// Optimiser updates made so far.
    pub step: u64,
    pub value: f64,
    /// Training time up to here, over all attempts: evaluation, checkpoints and queueing are not in it.
    pub trained_seconds: f64,
}

/// Where a trial runs, as far as its result can depend on it.
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Event {
    /// First line of an attempt.
    Started {
        fingerprint: String,
        device: Device,
        total_steps: u64,
        /// Step of the checkpoint that it goes on from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed_from: Option<u64>,
    },
    /// Work before the first step: `tokenizing`, `training vocabulary`, `packing`, `reading images`; and work
    /// beside steps: `probing`, `largest batch`.
    Preparing {
        what: String,
        done: u64,
        total: u64,
    },
    /// At most a few a second: where it stands, and the points since the last one.
    Progress {
        step: u64,
        total_steps: u64,
        trained_seconds: f64,
        points: Vec<Point>,
    },
    /// A validation or dev evaluation.
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
        report: Report,
    },
    Failed {
        failure: Failure,
    },
    /// Asked to stop; a checkpoint at this step is on disk.
    Interrupted {
        step: u64,
    },
}

/// `manifest.json` of a checkpoint: written last, so that a folder with a valid one is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub fingerprint: String,
    pub step: u64,
    pub files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// A plain file name, without any folder.
    pub name: String,
    /// Hex sha256 of its bytes.
    pub sha256: String,
    pub bytes: u64,
}

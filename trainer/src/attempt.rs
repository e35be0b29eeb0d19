//! One attempt of a trial: its device, the checkpoint that it continues from, and its end.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recipe::{Event, Seeds, TrialSpec};
use tch::Device;

use crate::checkpoint::{self, Verified};
use crate::device;
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::kernel;
use crate::options::Options;

/// The end of work that does not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    Finished(T),
    /// The work was stopped by a signal. The next attempt continues from the checkpoint of `step`, or starts again at
    /// step 0 if the work writes no checkpoints.
    Interrupted {
        step: u64,
    },
}

impl<T> Ended<T> {
    pub fn map<U>(self, finished: impl FnOnce(T) -> U) -> Ended<U> {
        match self {
            Self::Finished(value) => Ended::Finished(finished(value)),
            Self::Interrupted { step } => Ended::Interrupted { step },
        }
    }
}

/// The settings of an attempt that every stage needs besides its recipe and its inputs.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Folder of the checkpoints and the report.
    pub out: &'a Path,
    pub fingerprint: String,
    pub seeds: Seeds,
    pub device: Device,
    /// CPU threads that libtorch uses.
    pub threads: u32,
    /// The checkpoint to continue from.
    pub resumed: Option<Verified>,
    pub checkpoint_every: Duration,
    /// Set from outside when the attempt should write a checkpoint and end early.
    pub stop: &'a AtomicBool,
}

impl<'a> Attempt<'a> {
    /// Chooses device and threads, and opens the checkpoint to continue from. No data are read yet.
    ///
    /// # Errors
    /// A device that does not exist, a corrupt checkpoint, or a checkpoint in a run without `--resume`.
    pub fn prepare(options: &'a Options, spec: &TrialSpec, stop: &'a AtomicBool) -> Result<Self, TrainerError> {
        let threads = device::pin_threads(options.threads);
        kernel::keep_memory();
        let device = options.device.device()?;
        fs::create_dir_all(&options.out).map_err(TrainerError::io(&options.out))?;
        let newest = checkpoint::newest(&options.out)?;
        if let (Some(folder), false) = (&newest, options.resume) {
            return Err(TrainerError::Usage(format!(
                "{} already exists: continue from it with --resume, or choose another --out",
                folder.display()
            )));
        }
        Ok(Self {
            out: &options.out,
            fingerprint: spec.recipe.fingerprint().to_string(),
            seeds: spec.seeds,
            device,
            threads,
            resumed: newest.map(|folder| Verified::open(&folder)).transpose()?,
            checkpoint_every: options.checkpoint_seconds,
            stop,
        })
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Emits the `started` event of work that takes `total_steps`, and logs the same.
    pub fn announce(&self, total_steps: u64, emitter: &mut Emitter) -> Result<(), TrainerError> {
        let device = device::description(self.device, self.threads);
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
            resumed_from.map(|step| format!(", continuing from step {step}")).unwrap_or_default(),
        );
        emitter.emit(&Event::Started { fingerprint: self.fingerprint.clone(), device, total_steps, resumed_from })
    }
}

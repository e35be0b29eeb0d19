//! Checkpoints on disk: a complete, resumable picture of a trial at a step.
//!
//! A folder is written under a temporary name, synced and renamed, and its manifest holds the digest of each file. So a
//! folder under its final name is complete, and a changed byte is found.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use recipe::Seeds;
use recipe::event::{MANIFEST, Manifest, ManifestFile};
use recipe::published::{CONFIG, MODEL, VOCABULARY};
use safetensors::tensor::{SafeTensorError, SafeTensors, View, serialize_to_file};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::bert::weights::overwrite;
use crate::bert::{Weights, published};
use crate::data::vocabulary::Vocabulary;
use crate::failure::TrainerError;
use crate::optimizer::Optimizer;

const FOLDER: &str = "checkpoints";
const TEMPORARY: &str = ".writing-";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// Message for a file that is not used because the manifest does not list it.
const UNLISTED: &str = "is not listed in the manifest";
/// Number of checkpoints that are left on disk: a crash of the machine may have damaged the newest.
const CHECKPOINTS_ON_DISK: usize = 2;

/// The state that a resumed run needs besides weights and moments. It holds no random state, because draws are
/// functions of the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    pub fingerprint: String,
    pub seeds: Seeds,
    /// Number of optimiser updates so far.
    pub step: u64,
    /// Number of blocks that the model has so far; all blocks if it does not grow.
    pub blocks: u32,
    /// Moving average of the training loss, if divergence is checked.
    pub smoothed_loss: Option<f64>,
    /// Lowest value of `smoothed_loss` so far.
    pub lowest_loss: Option<f64>,
    /// Wall time of the training steps alone, over all attempts.
    pub trained_seconds: f64,
    /// Hex sha256 chained over (step, loss bits) of every step so far.
    pub chain: String,
    /// Number of updates of each group of weights.
    pub updates: Vec<u64>,
}

impl TrainingState {
    /// Adds the loss of a step to the moving average.
    ///
    /// # Errors
    /// `Diverged` if the average is more than `margin` nats above its lowest value.
    pub fn check_divergence(&mut self, loss: f64, margin: f64) -> Result<(), TrainerError> {
        /// Weight of the average so far; the new loss has the rest.
        const DECAY: f64 = 0.95;
        let smoothed = self.smoothed_loss.map_or(loss, |mean| DECAY * mean + (1.0 - DECAY) * loss);
        let lowest = self.lowest_loss.map_or(smoothed, |lowest| lowest.min(smoothed));
        (self.smoothed_loss, self.lowest_loss) = (Some(smoothed), Some(lowest));
        if smoothed > lowest + margin {
            return Err(TrainerError::Diverged { step: self.step, smoothed, lowest });
        }
        Ok(())
    }
}

/// The contents of a checkpoint.
pub struct Contents<'a> {
    pub state: &'a TrainingState,
    pub weights: &'a Weights,
    pub optimizer: &'a Optimizer,
    /// The content of `config.json`.
    pub config: &'a serde_json::Value,
    /// None for a model of images.
    pub vocabulary: Option<&'a Vocabulary>,
}

/// A checkpoint that was written.
#[derive(Debug)]
pub struct SavedCheckpoint {
    /// Path of the folder, relative to `--out`.
    pub folder: String,
    /// Hex sha256 of the manifest.
    pub manifest: String,
}

/// Writes a checkpoint under `out` and removes all but the last two.
///
/// # Errors
/// A failed write, which leaves the earlier checkpoints unchanged.
pub fn save(out: &Path, contents: &Contents<'_>) -> Result<SavedCheckpoint, TrainerError> {
    let root = out.join(FOLDER);
    let name = format!("step-{:012}", contents.state.step);
    let (temporary, folder) = (root.join(format!("{TEMPORARY}{name}")), root.join(&name));
    remove_folder(&temporary)?;
    fs::create_dir_all(&temporary).map_err(TrainerError::io(&temporary))?;
    write_tensors(&temporary.join(MODEL), contents.weights.named())?;
    write_tensors(&temporary.join(OPTIMIZER), moments(contents.weights, contents.optimizer))?;
    write_json(&temporary.join(STATE), contents.state)?;
    let described = published::files(contents.config, contents.vocabulary)?;
    for (name, text) in &described {
        let path = temporary.join(name);
        fs::write(&path, text.as_bytes()).map_err(TrainerError::io(&path))?;
    }
    let described = described.iter().map(|(name, _)| *name);
    let files = [MODEL].into_iter().chain(described).chain([OPTIMIZER, STATE]);
    let files = files.map(|file| sync_and_digest(&temporary, file)).collect::<Result<_, _>>()?;
    let manifest = Manifest { fingerprint: contents.state.fingerprint.clone(), step: contents.state.step, files };
    write_json(&temporary.join(MANIFEST), &manifest)?;
    let manifest = sync_and_digest(&temporary, MANIFEST)?.sha256;
    sync(&temporary)?;
    remove_folder(&folder)?;
    fs::rename(&temporary, &folder).map_err(TrainerError::io(&folder))?;
    sync(&root)?;
    let all = folders(out)?;
    for old in &all[..all.len().saturating_sub(CHECKPOINTS_ON_DISK)] {
        remove_folder(old)?;
    }
    Ok(SavedCheckpoint { folder: format!("{FOLDER}/{name}"), manifest })
}

/// Removes every checkpoint under `out`.
pub fn remove_all(out: &Path) -> Result<(), TrainerError> {
    remove_folder(&out.join(FOLDER))
}

/// The newest checkpoint under `out`, if there is one.
pub fn newest(out: &Path) -> Result<Option<PathBuf>, TrainerError> {
    Ok(folders(out)?.pop())
}

/// A checkpoint whose files match its manifest.
#[derive(Debug)]
pub struct Verified {
    folder: PathBuf,
    pub manifest: Manifest,
    /// Hex sha256 of the manifest itself.
    pub digest: String,
}

impl Verified {
    /// Opens a checkpoint to continue from, and checks the digest of every file.
    ///
    /// # Errors
    /// `CorruptCheckpoint` that names the file.
    pub fn open(folder: &Path) -> Result<Self, TrainerError> {
        Self::check(folder, &[MODEL, CONFIG, OPTIMIZER, STATE], |_| true)
    }

    /// Opens a checkpoint to fine-tune from or to probe. Only the files of the model have to be there.
    ///
    /// # Errors
    /// `CorruptCheckpoint` that names the file.
    pub fn open_model(folder: &Path) -> Result<Self, TrainerError> {
        Self::check(folder, &[MODEL, CONFIG], |name| name == VOCABULARY)
    }

    /// Checks the files that are `needed`, and those that are `wanted` if the manifest lists them: one that an earlier
    /// version wrote lists fewer.
    fn check(folder: &Path, needed: &[&str], wanted: impl Fn(&str) -> bool) -> Result<Self, TrainerError> {
        let path = folder.join(MANIFEST);
        let manifest: Manifest = read_json(&path)?;
        for name in needed {
            if manifest.files.iter().all(|file| file.name != *name) {
                return Err(TrainerError::corrupt(folder.join(name), UNLISTED));
            }
        }
        let checked = |file: &&ManifestFile| needed.contains(&&*file.name) || wanted(&file.name);
        for listed in manifest.files.iter().filter(checked) {
            let path = folder.join(&listed.name);
            let (sha256, bytes) = digest(&path).map_err(|e| TrainerError::corrupt(&path, e.to_string()))?;
            if (bytes, &sha256) != (listed.bytes, &listed.sha256) {
                let why = format!(
                    "has {bytes} bytes with sha256 {sha256}, but the manifest lists {} bytes with {}",
                    listed.bytes, listed.sha256
                );
                return Err(TrainerError::corrupt(path, why));
            }
        }
        let (digest, _) = digest(&path).map_err(TrainerError::io(&path))?;
        Ok(Self { folder: folder.to_owned(), manifest, digest })
    }

    /// The vocabulary of a model of text.
    ///
    /// # Errors
    /// `CorruptCheckpoint` if there is none; bad data if it is broken.
    pub fn vocabulary(&self) -> Result<Vocabulary, TrainerError> {
        let path = self.file(VOCABULARY);
        if !self.manifest.files.iter().any(|file| file.name == VOCABULARY) {
            return Err(TrainerError::corrupt(path, UNLISTED));
        }
        Ok(Vocabulary::read(&path)?)
    }

    /// Fills all `weights`, the head included, from the checkpoint of the same model.
    ///
    /// # Errors
    /// `CorruptCheckpoint` that names the weight that is missing or has another shape.
    pub fn restore_model(&self, weights: &Weights) -> Result<(), TrainerError> {
        fill(&self.file(MODEL), weights.named())?;
        weights.refresh();
        Ok(())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The state of a run.
    ///
    /// # Errors
    /// `CorruptCheckpoint` if it belongs to another recipe or has other seeds.
    pub fn state(&self, fingerprint: &str, seeds: &Seeds) -> Result<TrainingState, TrainerError> {
        let path = self.file(STATE);
        let state: TrainingState = read_json(&path)?;
        if state.fingerprint != fingerprint {
            let why = format!("belongs to the recipe {}, not to {fingerprint}", state.fingerprint);
            return Err(TrainerError::corrupt(path, why));
        }
        if state.seeds != *seeds {
            return Err(TrainerError::corrupt(path, format!("has the seeds {:?}, not {seeds:?}", state.seeds)));
        }
        Ok(state)
    }

    /// Fills weights and moments from the checkpoint.
    ///
    /// # Errors
    /// `CorruptCheckpoint` if one is missing or has another shape.
    pub fn restore(
        &self,
        state: &TrainingState,
        weights: &Weights,
        optimizer: &mut Optimizer,
    ) -> Result<(), TrainerError> {
        let path = self.file(OPTIMIZER);
        if state.updates.len() != optimizer.group_states().len() {
            let why = format!(
                "counts the updates of {} groups of weights, but the model has {}",
                state.updates.len(),
                optimizer.group_states().len()
            );
            return Err(TrainerError::corrupt(self.file(STATE), why));
        }
        for (group, &updates) in optimizer.group_states_mut().iter_mut().zip(&state.updates) {
            group.updates = updates;
        }
        self.restore_model(weights)?;
        fill(&path, moments(weights, optimizer))
    }
}

/// Hex sha256 over weights and moments, by name.
pub fn digest_of(weights: &Weights, optimizer: &Optimizer) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in weights.named().into_iter().chain(moments(weights, optimizer)) {
        hash.update(name.as_bytes());
        hash.update(bytes_of(&tensor));
    }
    hex::encode(hash.finalize())
}

/// The moments of each weight, as `<name>.first_moment` and `<name>.second_moment`.
fn moments(weights: &Weights, optimizer: &Optimizer) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    for (group, state) in weights.groups().iter().zip(optimizer.group_states()) {
        for (what, buffer) in [("first_moment", &state.first), ("second_moment", &state.second)] {
            all.extend(group.named(buffer).into_iter().map(|(name, view)| (format!("{name}.{what}"), view)));
        }
    }
    all
}

/// Checkpoint folders under `out`, oldest first.
fn folders(out: &Path) -> Result<Vec<PathBuf>, TrainerError> {
    let root = out.join(FOLDER);
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(TrainerError::io(&root))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainerError::io(&root))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")) {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// A float32 tensor on its way into a safetensors file.
struct Stored {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl View for Stored {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(bytes_of(&self.tensor))
    }
    fn data_len(&self) -> usize {
        self.tensor.numel() * Kind::Float.elt_size_in_bytes()
    }
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * Kind::Float.elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

fn write_tensors(path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<(), TrainerError> {
    let stored = tensors.into_iter().map(|(name, tensor)| {
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        (name, Stored { tensor, shape })
    });
    // The loader of Hugging Face requires this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(stored, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => TrainerError::io(path)(source),
        other => TrainerError::io(path)(io::Error::other(other.to_string())),
    })
}

/// Names of the tensors in a safetensors file.
///
/// # Errors
/// `CorruptCheckpoint` if the file is missing or broken.
pub fn names(path: &Path) -> Result<BTreeSet<String>, TrainerError> {
    let corrupt = |why: String| TrainerError::corrupt(path, why);
    let bytes = fs::read(path).map_err(|e| corrupt(e.to_string()))?;
    let stored = SafeTensors::deserialize(&bytes).map_err(|e| corrupt(e.to_string()))?;
    Ok(stored.names().into_iter().map(str::to_owned).collect())
}

/// Fills each of `targets` from the tensor of its name in the file, which may be float32, float16 or bfloat16.
///
/// # Errors
/// `CorruptCheckpoint` that names the tensor that is missing or has another shape.
pub fn fill(path: &Path, targets: impl IntoIterator<Item = (String, Tensor)>) -> Result<(), TrainerError> {
    let bytes = fs::read(path).map_err(TrainerError::io(path))?;
    let stored = SafeTensors::deserialize(&bytes).map_err(|e| TrainerError::corrupt(path, e.to_string()))?;
    for (name, mut target) in targets {
        let view = stored.tensor(&name).map_err(|e| TrainerError::corrupt(path, format!("{name}: {e}")))?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let kind = match view.dtype() {
            safetensors::Dtype::F32 => Some(Kind::Float),
            safetensors::Dtype::F16 => Some(Kind::Half),
            safetensors::Dtype::BF16 => Some(Kind::BFloat16),
            _ => None,
        };
        match kind {
            Some(kind) if shape == target.size() => {
                overwrite(&mut target, &Tensor::from_data_size(view.data(), &shape, kind));
            }
            _ => {
                let why = format!("{name} is {:?} {shape:?}, not F32 {:?}", view.dtype(), target.size());
                return Err(TrainerError::corrupt(path, why));
            }
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainerError> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    fs::write(path, text).map_err(TrainerError::io(path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, TrainerError> {
    let text = fs::read(path).map_err(|e| TrainerError::corrupt(path, e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| TrainerError::corrupt(path, e.to_string()))
}

/// Syncs a file that was written, and computes its digest from what is on disk.
fn sync_and_digest(folder: &Path, name: &str) -> Result<ManifestFile, TrainerError> {
    let path = folder.join(name);
    sync(&path)?;
    let (sha256, bytes) = digest(&path).map_err(TrainerError::io(&path))?;
    Ok(ManifestFile { name: name.to_owned(), sha256, bytes })
}

/// Syncs a file, or a folder's list of names.
fn sync(path: &Path) -> Result<(), TrainerError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(TrainerError::io(path))
}

fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hash)?;
    Ok((hex::encode(hash.finalize()), bytes))
}

fn remove_folder(path: &Path) -> Result<(), TrainerError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TrainerError::io(path)(error)),
        _ => Ok(()),
    }
}

//! The artifact store: checkpoints, files of datasets and answers to test files, in a local folder or in S3.
//!
//! An artifact is named by the sha256 of its bytes and never changes. Writing is atomic: an artifact that is incomplete, or
//! whose bytes do not have its name as their sha256, is never visible.

use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use protocol::{Digest, InvalidDigest};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::dataset::{DatasetError, Identity, Roots, Verified};
use crate::store::{Claim, Store, StoreError};

/// Bytes in one part of an upload. S3 requires at least 5 MiB.
const PART: usize = 8 << 20;
/// Bytes of a dataset's file that are read at a time.
const READ: u64 = 1 << 18;

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error(transparent)]
    Name(#[from] InvalidDigest),
    #[error("there is no artifact {0}")]
    NotFound(Digest),
    #[error("the bytes sent have the sha256 {found}, not {named}")]
    Mismatch { named: Digest, found: String },
    /// The artifact is being deleted and can be sent again in a moment.
    #[error("artifact {0} is being deleted")]
    Condemned(Digest),
    #[error("bytes {start} to {end} are not in an artifact of {bytes} bytes")]
    Range { start: u64, end: u64, bytes: u64 },
    #[error("the upload broke off: {0}")]
    Upload(Box<dyn std::error::Error + Send + Sync>),
    /// The artifact is a file of a dataset, and that file has changed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("artifact store {place}: {why}")]
    Place { place: String, why: String },
    #[error("the artifact store failed: {0}")]
    Objects(#[from] object_store::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} was written to while it was sent", .0.display())]
    Moving(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The place of an artifact in the store. Two levels, so that no folder gets too large.
fn object_path(digest: &Digest) -> Path {
    Path::from(format!("sha256/{}/{digest}", &digest.as_str()[..2]))
}

/// An artifact, or a part of one, that is being read.
pub struct Found {
    /// Size of the whole artifact.
    pub bytes: u64,
    /// The part of the artifact that `stream` yields.
    pub range: Range<u64>,
    pub stream: BoxStream<'static, Result<Bytes, ArtifactError>>,
}

#[derive(Clone)]
pub struct Artifacts {
    objects: Arc<dyn ObjectStore>,
    store: Store,
    roots: Roots,
}

impl Artifacts {
    /// Opens the store in a folder, which is created if it does not exist, or at `s3://bucket/prefix` with the usual `AWS_...`
    /// variables of `environment`. The files of datasets are read beneath `roots`.
    pub fn open(
        place: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        store: Store,
        roots: Roots,
    ) -> Result<Self, ArtifactError> {
        let objects = objects(place, environment).map_err(|why| ArtifactError::Place { place: place.into(), why })?;
        Ok(Self { objects, store, roots })
    }

    /// Stores a stream whose bytes must have the sha256 `digest`. Storing an artifact again changes nothing.
    pub async fn put<E>(
        &self,
        digest: &Digest,
        stream: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<u64, ArtifactError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.store.claim_artifact(digest.as_str()).await? {
            Claim::Present { bytes } => return Ok(bytes),
            Claim::Condemned => return Err(ArtifactError::Condemned(digest.clone())),
            Claim::Absent => (),
        }
        let upload = self.objects.put_multipart(&object_path(digest)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        let received = receive(&mut writer, stream).await;
        let (bytes, found) = match received {
            Ok(received) => received,
            Err(error) => {
                writer.abort().await?;
                return Err(error);
            }
        };
        if found != digest.as_str() {
            writer.abort().await?;
            return Err(ArtifactError::Mismatch { named: digest.clone(), found });
        }
        writer.finish().await?;
        self.store.note_artifact(digest.as_str(), bytes).await?;
        Ok(bytes)
    }

    /// The size of an artifact, if it is stored or is a file of a registered dataset. An artifact that was looked up is kept for
    /// a while.
    pub async fn head(&self, digest: &Digest) -> Result<Option<u64>, ArtifactError> {
        if let Claim::Present { bytes } = self.store.claim_artifact(digest.as_str()).await? {
            return Ok(Some(bytes));
        }
        Ok(self.dataset_file(digest).await?.map(|verified| verified.identity.bytes))
    }

    /// Reads an artifact from `start` to `end`, exclusive, or to its last byte.
    pub async fn get(&self, digest: &Digest, start: u64, end: Option<u64>) -> Result<Found, ArtifactError> {
        let stored = self.store.claim_artifact(digest.as_str()).await?;
        let file = match stored {
            Claim::Present { .. } => None,
            Claim::Absent | Claim::Condemned => {
                Some(self.dataset_file(digest).await?.ok_or_else(|| ArtifactError::NotFound(digest.clone()))?)
            }
        };
        let bytes = match (&stored, &file) {
            (Claim::Present { bytes }, _) => *bytes,
            (_, Some(verified)) => verified.identity.bytes,
            (Claim::Absent | Claim::Condemned, None) => return Err(ArtifactError::NotFound(digest.clone())),
        };
        let range = start..end.unwrap_or(bytes).min(bytes);
        if range.start > range.end || (range.is_empty() && bytes > 0) {
            return Err(ArtifactError::Range { start, end: end.unwrap_or(bytes), bytes });
        }
        let stream = match file {
            Some(verified) => read_file(verified, range.clone()).await?,
            None if bytes == 0 => futures::stream::empty().boxed(),
            None => {
                let options = GetOptions::new().with_range(Some(range.clone()));
                let found = self.objects.get_opts(&object_path(digest), options).await?;
                found.into_stream().map_err(ArtifactError::from).boxed()
            }
        };
        Ok(Found { bytes, range, stream })
    }

    /// Reads a whole artifact into memory; only for small ones.
    pub async fn read(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        let found = self.get(digest, 0, None).await?;
        let parts: Vec<Bytes> = found.stream.try_collect().await?;
        Ok(parts.concat().into())
    }

    /// Deletes a condemned artifact. It is no error if the artifact is already gone.
    pub(crate) async fn delete(&self, digest: &Digest) -> Result<(), ArtifactError> {
        match self.objects.delete(&object_path(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(self.store.drop_artifact(digest.as_str()).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// The first registered file that still has this content, opened.
    async fn dataset_file(&self, digest: &Digest) -> Result<Option<Verified>, ArtifactError> {
        let mut changed = None;
        for (folder, scanned) in self.store.dataset_files_by_sha256(digest.as_str()).await? {
            match self.roots.open_registered(folder, scanned).await {
                Ok(verified) => return Ok(Some(verified)),
                Err(error) => changed = Some(error),
            }
        }
        changed.map_or(Ok(None), |error| Err(ArtifactError::Dataset(error)))
    }
}

fn objects(
    place: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, String> {
    if let Some(rest) = place.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let settings = environment.into_iter().filter(|(name, _)| name.starts_with("AWS_"));
        let s3 = settings.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)));
        let s3 = s3.fold(AmazonS3Builder::new(), |s3, (key, value)| s3.with_config(key, value));
        let s3 = s3.with_bucket_name(bucket).build().map_err(|error| error.to_string())?;
        return Ok(Arc::new(object_store::prefix::PrefixStore::new(s3, prefix)));
    }
    if place.contains("://") {
        return Err("a folder, or s3://bucket/prefix".into());
    }
    let folder = FilePath::new(place);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let local = LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string())?;
    Ok(Arc::new(local))
}

/// Writes the stream to the upload and hashes it on the way. Returns its size and hex sha256.
async fn receive<E>(
    writer: &mut WriteMultipart,
    stream: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(u64, String), ArtifactError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut stream = std::pin::pin!(stream);
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| ArtifactError::Upload(error.into()))?;
        hasher.update(&part);
        bytes += part.len() as u64;
        // Only a few parts may wait in memory for a slow store.
        writer.wait_for_capacity(4).await?;
        writer.put(part);
    }
    Ok((bytes, hex::encode(hasher.finalize())))
}

/// The bytes in `range` of a file. The stream breaks off if the file is written to in the meantime, because what follows
/// may not be the registered content.
async fn read_file(
    verified: Verified,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, ArtifactError>>, ArtifactError> {
    let Verified { path, file, identity } = verified;
    let mut file = tokio::fs::File::from_std(file);
    let failed = |path: &FilePath, source| ArtifactError::File { path: path.into(), source };
    file.seek(io::SeekFrom::Start(range.start)).await.map_err(|source| failed(&path, source))?;
    let state = (file, path, range.end - range.start);
    Ok(stream::try_unfold(state, move |(mut file, path, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut part = Vec::with_capacity(left.min(READ) as usize);
        (&mut file).take(left.min(READ)).read_buf(&mut part).await.map_err(|source| failed(&path, source))?;
        let now = file.metadata().await.map_err(|source| failed(&path, source))?;
        if part.is_empty() || Identity::of(&now) != identity {
            return Err(ArtifactError::Moving(path));
        }
        let left = left - part.len() as u64;
        Ok(Some((Bytes::from(part), (file, path, left))))
    })
    .boxed())
}

//! The checkpoint of a trial: what it consists of, and all of it in one archive.

use std::io;

use async_stream::try_stream;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use protocol::Digest;
use protocol::id::TrialId;
use recipe::Stage;
use recipe::event::{MANIFEST, Manifest, ManifestFile};
use scheduler::artifact::Artifacts;
use scheduler::store::CheckpointView;
use scheduler::trial::TrialView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::extract::Path;
use crate::tar;

/// A complete checkpoint. Each of its files is the artifact of its sha256; `manifest` is that of `manifest.json`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Checkpoint {
    #[serde(flatten)]
    pub(crate) checkpoint: CheckpointView,
    /// Fingerprint of the recipe that made it.
    pub(crate) fingerprint: String,
    pub(crate) files: Vec<ManifestFile>,
}

/// The newest complete checkpoint of a trial, with the names, sizes and digests of its files.
#[utoipa::path(
    get, operation_id = "get_trial_checkpoint", path = "/trials/{id}/checkpoint", tag = "trials", security(("token" = [])),
    params(("id" = TrialId, Path)),
    responses(
        (status = OK, body = Checkpoint),
        (status = NOT_FOUND, description = "No such trial, or it has no checkpoint", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(State(app): State<App>, Path(id): Path<TrialId>) -> Result<Json<Checkpoint>, Error> {
    Ok(Json(newest(&app, id).await?.0))
}

/// The newest complete checkpoint of a trial as a tar archive of one folder.
#[utoipa::path(
    get, operation_id = "get_trial_checkpoint_archive", path = "/trials/{id}/checkpoint.tar", tag = "trials", security(("token" = [])),
    params(("id" = TrialId, Path)),
    responses(
        (status = OK, body = [u8], content_type = "application/x-tar"),
        (status = NOT_FOUND, description = "No such trial, or it has no checkpoint", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn archive(State(app): State<App>, Path(id): Path<TrialId>) -> Result<Response, Error> {
    let (Checkpoint { checkpoint, files, .. }, manifest) = newest(&app, id).await?;
    let folder = format!("checkpoint-{id}-step-{}", checkpoint.step);
    let mut members = Vec::with_capacity(files.len());
    for ManifestFile { name, sha256, bytes } in files {
        let digest = digest(&sha256)?;
        // From now on the file is kept for a while, so it is still there when its turn comes.
        let stored = app.artifacts.head(&digest).await?;
        if stored != Some(bytes) {
            return Err(Error::NotFound(format!("file {name} of this checkpoint with {bytes} bytes any more")));
        }
        let header = tar::header(&format!("{folder}/{name}"), bytes, checkpoint.created_at).map_err(Error::internal)?;
        members.push((header, digest, bytes));
    }
    let name = format!("{folder}/{MANIFEST}");
    let head = tar::header(&name, manifest.len() as u64, checkpoint.created_at).map_err(Error::internal)?;
    let sizes = members.iter().map(|(_, _, bytes)| *bytes).chain([manifest.len() as u64]);
    let length: u64 = sizes.map(tar::member_length).sum::<u64>() + tar::END.len() as u64;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(format!("attachment; filename=\"{folder}.tar\"")).map_err(Error::internal)?,
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(packed((head, manifest), members, app.artifacts))).into_response())
}

/// The bytes of the archive. It breaks off if a file cannot be read to its end.
fn packed(
    (head, manifest): (tar::Header, Bytes),
    members: Vec<(tar::Header, Digest, u64)>,
    artifacts: Artifacts,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    try_stream! {
        yield Bytes::copy_from_slice(&head);
        let padding = tar::padding(manifest.len() as u64);
        yield manifest;
        yield padding;
        for (head, digest, bytes) in members {
            yield Bytes::copy_from_slice(&head);
            let mut found = artifacts.get(&digest, 0, None).await.map_err(io::Error::other)?;
            while let Some(part) = found.stream.next().await {
                yield part.map_err(io::Error::other)?;
            }
            yield tar::padding(bytes);
        }
        yield Bytes::from_static(&tar::END);
    }
}

/// The newest complete checkpoint of a trial, and its manifest as it was written.
async fn newest(app: &App, id: TrialId) -> Result<(Checkpoint, Bytes), Error> {
    let trial = app.store.trial(id, &app.policy).await?;
    let Some(checkpoint) = app.store.checkpoints(id).await?.into_iter().next() else {
        return Err(Error::NotFound(format!("checkpoint of trial {id}: {}", why_none(&trial))));
    };
    let text = app.artifacts.read(&digest(&checkpoint.manifest)?).await?;
    let Manifest { fingerprint, files, .. } = serde_json::from_slice(&text).map_err(Error::internal)?;
    Ok((Checkpoint { checkpoint, fingerprint, files }, text))
}

/// The reason why a trial has no checkpoint, for the person who asks for it.
fn why_none(trial: &TrialView) -> String {
    let stage = trial.stage.words();
    match trial.stage {
        Stage::Timing | Stage::Probe => format!("a {stage} trial writes none"),
        Stage::Finetune if trial.state.is_ended() => {
            format!(
                "a {stage} trial leaves its score; the checkpoint that it started from is that of its pre-train trial"
            )
        }
        Stage::Pretrain | Stage::Finetune if trial.state.is_ended() => {
            format!("it is {}, and only a trial that has succeeded keeps one", trial.state.name())
        }
        Stage::Pretrain | Stage::Finetune => format!("it is {} and has not written one yet", trial.state.name()),
    }
}

fn digest(sha256: &str) -> Result<Digest, Error> {
    sha256.parse().map_err(Error::internal)
}

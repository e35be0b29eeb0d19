//! Checkpoints of trials, and the artifacts that they keep alive.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{Store, StoreError, signed, transition, unsigned};
use protocol::id::{AttemptId, TrialId};
use protocol::{Digest, SequencedEvent};
use recipe::Event;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    pub attempt: AttemptId,
    pub step: u64,
    pub trained_seconds: f64,
    /// Hex sha256 of the checkpoint's manifest.
    pub manifest: String,
    pub created_at: DateTime<Utc>,
}

/// A checkpoint whose files are not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadCheckpoint {
    pub id: i64,
    pub manifest: String,
}

/// The state of an artifact for a client that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Present {
        bytes: u64,
    },
    Absent,
    /// The artifact is being deleted and can be sent again in a moment.
    Condemned,
}

impl Store {
    /// The usable checkpoints of a trial, the newest first.
    pub async fn checkpoints(&self, trial: TrialId) -> Result<Vec<CheckpointView>, StoreError> {
        let rows = sqlx::query!(
            r#"select attempt_id as "attempt: AttemptId", step, trained_seconds, manifest, created_at
               from checkpoint where trial_id = $1 and forgotten_at is null order by step desc, id desc"#,
            trial.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| CheckpointView {
                attempt: row.attempt,
                step: unsigned(row.step),
                trained_seconds: row.trained_seconds,
                manifest: row.manifest,
                created_at: row.created_at,
            })
            .collect())
    }

    /// Forgets the checkpoints that are no longer needed. An open trial keeps its last two checkpoints, a finished pre-train
    /// trial the one that its report names, and every other ended trial none. Returns the number of forgotten checkpoints.
    pub(crate) async fn forget_superseded(&self) -> Result<u64, StoreError> {
        let forgotten = sqlx::query!(
            "with ranked as (
                 select c.id, t.state, c.manifest = t.report ->> 'checkpoint' as reported,
                        row_number() over (partition by c.trial_id order by c.step desc, c.id desc) as place
                 from checkpoint c join trial t on t.id = c.trial_id where c.forgotten_at is null
             ), needless as (
                 select id from ranked
                 where case state
                           when 'succeeded' then reported is not true
                           when 'failed' then true
                           when 'cancelled' then true
                           else place > 2
                       end
             )
             update checkpoint c set forgotten_at = now(), forgotten_as = 'superseded'
             from needless n where c.id = n.id and c.forgotten_at is null"
        );
        Ok(forgotten.execute(&self.pool).await?.rows_affected())
    }

    /// Checkpoints in use whose manifests have not been read yet.
    pub(crate) async fn unread_checkpoints(&self) -> Result<Vec<UnreadCheckpoint>, StoreError> {
        let rows = sqlx::query_as!(
            UnreadCheckpoint,
            "select id, manifest from checkpoint where forgotten_at is null and files is null order by id"
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Notes the digests of a checkpoint's files.
    pub(crate) async fn note_checkpoint_files(&self, id: i64, files: &[String]) -> Result<(), StoreError> {
        sqlx::query!("update checkpoint set files = $2 where id = $1", id, files).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the artifact is used. From now on it is kept for `keep_unreferenced`, even if nothing refers to it.
    pub(crate) async fn claim_artifact(&self, sha256: &str) -> Result<Claim, StoreError> {
        let row = sqlx::query!(
            r#"update artifact set touched_at = now() where sha256 = $1
               returning bytes, condemned_at is not null as "condemned!""#,
            sha256
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(match row {
            None => Claim::Absent,
            Some(row) if row.condemned => Claim::Condemned,
            Some(row) => Claim::Present { bytes: unsigned(row.bytes) },
        })
    }

    /// Notes that the artifact is stored.
    pub(crate) async fn note_artifact(&self, sha256: &str, bytes: u64) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into artifact (sha256, bytes) values ($1, $2)
             on conflict (sha256) do update set touched_at = now()",
            sha256,
            signed(bytes)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Condemns artifacts to which neither a checkpoint in use nor a report with answers to test files refers, and which were
    /// not used lately. Condemns none while the files of a checkpoint in use are unknown. Returns all condemned artifacts that
    /// still exist.
    pub(crate) async fn condemn_artifacts(&self, keep: Duration) -> Result<Vec<String>, StoreError> {
        sqlx::query!(
            "update artifact a set condemned_at = now()
             where condemned_at is null and touched_at < now() - make_interval(secs => $1)
               and not exists (select from checkpoint where forgotten_at is null and files is null)
               and not exists (
                   select from checkpoint c
                   where c.forgotten_at is null and (c.manifest = a.sha256 or a.sha256 = any(c.files))
               )
               and not exists (
                   select from trial t
                   where t.report -> 'predictions' @> jsonb_build_array(jsonb_build_object('sha256', a.sha256))
               )",
            keep.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        let rows = sqlx::query_scalar!("select sha256 from artifact where condemned_at is not null order by sha256");
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Notes that a condemned artifact was deleted.
    pub(crate) async fn drop_artifact(&self, sha256: &str) -> Result<(), StoreError> {
        sqlx::query!("delete from artifact where sha256 = $1 and condemned_at is not null", sha256)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Forgets the newest checkpoint of a trial, which its attempt could not read, and writes an event about it.
pub(super) async fn forget_newest(
    connection: &mut PgConnection,
    trial: &transition::Locked,
    attempt: AttemptId,
) -> Result<(), StoreError> {
    let forgotten = sqlx::query!(
        "update checkpoint set forgotten_at = now(), forgotten_as = 'corrupt'
         where id = (select id from checkpoint where trial_id = $1 and forgotten_at is null
                     order by step desc, id desc limit 1)
         returning step, manifest",
        trial.id.0
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(forgotten) = forgotten else { return Ok(()) };
    sqlx::query!(
        "select append_event($1, $2, $3, null, 'checkpoint_forgotten', $4)",
        trial.job.0,
        trial.id.0,
        attempt.0,
        serde_json::json!({ "step": forgotten.step, "manifest": forgotten.manifest })
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Notes the checkpoints that `events` report.
pub(super) async fn write_checkpoints(
    connection: &mut PgConnection,
    trial: TrialId,
    attempt: AttemptId,
    events: &[SequencedEvent],
) -> Result<(), StoreError> {
    for SequencedEvent { event, .. } in events {
        let Event::Checkpointed { step, trained_seconds, manifest, .. } = event else { continue };
        if let Err(error) = manifest.parse::<Digest>() {
            tracing::warn!(%attempt, %error, "a checkpoint whose manifest has no valid digest is ignored");
            continue;
        }
        sqlx::query!(
            "insert into checkpoint (trial_id, attempt_id, step, trained_seconds, manifest)
             values ($1, $2, $3, $4, $5)",
            trial.0,
            attempt.0,
            signed(*step),
            trained_seconds,
            manifest
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

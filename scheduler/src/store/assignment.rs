//! The attempts that should run on a node, with the files that they need.

use std::collections::HashSet;

use recipe::{Probe, Recipe, Source, TrialSpec, Vocabulary};
use uuid::Uuid;

use super::{Store, StoreError, read};
use protocol::id::{AttemptId, NodeId, TrialId};
use protocol::{Assignment, DatasetFiles, KeptAttempt};

impl Store {
    /// The attempts that should run on the node. Attempts in `known`, which the node runs already, are only named, so that they
    /// go on even if this server cannot read their specs.
    pub(super) async fn assignments(
        &self,
        node: NodeId,
        known: &HashSet<Uuid>,
    ) -> Result<(Vec<KeptAttempt>, Vec<Assignment>), StoreError> {
        let rows = sqlx::query!(
            r#"select a.id as "attempt: AttemptId", t.id as "trial: TrialId", a.slot, t.spec, a.interrupt,
                      w.report ->> 'checkpoint' as "from?",
                      (select c.manifest from checkpoint c where c.trial_id = t.id and c.forgotten_at is null
                       order by c.step desc, c.id desc limit 1) as resume
               from attempt a join trial t on t.id = a.trial_id left join trial w on w.id = t.waits_for
               where a.node_id = $1 and a.ended_at is null order by a.slot"#,
            node.0
        )
        .fetch_all(&self.pool)
        .await?;
        let (mut keep, mut run) = (Vec::new(), Vec::new());
        for row in rows {
            let attempt = row.attempt;
            if known.contains(&attempt.0) {
                keep.push(KeptAttempt { attempt, interrupt: row.interrupt });
                continue;
            }
            let assignment = async {
                let spec: TrialSpec = read("trial", "spec", row.trial, row.spec)?;
                let inputs = Inputs::of(&spec.recipe);
                Ok(Assignment {
                    attempt,
                    trial: row.trial,
                    slot: row.slot as u32,
                    corpus: self.files(row.trial, inputs.corpus).await?,
                    vocabulary: self.files(row.trial, inputs.vocabulary).await?,
                    glue: self.files(row.trial, inputs.glue).await?,
                    checkpoint: self.files(row.trial, inputs.checkpoint).await?,
                    spec,
                    from: row.from,
                    resume: row.resume,
                    interrupt: row.interrupt,
                })
            };
            match assignment.await {
                Ok(assignment) => run.push(assignment),
                // The attempt's lease runs out unless a server of another version, which can read it, hands it out.
                Err(error @ StoreError::Row { .. }) => {
                    tracing::error!(%attempt, %error, "an attempt whose trial cannot be read is not handed out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok((keep, run))
    }

    async fn files(
        &self,
        trial: TrialId,
        dataset: Option<recipe::Dataset>,
    ) -> Result<Option<DatasetFiles>, StoreError> {
        let Some(dataset) = dataset else { return Ok(None) };
        let missing = || StoreError::Row {
            table: "trial",
            column: "spec",
            id: trial.to_string(),
            why: format!("the dataset {:?} is not registered", dataset.name),
        };
        let digest = dataset.digest.as_deref().ok_or_else(missing)?;
        Ok(Some(self.dataset_by_digest(digest).await?.ok_or_else(missing)?.to_files()))
    }
}

/// The datasets that a recipe reads.
#[derive(Default)]
struct Inputs {
    corpus: Option<recipe::Dataset>,
    vocabulary: Option<recipe::Dataset>,
    glue: Option<recipe::Dataset>,
    checkpoint: Option<recipe::Dataset>,
}

impl Inputs {
    fn of(recipe: &Recipe) -> Self {
        let pretrain = match recipe {
            // The arms of a job share their data.
            Recipe::Timing(timing) => timing.arms.first().map(|arm| &arm.recipe),
            Recipe::Pretrain(pretrain) => Some(pretrain),
            Recipe::Probe(Probe { from, published: Some(checkpoint), .. }) => {
                let checkpoint = Some(checkpoint.clone());
                return Self { corpus: Some(from.corpus.clone()), checkpoint, ..Self::default() };
            }
            Recipe::Probe(probe) => Some(&*probe.from),
            // A fine-tune trial takes the vocabulary from its checkpoint.
            Recipe::Finetune(finetune) => {
                let checkpoint = match &finetune.from {
                    Source::Pretrained(_) => None,
                    Source::Published(published) => Some(published.checkpoint.clone()),
                };
                return Self { glue: Some(finetune.glue.clone()), checkpoint, ..Self::default() };
            }
        };
        Self {
            corpus: pretrain.map(|recipe| recipe.corpus.clone()),
            vocabulary: pretrain.and_then(|recipe| match &recipe.vocabulary {
                Some(Vocabulary::File { dataset }) => Some(dataset.clone()),
                Some(Vocabulary::Trained { .. }) | None => None,
            }),
            glue: None,
            checkpoint: None,
        }
    }
}

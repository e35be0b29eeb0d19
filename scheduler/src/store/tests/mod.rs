//! Named promises of the store and the control loop, against a real Postgres.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recipe::event::{Device, Point};
use recipe::report::{ArmTiming, FinetuneReport, PredictionFile, PretrainReport, ProbeReport, TimingReport, Turn};
use recipe::{Event, Recipe, TrialReport};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::artifact::Artifacts;
use crate::control::Control;
use crate::dataset::{DatasetKind, Roots, Scan};
use crate::job::JobSpec;
use crate::policy::Policy;
use crate::store::{Store, StoreError, Submitted};
use crate::submit::plan;
use crate::testing::TestDatabase;
use crate::token::{Scope, Secret};
use crate::trial::{TrialFilter, TrialState};
use crate::work::Stop;
use protocol::id::{AttemptId, JobId, TokenId, TrialId};
use protocol::{
    Assignment, AttemptEnd, AttemptReport, AttemptState, NodeFacts, SequencedEvent, SequencedLine, SlotFacts,
    SyncRequest, SyncResponse,
};

mod artifacts;
mod attempts;
mod jobs;
mod nodes;
mod pools;
mod races;
mod reads;

struct World {
    store: Store,
    artifacts: Artifacts,
    control: Control,
    policy: Policy,
    /// The token of the agents.
    token: TokenId,
    roots: Roots,
    data: tempfile::TempDir,
    database: TestDatabase,
}

fn scan(roots: &Roots, kind: DatasetKind, name: &str, path: &Path) -> Scan {
    crate::dataset::scan(roots, kind, name, path, &Stop::never()).unwrap()
}

impl World {
    /// A server on an empty database, with a corpus, a vocabulary and two GLUE tasks registered.
    async fn new() -> Self {
        Self::with(Policy::default()).await
    }

    async fn with(policy: Policy) -> Self {
        let database = TestDatabase::new().await;
        let store = database.store().await;
        let data = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = data.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("wiki/a.txt", "one paragraph\n");
        write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
        let rte = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tb\tnot_entailment\n";
        let cola = "x\t1\t\ta\nx\t0\t*\tb\nx\t1\t\tc\n";
        for (task, text) in [("RTE", rte), ("CoLA", cola)] {
            for file in ["train", "dev"] {
                write(&format!("glue/{task}/{file}.tsv"), text);
            }
        }
        let roots = Roots::open([data.path().to_owned()]).unwrap();
        for (kind, name, path) in [
            (DatasetKind::Corpus, "wiki", "wiki"),
            (DatasetKind::Vocabulary, "bert-base-uncased", "vocab.txt"),
            (DatasetKind::Glue, "glue", "glue"),
        ] {
            store.register_dataset(&scan(&roots, kind, name, &data.path().join(path))).await.unwrap();
        }
        let artifacts = Artifacts::open(path_text(&data.path().join("artifacts")), [], store.clone(), roots.clone());
        let artifacts = artifacts.unwrap();
        let control = Control::new(store.clone(), artifacts.clone(), policy.clone());
        let secret = Secret::from_random([7; 32]);
        let token = store.create_token("agents", Scope::Agent, &secret, None).await.unwrap().id;
        Self { store, artifacts, control, policy, token, roots, data, database }
    }

    /// Submits a job of one arm without timing or fine-tuning, changed by `change`.
    async fn submit(&self, change: impl FnOnce(&mut Value)) -> JobId {
        let mut spec = json!({"name": "job", "corpus": "wiki", "arms": [{"name": "pre-ln"}], "timing": null});
        change(&mut spec);
        let spec: JobSpec = serde_json::from_value(spec).unwrap();
        let expansion = Arc::new(plan(&self.store, &self.roots, &spec).await.unwrap());
        match self.store.submit(&spec, &expansion, None).await.unwrap() {
            Submitted::Created(job) => job,
            other => panic!("{other:?}"),
        }
    }

    /// Submits a job of one trial, places it on the agent's node and hands it to the agent.
    async fn running(&self, agent: &Agent) -> Assignment {
        self.submit(|_| ()).await;
        agent.sync(&self.store, vec![]).await;
        self.placed(agent).await
    }

    /// Goes one round and hands the agent the one attempt that it is given.
    async fn placed(&self, agent: &Agent) -> Assignment {
        self.control.round().await.unwrap();
        let mut run = agent.sync(&self.store, vec![]).await.run;
        assert_eq!(run.len(), 1);
        run.remove(0)
    }

    /// Panics unless the sums in each job's row are those of its trials.
    async fn check_sums(&self) {
        let differing = "select j.id from job j join lateral (
                 select count(*) as trials,
                        count(*) filter (where state = 'blocked') as blocked,
                        count(*) filter (where state = 'queued') as queued,
                        count(*) filter (where state = 'running') as running,
                        count(*) filter (where state = 'succeeded') as succeeded,
                        count(*) filter (where state = 'failed') as failed,
                        count(*) filter (where state = 'cancelled') as cancelled,
                        count(*) filter (where state = 'paused') as paused,
                        count(*) filter (where state = 'succeeded' and waits_for is null) as useful,
                        coalesce(sum(work), 0) as work,
                        coalesce(sum(work) filter (where finished_at is not null), 0) as ended_work,
                        coalesce(sum(work) filter (where state = 'cancelled'), 0) as cancelled_work,
                        min(started_at) as started_at, max(finished_at) as finished_at
                 from trial where job_id = j.id
             ) t on (j.trials, j.blocked, j.queued, j.running, j.succeeded, j.failed, j.cancelled, j.paused, j.useful)
                    is distinct from
                    (t.trials, t.blocked, t.queued, t.running, t.succeeded, t.failed, t.cancelled, t.paused, t.useful)
                 or (j.started_at, j.finished_at) is distinct from (t.started_at, t.finished_at)
                 -- The order of a sum changes its last digits.
                 or greatest(abs(j.work - t.work), abs(j.ended_work - t.ended_work),
                             abs(j.cancelled_work - t.cancelled_work)) > 1e-9 * t.work";
        let differing: Vec<Uuid> = sqlx::query_scalar(differing).fetch_all(&self.store.pool).await.unwrap();
        assert!(differing.is_empty(), "the sums of jobs differ from their trials: {differing:?}");
    }

    async fn state(&self, trial: TrialId) -> TrialState {
        self.check_sums().await;
        self.store.trial(trial, &self.policy).await.unwrap().state
    }

    async fn states(&self, job: JobId) -> Vec<TrialState> {
        self.check_sums().await;
        let trials = self.store.trials(job, &TrialFilter::default(), &self.policy, 1000, None).await.unwrap();
        trials.into_iter().map(|trial| trial.state).collect()
    }

    /// What a long silence of all agents looks like.
    async fn let_leases_run_out(&self) {
        self.database
            .execute("update attempt set leased_until = now() - interval '1 second' where ended_at is null")
            .await;
    }

    async fn let_backoff_pass(&self) {
        self.database.execute("update trial set ready_at = now() where state = 'queued'").await;
    }
}

struct Agent {
    name: &'static str,
    token: TokenId,
    instance: Uuid,
    predecessor: Option<Uuid>,
    slots: u32,
    device: &'static str,
    policy: Policy,
}

impl Agent {
    fn new(world: &World, name: &'static str, slots: u32, device: &'static str) -> Self {
        let (token, policy) = (world.token, world.policy.clone());
        Self { name, token, instance: Uuid::now_v7(), predecessor: None, slots, device, policy }
    }

    /// The agent that is started in the home of this one.
    fn restarted(&self) -> Self {
        let policy = self.policy.clone();
        Self { instance: Uuid::now_v7(), predecessor: Some(self.instance), policy, ..*self }
    }

    fn request(&self, attempts: Vec<AttemptReport>) -> SyncRequest {
        let slots = (0..self.slots).map(|index| SlotFacts {
            index,
            device: self.device.into(),
            model: "test".into(),
            threads: 1,
            memory_bytes: 1 << 30,
        });
        let node = NodeFacts { name: self.name.into(), labels: Default::default(), slots: slots.collect() };
        SyncRequest { node, instance: self.instance, predecessor: self.predecessor, leaving: false, attempts }
    }

    async fn sync(&self, store: &Store, attempts: Vec<AttemptReport>) -> SyncResponse {
        store.sync(self.request(attempts), self.token, &self.policy).await.unwrap()
    }
}

/// A report of a running attempt with these events, numbered from `first`.
fn says(attempt: AttemptId, first: u64, events: Vec<Event>) -> AttemptReport {
    let events = (first..).zip(events).map(|(sequence, event)| SequencedEvent { sequence, event }).collect();
    AttemptReport { attempt, state: AttemptState::Running, events, log: vec![] }
}

fn ends(attempt: AttemptId, first: u64, events: Vec<Event>, outcome: AttemptEnd) -> AttemptReport {
    AttemptReport { state: AttemptState::Ended { outcome }, ..says(attempt, first, events) }
}

fn line(sequence: u64, text: &str) -> SequencedLine {
    SequencedLine { sequence, text: text.into() }
}

fn started(resumed_from: Option<u64>) -> Event {
    let device = Device {
        name: "cpu".into(),
        model: "test".into(),
        threads: 1,
        libtorch: "2.11.0".into(),
        trainer: "0.1.0".into(),
    };
    Event::Started { fingerprint: "f".into(), device, total_steps: 2000, resumed_from }
}

fn progress(step: u64, value: f64) -> Event {
    let trained_seconds = step as f64 / 10.0;
    let point = Point { name: "train_loss".into(), step, value, trained_seconds };
    Event::Progress { step, total_steps: 2000, trained_seconds, points: vec![point] }
}

fn checkpointed(step: u64) -> Event {
    let folder = format!("checkpoints/step-{step:012}");
    Event::Checkpointed { step, trained_seconds: step as f64 / 10.0, folder, manifest: manifest(step) }
}

fn manifest(step: u64) -> String {
    format!("{step:064x}")
}

/// A report that fits the trial.
fn report_of(assignment: &Assignment) -> TrialReport {
    match &assignment.spec.recipe {
        Recipe::Timing(timing) => TrialReport::Timing(TimingReport {
            arms: timing
                .arms
                .iter()
                .map(|arm| ArmTiming {
                    name: arm.name.clone(),
                    blocks: 12,
                    turns: vec![turn(&[0.1])],
                    tokens_per_step: 4096,
                    memory: None,
                    largest_batch: None,
                })
                .collect(),
        }),
        Recipe::Pretrain(recipe) => TrialReport::Pretrain(PretrainReport {
            steps: recipe.steps,
            trained_seconds: 10.0,
            tokens: 1000,
            validation_loss: 5.0,
            guess_loss: None,
            validation_accuracy: None,
            digest: "d".into(),
            checkpoint: manifest(recipe.steps),
        }),
        Recipe::Finetune(_) => TrialReport::Finetune(FinetuneReport {
            steps: 3,
            trained_seconds: 1.0,
            metrics: [("accuracy".into(), 0.5)].into(),
            score: 0.5,
            selection_score: None,
            majority_score: 0.5,
            digest: "d".into(),
            predictions: Vec::new(),
        }),
        Recipe::Probe(_) => TrialReport::Probe(ProbeReport {
            step: 3,
            sequences: 1,
            validation_loss: 5.0,
            blocks: Vec::new(),
            shuffled_losses: Vec::new(),
        }),
    }
}

/// A turn with all blocks open.
fn turn(seconds: &[f64]) -> Turn {
    Turn { place: 0, warmup_seconds: vec![], seconds: seconds.to_vec(), open_blocks: vec![12.0; seconds.len()] }
}

fn finished(assignment: &Assignment) -> Event {
    Event::Finished { report: report_of(assignment) }
}

fn failed(kind: recipe::FailureKind) -> AttemptEnd {
    AttemptEnd::Failed { failure: recipe::Failure { kind, message: "as the test wants it".into() } }
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Calls `look` until it gives something, for at most ten seconds.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it did not come about in ten seconds")
}

//! Time and memory of what is done with a whole job, by its number of trials.
//!
//!     deploy/with-postgres.sh cargo bench -p scheduler --features testing --bench large_jobs -- 1000 10000 100000
//!
//! The job has one pre-train trial; all others are fine-tune trials that wait for it. Times are in seconds. The memory is
//! the largest that this process had during the step, beyond what it had before; it does not include Postgres.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use protocol::id::JobId;
use scheduler::artifact::Artifacts;
use scheduler::control::Control;
use scheduler::dataset::{DatasetKind, Roots, scan};
use scheduler::job::JobSpec;
use scheduler::policy::Policy;
use scheduler::store::{Store, Submitted};
use scheduler::submit::plan;
use scheduler::testing::TestDatabase;
use scheduler::work::Stop;
use serde_json::json;

/// Events in one answer of the store.
const PAGE: i64 = 1000;

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    assert!(!sizes.is_empty(), "usage: large_jobs TRIALS..., such as 1000 10000");
    println!("| trials | submit | cancel | unblock | fail dependents | report | read events |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for trials in sizes {
        let world = World::new().await;
        let (job, submit) = measured(world.submit(trials)).await;
        let (_, report) = measured(async {
            let facts = world.store.facts(job).await.expect("the facts");
            let job = world.store.job(job).await.expect("the job");
            report::report(&job.facts(facts));
        })
        .await;
        let (_, cancel) = measured(world.store.cancel(job)).await;
        let (events, read) = measured(world.events(job)).await;
        assert!(events as u64 >= trials / 10 * 10 - 10, "{events} events of {trials} trials");

        world.submit(trials).await;
        let succeed = "update trial set state = 'succeeded', report = '{}', finished_at = now(), ready_at = null
                       where state = 'queued' and stage = 'pretrain'";
        world.database.execute(succeed).await;
        let (moved, unblock) = measured(world.unblock()).await;
        assert_eq!(moved as u64, (trials - 1) / 10 * 10);

        world.submit(trials).await;
        let fail = "update trial set state = 'failed', failure_kind = 'internal', failure_message = '',
                           finished_at = now(), ready_at = null
                    where state = 'queued' and stage = 'pretrain'";
        world.database.execute(fail).await;
        let (moved, dependents) = measured(world.unblock()).await;
        assert_eq!(moved as u64, (trials - 1) / 10 * 10);
        println!("| {trials} | {submit} | {cancel} | {unblock} | {dependents} | {report} | {read} |");
    }
}

struct World {
    store: Store,
    control: Control,
    roots: Roots,
    database: TestDatabase,
    _data: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = database.store().await;
        let data = tempfile::tempdir().expect("a temporary folder");
        let write = |path: &str, text: &str| {
            let path = data.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write("wiki/a.txt", "one paragraph\n");
        write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
        for file in ["train.tsv", "dev.tsv"] {
            write(
                &format!("glue/RTE/{file}"),
                "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tb\tnot_entailment\n",
            );
        }
        let roots = Roots::open([data.path().to_owned()]).expect("a data root");
        let never = Stop::never();
        for (kind, name, path) in [
            (DatasetKind::Corpus, "wiki", "wiki"),
            (DatasetKind::Vocabulary, "bert-base-uncased", "vocab.txt"),
            (DatasetKind::Glue, "glue", "glue"),
        ] {
            let scan = scan(&roots, kind, name, &data.path().join(path), &never).expect("a dataset");
            store.register_dataset(&scan).await.expect("a registration");
        }
        let artifacts = text(&data.path().join("artifacts"));
        let artifacts = Artifacts::open(&artifacts, [], store.clone(), roots.clone()).expect("a folder for artifacts");
        let control = Control::new(store.clone(), artifacts, Policy::default());
        Self { store, control, roots, database, _data: data }
    }

    /// Submits a job of about this number of trials, and at most 100,000: one pre-train trial, and fine-tune trials of ten
    /// learning rates.
    async fn submit(&self, trials: u64) -> JobId {
        let seeds = (trials - 1) / 10;
        let spec = json!({
            "name": "large", "corpus": "wiki", "arms": [{"name": "one"}], "timing": null,
            "glue": {"tasks": ["rte"], "seeds": seeds, "learning_rates": (1..=10).map(|rate| 1e-5 * f64::from(rate)).collect::<Vec<_>>()},
        });
        let spec: JobSpec = serde_json::from_value(spec).expect("a job");
        let plan = Arc::new(plan(&self.store, &self.roots, &spec).await.expect("a job that can be planned"));
        assert_eq!(plan.trials.len() as u64, 1 + 10 * seeds);
        match self.store.submit(&spec, &plan, None).await.expect("a job that can be stored") {
            Submitted::Created(job) => job,
            other => panic!("{other:?}"),
        }
    }

    /// The number of the trials that moved.
    async fn unblock(&self) -> usize {
        let mut moved = 0;
        loop {
            match self.control.unblock().await.expect("a step of the control loop") {
                0 => return moved,
                more => moved += more,
            }
        }
    }

    /// The number of the job's events.
    async fn events(&self, job: JobId) -> i64 {
        let mut last = 0;
        while let Some(event) = self.store.events(job, last, PAGE).await.expect("events").last() {
            last = event.id;
        }
        last
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a name in UTF-8").into()
}

/// The result of `work`, and its time and memory in words.
async fn measured<T>(work: impl Future<Output = T>) -> (T, String) {
    // Linux then forgets the largest memory so far.
    fs::write("/proc/self/clear_refs", "5").expect("the largest memory of this process, which can be reset");
    let before = largest_memory();
    let start = Instant::now();
    let done = work.await;
    let seconds = start.elapsed().as_secs_f64();
    (done, format!("{seconds:.2} s, {} MiB", largest_memory().saturating_sub(before) >> 20))
}

/// The largest memory of this process in bytes.
fn largest_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the largest memory");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kibibytes << 10
}

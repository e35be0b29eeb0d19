//! From submission to the end of a job.

use super::*;
use crate::job::JobStatus;
use crate::store::IdempotencyKey;
use crate::submit::PlanError;
use crate::token::{Scope, Secret};
use crate::trial::WaitReason;
use recipe::{FailureKind, Stage};
use report::TrialStatus;

#[tokio::test]
async fn a_job_runs_to_its_end_and_no_trial_runs_twice() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    let job = world
        .submit(|spec| {
            spec["timing"] = json!({});
            spec["arms"] = json!([{"name": "pre-ln"}, {"name": "pld", "layer_drop": {"theta_limit": 0.5}}]);
            spec["glue"] = json!({"tasks": ["rte", "cola"], "seeds": 2});
        })
        .await;
    assert_eq!(world.store.job(job).await.unwrap().summary.status, JobStatus::Queued);
    let mut known = Vec::new();
    let mut stages = Vec::new();
    for _ in 0..40 {
        world.control.round().await.unwrap();
        let run = agent.sync(&world.store, vec![]).await.run;
        assert!(run.len() <= 2);
        if run.iter().any(|assignment| assignment.spec.recipe.stage() == Stage::Timing) {
            assert_eq!(run.len(), 1, "timing is alone on a processor");
        }
        let mut reports = Vec::new();
        for assignment in run {
            stages.push(assignment.spec.recipe.stage());
            match assignment.spec.recipe.stage() {
                Stage::Finetune => {
                    assert_eq!(assignment.from, Some(manifest(2000)));
                    assert!(assignment.glue.is_some() && assignment.corpus.is_none());
                }
                _ => assert!(assignment.corpus.is_some() && assignment.vocabulary.is_some()),
            }
            let events = vec![started(None), progress(1, 9.0), checkpointed(2000), finished(&assignment)];
            known.push(assignment.trial);
            reports.push(ends(assignment.attempt, 1, events, AttemptEnd::Succeeded));
        }
        let answer = agent.sync(&world.store, reports).await;
        assert!(answer.acknowledged.iter().all(|ack| ack.closed));
        assert!(answer.run.is_empty());
        world.check_sums().await;
    }
    let ended = world.store.job(job).await.unwrap().summary;
    assert_eq!(ended.status, JobStatus::Succeeded);
    assert_eq!((ended.trials.succeeded, ended.progress), (11, 1.0));
    assert!(ended.finished_at.is_some());
    assert!(stages.is_sorted(), "timing, then pre-training, then fine-tuning");
    let before = known.len();
    known.sort();
    known.dedup();
    assert_eq!((known.len(), before), (11, 11));

    let events = world.store.events(job, 0, 1000).await.unwrap();
    assert!(events.iter().map(|event| event.id).eq(1..=events.len() as i64));
    let statuses: Vec<_> =
        events.iter().filter(|event| event.kind == "job").map(|e| e.data["status"].clone()).collect();
    assert_eq!(statuses, ["queued", "running", "succeeded"]);
    let facts = world.store.facts(job).await.unwrap();
    let succeeded = |status: &TrialStatus| matches!(status, TrialStatus::Succeeded(_));
    assert!(facts.iter().all(|trial| succeeded(&trial.status) && trial.device.is_some()));
}

#[tokio::test]
async fn a_fine_tune_trial_waits_for_its_own_pre_train_trial_and_gives_the_reason() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let job = world
        .submit(|spec| {
            spec["arms"] = json!([{"name": "one"}, {"name": "two", "norm": "post"}]);
            spec["glue"] = json!({"tasks": ["rte"], "seeds": 1});
        })
        .await;
    let reasons = async || {
        let trials = world.store.trials(job, &TrialFilter::default(), &world.policy, 10, None).await.unwrap();
        trials.into_iter().map(|trial| trial.waiting.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(reasons().await[0], WaitReason::Node);
    agent.sync(&world.store, vec![]).await;
    assert_eq!(reasons().await[..2], [WaitReason::Slot, WaitReason::Slot]);
    assert_eq!(reasons().await[2], WaitReason::Trial { stage: Stage::Pretrain, state: TrialState::Queued });
    let first = world.placed(&agent).await;
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![started(None), finished(&first)])]).await;
    world.control.unblock().await.unwrap();
    use TrialState::*;
    assert_eq!(world.states(job).await, [Succeeded, Queued, Queued, Blocked]);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_does_not_keep_other_jobs_from_their_budgets() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    agent.sync(&world.store, vec![]).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let timed = |spec: &mut Value| {
            spec["timing"] = json!({});
            spec["pretrain"] = json!({"reference_seconds": 30.0});
        };
        jobs.push(world.submit(timed).await);
    }
    let spoil =
        "update job set spec = spec || '{\"later\": 1}' where id = (select id from job order by created_at limit 1)";
    world.database.execute(spoil).await;
    for _ in &jobs {
        // A timing trial has the node to itself.
        let timing = world.placed(&agent).await;
        let said = vec![started(None), finished(&timing)];
        agent.sync(&world.store, vec![ends(timing.attempt, 1, said, AttemptEnd::Succeeded)]).await;
    }
    world.control.round().await.unwrap();
    assert_eq!(world.store.jobs(10, None).await.unwrap().len(), 2);
    let states = async |job| world.states(job).await[1];
    assert_eq!(states(jobs[0]).await, TrialState::Blocked);
    assert_ne!(states(jobs[1]).await, TrialState::Blocked);
}

/// Turns of 0.1 s a step are in every report of a timing trial here; the arm "two" takes twice that.
#[tokio::test]
async fn a_budget_in_reference_seconds_waits_for_the_timing_and_becomes_steps() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let job = world
        .submit(|spec| {
            spec["timing"] = json!({});
            spec["arms"] = json!([{"name": "one"}, {"name": "two", "norm": "post"}]);
            spec["pretrain"] = json!({"reference_seconds": 30.0});
            spec["glue"] = json!({"tasks": ["rte"], "seeds": 1});
            spec["probe"] = json!({});
        })
        .await;
    agent.sync(&world.store, vec![]).await;
    let trials = async || world.store.trials(job, &TrialFilter::default(), &world.policy, 10, None).await.unwrap();
    let before = trials().await;
    assert_eq!((before[1].state, before[1].total_steps), (TrialState::Blocked, None));
    assert_eq!(before[0].waiting, Some(WaitReason::IdleNode));
    assert_eq!(before[1].waiting, Some(WaitReason::Trial { stage: Stage::Timing, state: TrialState::Queued }));

    let timing = world.placed(&agent).await;
    let TrialReport::Timing(mut report) = report_of(&timing) else { panic!("{timing:?}") };
    report.arms[1].turns = vec![turn(&[0.15, 0.25])];
    let event = Event::Finished { report: TrialReport::Timing(report) };
    agent.sync(&world.store, vec![ends(timing.attempt, 1, vec![started(None), event], AttemptEnd::Succeeded)]).await;
    // Before the budgets are settled, nothing is released; settling twice changes nothing.
    assert_eq!(world.store.unblock_trials().await.unwrap(), 0);
    assert_eq!(world.store.settle_budgets().await.unwrap(), 6);
    assert_eq!(world.store.settle_budgets().await.unwrap(), 0);
    world.control.unblock().await.unwrap();

    let after = trials().await;
    assert_eq!(after[1..3].iter().map(|trial| trial.total_steps).collect::<Vec<_>>(), [Some(300), Some(150)]);
    assert!(after[1..].iter().zip(&before[1..]).all(|(after, before)| after.fingerprint != before.fingerprint));
    for trial in world.store.facts(job).await.unwrap() {
        let steps = if trial.arm.as_deref() == Some("two") { 150 } else { 300 };
        let recipe = match &*trial.recipe {
            Recipe::Pretrain(recipe) => recipe,
            Recipe::Finetune(finetune) => match &finetune.from {
                recipe::Source::Pretrained(recipe) => recipe,
                other => panic!("{other:?}"),
            },
            Recipe::Probe(probe) => &probe.from,
            Recipe::Timing(_) => continue,
        };
        assert_eq!((recipe.steps, recipe.validate_every), (steps, steps / 10), "{:?}", trial.recipe.stage());
    }
    let first = world.placed(&agent).await;
    assert_eq!((first.spec.recipe.stage(), first.from), (Stage::Pretrain, None));
}

/// Settling the budgets that wait for it would fail, and with it every round for every job.
#[tokio::test]
async fn a_timing_report_that_lacks_an_arm_fails_the_trial_and_blocks_no_other_job() {
    type Spoil = fn(&mut recipe::report::TimingReport);
    let spoils: [Spoil; 3] = [
        |report| drop(report.arms.remove(1)),
        |report| report.arms[1].turns.clear(),
        |report| report.arms[1].turns[0].seconds[0] = 0.0,
    ];
    for spoil in spoils {
        let world = World::new().await;
        let agent = Agent::new(&world, "a", 1, "cpu");
        let job = world
            .submit(|spec| {
                spec["timing"] = json!({});
                spec["arms"] = json!([{"name": "one"}, {"name": "two", "norm": "post"}]);
                spec["pretrain"] = json!({"reference_seconds": 30.0});
            })
            .await;
        agent.sync(&world.store, vec![]).await;
        let timing = world.placed(&agent).await;
        let TrialReport::Timing(mut report) = report_of(&timing) else { panic!("{timing:?}") };
        spoil(&mut report);
        let event = Event::Finished { report: TrialReport::Timing(report) };
        agent
            .sync(&world.store, vec![ends(timing.attempt, 1, vec![started(None), event], AttemptEnd::Succeeded)])
            .await;
        world.control.round().await.unwrap();
        use TrialState::*;
        assert_eq!(world.states(job).await, [Failed, Cancelled, Cancelled]);
        let trials = world.store.trials(job, &TrialFilter::default(), &world.policy, 10, None).await.unwrap();
        let failure = trials[0].failure.as_ref().unwrap();
        assert_eq!(failure.kind, FailureKind::Internal);
        assert!(failure.message.contains("no steps of the arm \"two\""), "{failure:?}");
    }
}

#[tokio::test]
async fn trials_that_wait_for_a_failed_trial_are_cancelled() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let job = world.submit(|spec| spec["glue"] = json!({"tasks": ["rte"], "seeds": 2})).await;
    agent.sync(&world.store, vec![]).await;
    let assignment = world.placed(&agent).await;
    agent.sync(&world.store, vec![ends(assignment.attempt, 1, vec![], failed(FailureKind::BadData))]).await;
    world.control.round().await.unwrap();
    use TrialState::*;
    assert_eq!(world.states(job).await, [Failed, Cancelled, Cancelled]);
    assert_eq!(world.store.job(job).await.unwrap().summary.status, JobStatus::Failed);
    let trials = world.store.trials(job, &TrialFilter::default(), &world.policy, 10, None).await.unwrap();
    assert_eq!(trials[0].failure.as_ref().unwrap().kind, FailureKind::BadData);
    assert_eq!(trials[1].waiting, Some(WaitReason::Trial { stage: Stage::Pretrain, state: TrialState::Failed }));
}

#[tokio::test]
async fn cancelling_stops_running_trials_and_keeps_ended_ones() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    let job = world
        .submit(|spec| {
            spec["pretrain"] = json!({"seeds": 3});
            spec["glue"] = json!({"tasks": ["rte"], "seeds": 1});
        })
        .await;
    agent.sync(&world.store, vec![]).await;
    world.control.round().await.unwrap();
    let run = agent.sync(&world.store, vec![]).await.run;
    agent.sync(&world.store, vec![says(run[0].attempt, 1, vec![started(None), finished(&run[0])])]).await;
    let cancelled = world.store.cancel(job).await.unwrap();
    assert_eq!(cancelled.summary.status, JobStatus::Cancelled);
    assert_eq!(world.states(job).await[0], TrialState::Succeeded);
    assert!(world.states(job).await[1..].iter().all(|state| *state == TrialState::Cancelled));
    let answer = agent.sync(&world.store, vec![says(run[1].attempt, 1, vec![started(None), finished(&run[1])])]).await;
    assert!(answer.run.is_empty() && answer.acknowledged[0].closed);
    assert_eq!(world.state(run[1].trial).await, TrialState::Cancelled);
    let events = world.store.events(job, 0, 1000).await.unwrap().len();
    assert_eq!(world.store.cancel(job).await.unwrap().summary.trials, cancelled.summary.trials);
    assert_eq!(world.store.events(job, 0, 1000).await.unwrap().len(), events, "cancelling again changes nothing");
    assert!(matches!(world.store.cancel(JobId::new()).await, Err(StoreError::NotFound { what: "job", .. })));
}

#[tokio::test]
async fn a_paused_trial_leaves_with_a_checkpoint_and_goes_on_from_it() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let report = says(first.attempt, 1, vec![started(None), checkpointed(50)]);
    assert!(!agent.sync(&world.store, vec![report]).await.keep[0].interrupt);
    world.store.pause(first.trial).await.unwrap();
    assert!(agent.sync(&world.store, vec![says(first.attempt, 3, vec![])]).await.keep[0].interrupt);
    let left = ends(first.attempt, 3, vec![Event::Interrupted { step: 50 }], AttemptEnd::Interrupted);
    agent.sync(&world.store, vec![left]).await;
    assert_eq!(world.state(first.trial).await, TrialState::Paused);
    assert_eq!(world.control.place().await.unwrap(), 0);
    world.store.resume(first.trial).await.unwrap();
    assert_eq!(world.placed(&agent).await.resume, Some(manifest(50)));
    assert!(matches!(world.store.resume(first.trial).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn an_idempotency_key_makes_one_job_and_refuses_another_body() {
    let world = World::new().await;
    let secret = Secret::from_random([9; 32]);
    let token = world.store.create_token("t", Scope::Write, &secret, None).await.unwrap().id;
    let spec: JobSpec =
        serde_json::from_value(json!({"name": "n", "corpus": "wiki", "arms": [{"name": "a"}]})).unwrap();
    let expansion = Arc::new(plan(&world.store, &world.roots, &spec).await.unwrap());
    let key = |body| IdempotencyKey { token, key: "k".into(), body_sha256: [body; 32] };
    let submit = async |body| world.store.submit(&spec, &expansion, Some(&key(body))).await.unwrap();
    let Submitted::Created(job) = submit(1).await else { panic!("the first one makes a job") };
    assert_eq!(submit(1).await, Submitted::Replayed(job));
    assert_eq!(submit(2).await, Submitted::KeyReused);
    assert_eq!(world.store.jobs(10, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dataset_that_is_missing_or_changed_is_named() {
    let world = World::new().await;
    let plan = async |corpus: &str| {
        let spec = json!({"name": "n", "arms": [{"name": "a"}], "corpus": corpus});
        super::plan(&world.store, &world.roots, &serde_json::from_value(spec).unwrap()).await
    };
    assert!(matches!(plan("books").await, Err(PlanError::NotRegistered(missing)) if missing[0].pointer == "/corpus"));
    assert!(
        matches!(plan("glue").await, Err(PlanError::NotRegistered(missing)) if missing[0].message.contains("corpus"))
    );
    assert!(plan("wiki").await.is_ok());
    fs::write(world.data.path().join("wiki/a.txt"), "another text\n").unwrap();
    assert!(matches!(plan("wiki").await, Err(PlanError::Changed { pointer, .. }) if pointer == "/corpus"));
    let again = scan(&world.roots, DatasetKind::Corpus, "wiki", &world.data.path().join("wiki"));
    world.store.register_dataset(&again).await.unwrap();
    assert!(plan("wiki").await.is_ok());
    assert_eq!(world.store.datasets().await.unwrap().len(), 3, "a name is listed once");
}

#[tokio::test]
async fn a_cancelled_job_ends_even_if_the_server_died_during_the_cancel() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": 2})).await;
    agent.sync(&world.store, vec![]).await;
    let assignment = world.placed(&agent).await;
    world.database.execute("update job set cancelled_at = now()").await;
    agent.sync(&world.store, vec![ends(assignment.attempt, 1, vec![], AttemptEnd::Lost)]).await;
    assert_eq!(world.control.place().await.unwrap(), 0, "nothing of it is placed any more");
    world.control.round().await.unwrap();
    assert_eq!(world.states(job).await, [TrialState::Cancelled; 2]);
    assert_eq!(world.store.job(job).await.unwrap().summary.status, JobStatus::Cancelled);
}

/// Others wait for one batch at most, and a batch that was broken off is followed by the next.
#[tokio::test]
async fn many_trials_are_cancelled_and_unblocked_in_batches() {
    let world = World::new().await;
    let glue = |spec: &mut Value| spec["glue"] = json!({"tasks": ["rte"], "seeds": 2400, "learning_rates": [1e-5]});
    let job = world.submit(glue).await;
    world.database.execute("update job set cancelled_at = now()").await;
    for ended in [1000, 1000, 401, 0] {
        assert_eq!(world.control.cancel().await.unwrap(), ended);
    }
    world.check_sums().await;
    let cancelled = world.store.job(job).await.unwrap().summary;
    assert_eq!((cancelled.trials.cancelled, cancelled.progress), (2401, 0.0), "no work was done");

    let job = world.submit(glue).await;
    let fail =
        "update trial set state = 'failed', failure_kind = 'internal', failure_message = '', finished_at = now(),
                       ready_at = null
                where state = 'queued'";
    world.database.execute(fail).await;
    for moved in [1000, 1000, 400, 0] {
        assert_eq!(world.control.unblock().await.unwrap(), moved);
    }
    let awaited = "select count(*) from trial where awaited and finished_at is not null";
    let awaited: i64 = sqlx::query_scalar(awaited).fetch_one(&world.store.pool).await.unwrap();
    assert_eq!(awaited, 0, "the loop looks at no ended trial for which none waits");
    let events = world.store.events(job, 0, 5000).await.unwrap();
    assert!(events.iter().map(|event| event.id).eq(1..=events.len() as i64), "numbered without gaps");
    let changes = events.iter().filter(|event| event.kind == "trial");
    let cancelled = json!({"from": "blocked", "state": "cancelled"});
    assert_eq!(changes.map(|event| event.data == cancelled).collect::<Vec<_>>(), [true; 2400], "one for each trial");
}

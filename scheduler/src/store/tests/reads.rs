//! Lists, curves, tokens, and rows that cannot be read.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::attempt::OutcomeName;
use crate::token::{Scope, Secret};
use recipe::{FailureKind, Stage};

#[tokio::test]
async fn pages_of_trials_and_jobs_have_no_gaps_and_no_repetitions() {
    let world = World::new().await;
    let job = world.submit(|spec| spec["glue"] = json!({"tasks": ["rte", "cola"], "seeds": 6})).await;
    let all = world.store.trials(job, &TrialFilter::default(), &world.policy, 100, None).await.unwrap();
    assert_eq!(all.len(), 13);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.trials(job, &TrialFilter::default(), &world.policy, 5, after).await.unwrap();
        after = page.last().map(|trial| trial.id);
        paged.extend(page);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let filter =
        TrialFilter { stage: Some(Stage::Finetune), arm: Some("pre-ln".into()), state: Some(TrialState::Blocked) };
    assert_eq!(world.store.trials(job, &filter, &world.policy, 100, None).await.unwrap().len(), 12);
    let none = TrialFilter { arm: Some("other".into()), ..TrialFilter::default() };
    assert_eq!(world.store.trials(job, &none, &world.policy, 100, None).await.unwrap(), []);

    let second = world.submit(|_| ()).await;
    let third = world.submit(|_| ()).await;
    let ids = |jobs: Vec<crate::job::JobSummary>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(world.store.jobs(2, None).await.unwrap()), [third, second]);
    assert_eq!(ids(world.store.jobs(2, Some(second)).await.unwrap()), [job]);
}

/// sqlx finds out only at run time that a type of the database lacks a value.
#[tokio::test]
async fn the_database_has_the_values_of_each_enum() {
    let world = World::new().await;
    let names = |names: &[&str]| names.iter().copied().map(String::from).collect::<BTreeSet<_>>();
    for (kind, expected) in [
        ("dataset_kind", names(&DatasetKind::ALL.map(DatasetKind::name))),
        ("failure_kind", names(&FailureKind::ALL.map(FailureKind::name))),
        ("outcome", names(&OutcomeName::ALL.map(OutcomeName::name))),
        ("stage", names(&Stage::ALL.map(Stage::name))),
        ("trial_state", names(&TrialState::ALL.map(TrialState::name))),
    ] {
        let values = world.database.strings(&format!("select unnest(enum_range(null::{kind}))::text")).await;
        assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected, "the type {kind} of the database");
    }
}

#[tokio::test]
async fn curves_are_reduced_and_keep_their_last_points() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let events = (1..=101).map(|step| progress(step, step as f64)).collect();
    agent.sync(&world.store, vec![says(first.attempt, 1, events)]).await;
    let job = world.store.trial(first.trial, &world.policy).await.unwrap().job;
    for most in [1, 7, 10, 50, 1000] {
        let series = world.store.curves(job, "train_loss", most).await.unwrap();
        assert_eq!((series.len(), series[0].arm.as_deref()), (1, Some("pre-ln")));
        let steps: Vec<u64> = series[0].points.iter().map(|point| point.step).collect();
        assert!(steps.len() as i64 <= most + 1 && steps.is_sorted(), "{most}: {steps:?}");
        assert_eq!((steps.first(), steps.last()), (Some(&1), Some(&101)));
        assert_eq!(world.store.points(first.trial, most).await.unwrap().len(), steps.len());
    }
    assert_eq!(world.store.curves(job, "nothing", 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_running_trial_shows_its_progress_and_estimated_end() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let preparing = Event::Preparing { what: "tokenizing".into(), done: 1, total: 2 };
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![started(None), preparing])]).await;
    let job = world.store.trial(first.trial, &world.policy).await.unwrap().job;
    let stands = world.store.progress(job).await.unwrap();
    assert_eq!((stands[0].phase.as_deref(), stands[0].step), (Some("tokenizing"), 0));
    agent.sync(&world.store, vec![says(first.attempt, 3, vec![progress(500, 9.0)])]).await;
    let stands = world.store.progress(job).await.unwrap();
    assert_eq!((stands[0].phase.as_deref(), stands[0].step), (None, 500));
    let view = world.store.trial(first.trial, &world.policy).await.unwrap();
    assert_eq!((view.node.as_deref(), view.slot, view.total_steps), (Some("a"), Some(0), Some(2000)));
    assert!(view.estimated_end > view.started_at);
    let summary = world.store.job(job).await.unwrap().summary;
    assert_eq!(summary.progress, 0.25);
    assert!(summary.estimated_end.is_some());
}

#[tokio::test]
async fn a_token_works_until_it_expires_or_is_revoked() {
    let world = World::new().await;
    let secret = Secret::from_random([1; 32]);
    let made = world.store.create_token("ci", Scope::Write, &secret, None).await.unwrap();
    let known = world.store.token_by_prefix(secret.prefix()).await.unwrap().unwrap();
    assert_eq!((known.id, known.scope, known.sha256), (made.id, Scope::Write, secret.sha256()));
    world.store.ensure_token("again", Scope::Write, &secret).await.unwrap();
    assert_eq!(world.store.tokens().await.unwrap().len(), 2, "this token and that of the agents");
    world.store.revoke_token(made.id).await.unwrap();
    assert_eq!(world.store.token_by_prefix(secret.prefix()).await.unwrap(), None);
    assert!(world.store.revoke_token(protocol::id::TokenId::new()).await.is_err());
    let old = Secret::from_random([2; 32]);
    world.store.create_token("old", Scope::Read, &old, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(world.store.token_by_prefix(old.prefix()).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_in_the_error() {
    let world = World::new().await;
    let job = world.submit(|_| ()).await;
    world.database.execute("update trial set spec = '{\"recipe\": 1}'").await;
    let error = world.store.trials(job, &TrialFilter::default(), &world.policy, 1, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Row { table: "trial", column: "spec", .. }), "{error}");
}

#[tokio::test]
async fn a_server_reports_a_database_that_is_unreachable_or_of_another_version() {
    let refused = Store::connect("postgres://nobody@127.0.0.1:1/none").await.err().unwrap();
    assert!(matches!(refused, StoreError::Connect(_)), "{refused}");
    let world = World::new().await;
    world.store.ready().await.unwrap();
    world.database.execute("update _sqlx_migrations set version = 9999 where version = 10").await;
    assert!(matches!(world.store.ready().await, Err(StoreError::Schema { found: 9999, .. })));
    let newer = Store::connect(&world.database.url()).await.err().unwrap();
    assert!(matches!(newer, StoreError::Migrate(_)), "{newer}");
}

#[tokio::test]
async fn every_list_uses_an_index_at_ten_thousand_trials() {
    let world = World::new().await;
    let job = world
        .submit(|spec| {
            spec["pretrain"] = json!({"seeds": 10});
            spec["glue"] = json!({"tasks": ["rte", "cola"], "seeds": 500});
        })
        .await;
    world.database.execute("vacuum analyze trial").await;
    let ids: Vec<TrialId> = world.store.facts(job).await.unwrap().into_iter().map(|trial| trial.id).collect();
    assert_eq!(ids.len(), 10_010);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    let last = world.store.trials(job, &TrialFilter::default(), &world.policy, 50, Some(ids[9_990])).await.unwrap();
    assert_eq!(last.len(), 19);
    assert_eq!(world.store.job(job).await.unwrap().summary.trials.blocked, 10_000);
    for (query, index) in [
        ("select id from trial where state = 'queued' order by job_id, stage, ordinal limit 5", "trial_queue"),
        (
            "select id from trial where waits_for = '00000000-0000-7000-8000-000000000000' and state = 'blocked'",
            "trial_waiting",
        ),
        (
            "select * from trial where job_id = '00000000-0000-7000-8000-000000000000' and ordinal > 5 order by ordinal limit 5",
            "trial_ordinal_unique",
        ),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("explain {query}")))
            .fetch_all(&world.store.pool)
            .await
            .unwrap();
        assert!(plan.iter().any(|line| line.contains(index)), "{query}: {plan:#?}");
    }
}

//! Several servers, agents and readers at once.

use std::collections::HashSet;

use futures::future::join_all;

use super::*;
use crate::place::Placement;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_that_place_at_the_same_time_place_no_trial_twice() {
    let world = World::new().await;
    let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": 12})).await;
    for name in ["a", "b", "c", "d"] {
        Agent::new(&world, name, 2, "cpu").sync(&world.store, vec![]).await;
    }
    let mut servers = Vec::new();
    for _ in 0..4 {
        let store = world.database.store().await;
        servers.push(Control::new(store, world.artifacts.clone(), world.policy.clone()));
    }
    let placed = join_all(servers.iter().map(Control::place)).await;
    let placed: usize = placed.into_iter().map(Result::unwrap).sum();
    // A server whose snapshot was out of date leaves a slot to the next round.
    let later = world.control.place().await.unwrap();
    assert_eq!(placed + later, 8, "every slot once");
    let running = world.states(job).await.into_iter().filter(|state| *state == TrialState::Running).count();
    assert_eq!(running, 8);
    let nodes = world.store.nodes(world.policy.lease, 4, None).await.unwrap();
    let trials: HashSet<TrialId> =
        nodes.iter().flat_map(|node| &node.slots).map(|slot| slot.attempt.as_ref().unwrap().trial).collect();
    assert_eq!(trials.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_trial_is_placed_beside_a_timing_trial() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    for _ in 0..10 {
        agent.sync(&world.store, vec![]).await;
        let job = world.submit(|spec| spec["timing"] = json!({})).await;
        let trials = world.store.trials(job, &TrialFilter::default(), &world.policy, 2, None).await.unwrap();
        let node = world.store.nodes(world.policy.lease, 1, None).await.unwrap()[0].id;
        let place = |at: usize| Placement { trial: trials[at].id, node, slot: at as i32 };
        let (timing, other) = tokio::join!(
            world.store.open_attempt(place(0), &world.policy),
            world.store.open_attempt(place(1), &world.policy)
        );
        assert!(timing.unwrap() ^ other.unwrap(), "one of them, and only one");
        world.store.cancel(job).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_database_itself_refuses_a_second_open_attempt() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    let first = world.running(&agent).await;
    for (constraint, columns) in [
        ("attempt_one_open_per_trial", "trial_id, 2, node_id, 1"),
        ("attempt_one_open_per_slot", "(select id from trial where state = 'blocked' limit 1), 1, node_id, slot"),
    ] {
        world.submit(|spec| spec["glue"] = json!({"tasks": ["rte"], "seeds": 1})).await;
        let statement = format!(
            "insert into attempt (id, trial_id, number, node_id, slot, instance, ready_at, leased_until)
             select gen_random_uuid(), {columns}, instance, now(), now() from attempt where id = '{}'",
            first.attempt
        );
        let error = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&world.store.pool).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.constraint()), Some(constraint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_during_a_placement_leaves_no_open_attempt_behind() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 4, "cuda:0");
    for _ in 0..10 {
        agent.sync(&world.store, vec![]).await;
        let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": 4})).await;
        let (placed, cancelled) = tokio::join!(world.control.place(), world.store.cancel(job));
        placed.unwrap();
        cancelled.unwrap();
        // What was being placed while the cancel looked is ended by the loop.
        world.control.round().await.unwrap();
        assert!(world.states(job).await.iter().all(|state| *state == TrialState::Cancelled));
        assert!(agent.sync(&world.store, vec![]).await.run.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_of_events_never_skips_one_that_commits_late() {
    const WRITERS: u32 = 8;
    const EACH: u64 = 25;
    let world = World::new().await;
    let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": WRITERS})).await;
    let agent = Agent::new(&world, "a", WRITERS, "cuda:0");
    agent.sync(&world.store, vec![]).await;
    world.control.place().await.unwrap();
    let run = agent.sync(&world.store, vec![]).await.run;
    assert_eq!(run.len(), WRITERS as usize);
    let evaluated = |step| Event::Evaluated { step, trained_seconds: 0.0, points: vec![] };
    let write = join_all(run.iter().map(|assignment| async {
        for sequence in 1..=EACH {
            let report = says(assignment.attempt, sequence, vec![evaluated(sequence)]);
            agent.sync(&world.store, vec![report]).await;
        }
    }));
    let read = async {
        let mut seen: Vec<i64> = Vec::new();
        eventually(async || {
            let after = seen.last().copied().unwrap_or(0);
            let events = world.store.events(job, after, 1000).await.unwrap();
            seen.extend(events.iter().map(|event| event.id));
            // One for the job, one for each placement.
            let all = 1 + u64::from(WRITERS) * (1 + EACH);
            (seen.len() as u64 == all).then(|| seen.clone())
        })
        .await
    };
    let (_, seen) = tokio::join!(write, read);
    assert!(seen.iter().copied().eq(1..=seen.len() as i64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_control_loop_wakes_on_a_submission_and_places_it_at_once() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    agent.sync(&world.store, vec![]).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let control = Control::new(world.store.clone(), world.artifacts.clone(), world.policy.clone());
    let running = tokio::spawn(control.run(stop.clone()));
    let job = world.submit(|_| ()).await;
    let mut notices = world.store.subscribe();
    let run = eventually(async || {
        let run = agent.sync(&world.store, vec![]).await.run;
        (!run.is_empty()).then_some(run)
    })
    .await;
    agent.sync(&world.store, vec![says(run[0].attempt, 1, vec![started(None), finished(&run[0])])]).await;
    eventually(async || world.store.job(job).await.unwrap().summary.status.is_ended().then_some(())).await;
    let told = tokio::time::timeout(Duration::from_secs(10), notices.recv()).await.unwrap().unwrap();
    assert_eq!(told, job);
    stop.cancel();
    running.await.unwrap();
}

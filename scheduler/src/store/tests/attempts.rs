//! Leases, fencing, retries.

use super::*;
use crate::attempt::OutcomeName;
use recipe::FailureKind;

#[tokio::test]
async fn a_report_of_an_attempt_that_was_lost_is_ignored() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![started(None), progress(1, 9.0)])]).await;
    world.let_leases_run_out().await;
    assert_eq!(world.control.reap().await.unwrap(), 1);
    assert_eq!(world.state(first.trial).await, TrialState::Queued);

    let zombie = ends(first.attempt, 3, vec![progress(2, 8.0), finished(&first)], AttemptEnd::Succeeded);
    let answer = agent.sync(&world.store, vec![zombie]).await;
    assert!(answer.run.is_empty() && answer.acknowledged[0].closed);
    assert_eq!(world.state(first.trial).await, TrialState::Queued);
    assert_eq!(world.store.points(first.trial, 100).await.unwrap().len(), 1, "no point was added");

    let second = world.placed(&agent).await;
    assert_eq!(second.trial, first.trial);
    assert_ne!(second.attempt, first.attempt);
    let attempts = world.store.attempts(first.trial).await.unwrap();
    assert_eq!(attempts.iter().map(|a| a.outcome).collect::<Vec<_>>(), [Some(OutcomeName::Lost), None]);
}

#[tokio::test]
async fn a_sync_extends_the_leases_of_the_attempts_that_it_names() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    world.let_leases_run_out().await;
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![])]).await;
    assert_eq!(world.control.reap().await.unwrap(), 0, "late, but not yet reaped");
    world.let_leases_run_out().await;
    agent.sync(&world.store, vec![]).await;
    assert_eq!(world.control.reap().await.unwrap(), 1, "not named, not extended");
}

#[tokio::test]
async fn the_same_sync_twice_changes_nothing_the_second_time() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let mut report = says(first.attempt, 1, vec![started(None), progress(1, 9.0), progress(2, 8.0), checkpointed(2)]);
    report.log = vec![line(1, "hello"), line(2, "wor\0ld")];
    let picture = async || {
        (
            world.store.points(first.trial, 100).await.unwrap(),
            world.store.logs(first.trial, 0, 100).await.unwrap(),
            world.store.checkpoints(first.trial).await.unwrap(),
            world.store.events(world.store.trial(first.trial, &world.policy).await.unwrap().job, 0, 100).await.unwrap(),
        )
    };
    let answer = agent.sync(&world.store, vec![report.clone()]).await;
    assert_eq!((answer.acknowledged[0].events, answer.acknowledged[0].log), (4, 2));
    let once = picture().await;
    assert_eq!((once.0.len(), once.1.len(), once.2.len()), (2, 2, 1));
    let answer = agent.sync(&world.store, vec![report.clone()]).await;
    assert_eq!((answer.acknowledged[0].events, answer.acknowledged[0].log), (4, 2));
    assert_eq!(picture().await, once);

    // Half of it was seen before; what follows a gap has to be sent again.
    report.events.push(SequencedEvent { sequence: 5, event: progress(3, 7.0) });
    report.events.push(SequencedEvent { sequence: 7, event: progress(5, 6.0) });
    assert_eq!(agent.sync(&world.store, vec![report]).await.acknowledged[0].events, 5);
    assert_eq!(world.store.points(first.trial, 100).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_attempt_that_repeats_steps_replaces_their_points() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let events = vec![started(None), progress(10, 9.0), checkpointed(10), progress(20, 8.0)];
    agent.sync(&world.store, vec![ends(first.attempt, 1, events, failed(FailureKind::Crashed))]).await;
    world.let_backoff_pass().await;
    let second = world.placed(&agent).await;
    assert_eq!(second.resume, Some(manifest(10)));
    let view = world.store.trial(first.trial, &world.policy).await.unwrap();
    assert_eq!((view.step, view.attempt_count), (10, 2), "what the checkpoint has is done before the trainer starts");
    let progress_of_job = world.store.job(view.job).await.unwrap().summary.progress;
    assert!((progress_of_job - 10.0 / 2000.0).abs() < 1e-9, "{progress_of_job}");
    let events = vec![started(Some(10)), progress(20, 7.5), progress(30, 7.0)];
    agent.sync(&world.store, vec![says(second.attempt, 1, events)]).await;
    let points = world.store.points(first.trial, 100).await.unwrap();
    assert_eq!(points.iter().map(|p| (p.step, p.value)).collect::<Vec<_>>(), [(10, 9.0), (20, 7.5), (30, 7.0)]);
    let view = world.store.trial(first.trial, &world.policy).await.unwrap();
    assert_eq!((view.step, view.attempt_count, view.trained_seconds), (30, 2, 3.0));
}

#[tokio::test]
async fn failures_are_retried_within_their_budget_and_losses_do_not_use_it() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let mut attempt = first.attempt;
    for (outcome, state) in [
        (failed(FailureKind::OutOfMemory), TrialState::Queued),
        (AttemptEnd::Lost, TrialState::Queued),
        (AttemptEnd::Interrupted, TrialState::Queued),
        (failed(FailureKind::Crashed), TrialState::Queued),
        (failed(FailureKind::OutOfMemory), TrialState::Failed),
    ] {
        let waits = matches!(outcome, AttemptEnd::Failed { .. });
        agent.sync(&world.store, vec![ends(attempt, 1, vec![], outcome)]).await;
        assert_eq!(world.state(first.trial).await, state);
        if state == TrialState::Queued {
            assert_eq!(world.control.place().await.unwrap(), usize::from(!waits), "a retry of a failure waits");
            world.let_backoff_pass().await;
            attempt = world.placed(&agent).await.attempt;
        }
    }
    let failure = world.store.trial(first.trial, &world.policy).await.unwrap().failure.unwrap();
    assert_eq!(failure.kind, FailureKind::OutOfMemory);
}

#[tokio::test]
async fn a_corrupt_checkpoint_is_given_up_and_the_one_before_is_used() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let events = vec![started(None), checkpointed(10), checkpointed(20)];
    agent.sync(&world.store, vec![ends(first.attempt, 1, events, AttemptEnd::Lost)]).await;
    let second = world.placed(&agent).await;
    assert_eq!(second.resume, Some(manifest(20)));
    agent.sync(&world.store, vec![ends(second.attempt, 1, vec![], failed(FailureKind::CorruptCheckpoint))]).await;
    world.let_backoff_pass().await;
    let third = world.placed(&agent).await;
    assert_eq!(third.resume, Some(manifest(10)));
    let job = world.store.trial(first.trial, &world.policy).await.unwrap().job;
    let events = world.store.events(job, 0, 100).await.unwrap();
    let said: Vec<_> = events.iter().filter(|event| event.kind == "checkpoint_forgotten").collect();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].attempt, &said[0].data["step"]), (Some(second.attempt), &json!(20)));
}

#[tokio::test]
async fn a_new_instance_of_an_agent_keeps_the_attempts_that_it_reports_and_loses_the_others() {
    let world = World::new().await;
    let before = Agent::new(&world, "a", 2, "cpu");
    let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": 2})).await;
    before.sync(&world.store, vec![]).await;
    world.control.round().await.unwrap();
    let run = before.sync(&world.store, vec![]).await.run;
    let after = before.restarted();
    let spoken = ends(run[0].attempt, 1, vec![started(None), finished(&run[0])], AttemptEnd::Succeeded);
    let answer = after.sync(&world.store, vec![spoken]).await;
    assert!(answer.run.is_empty());
    assert_eq!(world.states(job).await, [TrialState::Succeeded, TrialState::Queued]);
    let lost = world.store.attempts(run[1].trial).await.unwrap();
    assert_eq!(lost[0].outcome, Some(OutcomeName::Lost));
}

#[tokio::test]
async fn an_attempt_that_syncs_but_makes_no_progress_is_ended_as_stalled() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let stand_still = async || {
        world.database.execute("update attempt set moved_at = now() - interval '601 seconds'").await;
    };
    stand_still().await;
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![])]).await;
    assert_eq!(world.control.reap().await.unwrap(), 0, "its inputs may still be on their way");
    agent.sync(&world.store, vec![says(first.attempt, 1, vec![started(None), progress(5, 9.0)])]).await;
    stand_still().await;
    agent.sync(&world.store, vec![says(first.attempt, 3, vec![progress(6, 9.0)])]).await;
    assert_eq!(world.control.reap().await.unwrap(), 0, "it moved");
    stand_still().await;
    agent.sync(&world.store, vec![says(first.attempt, 4, vec![progress(6, 9.0)])]).await;
    assert_eq!(world.control.reap().await.unwrap(), 1, "the same step again is no move");
    let attempts = world.store.attempts(first.trial).await.unwrap();
    assert_eq!(attempts[0].failure.as_ref().unwrap().kind, FailureKind::Stalled);
}

#[tokio::test]
async fn a_trainer_that_exits_cleanly_without_a_report_or_with_a_wrong_one_has_failed() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    agent.sync(&world.store, vec![ends(first.attempt, 1, vec![], AttemptEnd::Succeeded)]).await;
    assert_eq!(world.state(first.trial).await, TrialState::Failed);
    let second = world.running(&agent).await;
    let report = TrialReport::Timing(TimingReport { arms: vec![] });
    agent.sync(&world.store, vec![says(second.attempt, 1, vec![Event::Finished { report }])]).await;
    let failure = world.store.trial(second.trial, &world.policy).await.unwrap().failure.unwrap();
    assert_eq!(failure.message, "a pretrain trial reported as timing");
}

#[tokio::test]
async fn a_report_that_the_database_refuses_ends_only_its_own_attempt() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    agent.sync(&world.store, vec![]).await;
    let job = world.submit(|spec| spec["pretrain"] = json!({"seeds": 2})).await;
    world.control.round().await.unwrap();
    let run = agent.sync(&world.store, vec![]).await.run;
    let TrialReport::Pretrain(report) = report_of(&run[0]) else { panic!("it pre-trains") };
    // Neither text nor jsonb takes a NUL.
    let report = TrialReport::Pretrain(PretrainReport { digest: "\0".into(), ..report });
    let said = vec![
        ends(
            run[0].attempt,
            1,
            vec![started(None), progress(1, 9.0), Event::Finished { report }],
            AttemptEnd::Succeeded,
        ),
        says(run[1].attempt, 1, vec![started(None), progress(1, 9.0)]),
    ];
    for _ in 0..2 {
        let answer = agent.sync(&world.store, said.clone()).await;
        let acknowledged = answer.acknowledged.iter().map(|of| (of.events, of.closed)).collect::<Vec<_>>();
        assert_eq!(acknowledged, [(3, true), (2, false)]);
        assert_eq!(answer.keep.iter().map(|kept| kept.attempt).collect::<Vec<_>>(), [run[1].attempt]);
    }
    assert_eq!(world.states(job).await, [TrialState::Failed, TrialState::Running]);
    let points = async |of: &Assignment| world.store.points(of.trial, 100).await.unwrap().len();
    assert_eq!((points(&run[0]).await, points(&run[1]).await), (0, 1), "refused as a whole, heard as a whole");
    let [attempt] = &world.store.attempts(run[0].trial).await.unwrap()[..] else { panic!("it is not tried again") };
    let failure = attempt.failure.as_ref().unwrap();
    assert_eq!((attempt.outcome, failure.kind), (Some(OutcomeName::Failed), FailureKind::Internal));
    assert!(failure.message.contains("the character NUL"), "{failure:?}");
}

#[tokio::test]
async fn a_trial_that_cannot_be_read_goes_on_running_but_is_not_assigned_and_blocks_no_other() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    agent.sync(&world.store, vec![]).await;
    world.submit(|spec| spec["pretrain"] = json!({"seeds": 2})).await;
    world.control.round().await.unwrap();
    let run = agent.sync(&world.store, vec![]).await.run;
    assert_eq!(run.len(), 2);
    // As of a later version, with a field that this one does not know.
    let spoil = "update trial set spec = jsonb_set(spec, '{recipe,later}', '1')
                 where id = (select trial_id from attempt order by slot limit 1)";
    world.database.execute(spoil).await;
    let said: Vec<_> = run.iter().map(|of| says(of.attempt, 1, vec![started(None), progress(1, 9.0)])).collect();
    let again = agent.sync(&world.store, vec![]).await;
    assert!(again.keep.is_empty());
    assert_eq!(again.run.iter().map(|of| of.attempt).collect::<Vec<_>>(), [run[1].attempt]);
    let answer = agent.sync(&world.store, said).await;
    assert!(answer.run.is_empty());
    assert_eq!(answer.keep.iter().map(|of| of.attempt).collect::<Vec<_>>(), [run[0].attempt, run[1].attempt]);
    assert_eq!(world.store.points(run[1].trial, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_device_fault_another_node_is_tried() {
    let world = World::new().await;
    let (faulty, other) = (Agent::new(&world, "a", 1, "cuda:0"), Agent::new(&world, "b", 1, "cuda:0"));
    let first = world.running(&faulty).await;
    agent_fails(&world, &faulty, first.attempt).await;
    other.sync(&world.store, vec![]).await;
    world.control.round().await.unwrap();
    assert!(faulty.sync(&world.store, vec![]).await.run.is_empty());
    assert_eq!(other.sync(&world.store, vec![]).await.run.len(), 1);
}

async fn agent_fails(world: &World, agent: &Agent, attempt: AttemptId) {
    agent.sync(&world.store, vec![ends(attempt, 1, vec![], failed(FailureKind::DeviceFault))]).await;
    world.let_backoff_pass().await;
}

#[tokio::test]
async fn nothing_is_placed_on_a_node_that_shuts_down_or_is_gone() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    world.submit(|_| ()).await;
    let leaving = SyncRequest { leaving: true, ..agent.request(vec![]) };
    world.store.sync(leaving, world.token, &world.policy).await.unwrap();
    assert_eq!(world.control.place().await.unwrap(), 0);
    agent.sync(&world.store, vec![]).await;
    world.database.execute("update node set last_seen_at = now() - interval '16 seconds'").await;
    assert_eq!(world.control.place().await.unwrap(), 0);
    assert!(!world.store.nodes(world.policy.lease, 1, None).await.unwrap()[0].live);
    agent.sync(&world.store, vec![]).await;
    assert_eq!(world.control.place().await.unwrap(), 1);
}

//! Tests of the agent from outside, between a server that the test controls and trainers that are shell scripts.

#[path = "../../src/fixture.rs"]
mod fixture;
mod scene;
mod server;

use std::fs;
use std::time::Duration;

use agent::Config;
use protocol::id::AttemptId;
use protocol::{Assignment, AttemptEnd, DatasetFile, DatasetFiles};
use recipe::{Event, Failure, FailureKind};
use tokio_util::sync::CancellationToken;

use fixture::assignment;
use scene::{Scene, eventually, lives, run};
use server::sha256;

fn dataset(name: &str, files: &[(&str, &str)]) -> DatasetFiles {
    let file = |(path, sha256): &(&str, &str)| DatasetFile { path: (*path).into(), sha256: (*sha256).into(), bytes: 0 };
    DatasetFiles { name: name.into(), digest: "0".repeat(64), files: files.iter().map(file).collect() }
}

#[tokio::test]
async fn an_attempt_is_reported_completely_and_its_folder_is_removed() {
    let scene = Scene::new("started; echo 'no event'; progress 1; checkpoint 9 weights; finished").await;
    let (agent, attempt) = scene.start(assignment(1));
    let heard = scene.server.end_of(attempt).await;

    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert!(matches!(
        &heard.events[..],
        [Event::Started { .. }, Event::Progress { .. }, Event::Checkpointed { .. }, Event::Finished { .. }]
    ));
    assert!(heard.log.contains(&"no event".into()));
    let arguments = heard.after("arguments: ").unwrap();
    assert!(arguments.starts_with("run --recipe ") && arguments.contains(" --device cpu --threads "), "{arguments}");
    let Event::Checkpointed { manifest, .. } = &heard.events[2] else { unreachable!() };
    let stored = scene.server.look(|world| world.artifacts.clone());
    assert!(stored.contains_key(manifest));
    assert_eq!(stored[&sha256(b"weights")], b"weights");
    eventually("the attempt's folder is gone", || scene.is_empty_of_attempts()).await;
    agent.stop().await;
}

#[tokio::test]
async fn input_files_are_fetched_once_for_two_attempts() {
    let scene = Scene::new(
        r#"cat "$corpus/a.txt" "$corpus/deep/b.txt" "$vocabulary" "$from/model.safetensors"
        ls "$from"; cat "$out/checkpoints/step-000000000007/state.json"; finished"#,
    )
    .await;
    let keep = |content: &str| scene.server.keep(content.as_bytes());
    let manifest = |step: u64, files: &[(&str, &str)]| {
        let files: Vec<_> =
            files.iter().map(|(name, sha)| serde_json::json!({"name": name, "sha256": sha, "bytes": 1})).collect();
        keep(&serde_json::json!({"fingerprint": "f", "step": step, "files": files}).to_string())
    };
    let weights = keep("weights\n");
    let from = manifest(3, &[("model.safetensors", &weights), ("optimizer.safetensors", &sha256(b"is not there"))]);
    let resume = manifest(7, &[("state.json", &keep("state\n"))]);
    let corpus = dataset("wiki", &[("a.txt", &keep("alpha\n")), ("deep/b.txt", &keep("beta\n"))]);
    let assignments = [0, 1].map(|slot| Assignment {
        corpus: Some(corpus.clone()),
        vocabulary: Some(dataset("words", &[("vocab.txt", &keep("gamma\n"))])),
        from: Some(from.clone()),
        resume: Some(resume.clone()),
        ..assignment(slot)
    });
    let agent = scene.agent();
    assignments.iter().for_each(|assignment| scene.server.assign(assignment));
    for assignment in &assignments {
        let heard = scene.server.end_of(assignment.attempt).await;
        assert_eq!(heard.ended, Some(AttemptEnd::Succeeded), "{:?}", heard.log);
        assert_eq!(
            heard.printed(),
            ["alpha", "beta", "gamma", "weights", "manifest.json", "model.safetensors", "state"]
        );
        assert!(heard.after("arguments: ").unwrap().ends_with("--resume"));
    }
    assert_eq!(scene.server.look(|world| world.fetched[&weights].clone()), [0]);
    agent.stop().await;
}

#[tokio::test]
async fn a_published_checkpoint_is_passed_to_the_trainer() {
    let scene = Scene::new(r#"ls "$from"; cat "$from/model.safetensors"; finished"#).await;
    let files = [("config.json", "{}\n"), ("model.safetensors", "weights\n"), ("vocab.txt", "the\n")];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, scene.server.keep(text.as_bytes()))).collect();
    let files: Vec<_> = files.iter().map(|(path, digest)| (*path, digest.as_str())).collect();
    let heard = scene.run(Assignment { checkpoint: Some(dataset("bert-base", &files)), ..assignment(0) }).await;
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded), "{:?}", heard.log);
    assert_eq!(heard.printed(), ["config.json", "model.safetensors", "vocab.txt", "weights"]);
}

#[tokio::test]
async fn a_broken_download_continues_at_the_byte_where_it_stopped() {
    let scene = Scene::new(r#"cat "$corpus/a.txt"; finished"#).await;
    let digest = scene.server.keep(b"0123456789\n");
    scene.server.change(|world| world.breaks_after = Some(4));
    let heard = scene.run(Assignment { corpus: Some(dataset("wiki", &[("a.txt", &digest)])), ..assignment(0) }).await;
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert!(heard.log.contains(&"0123456789".into()), "{:?}", heard.log);
    assert_eq!(scene.server.look(|world| world.fetched[&digest].clone()), [0, 4]);
}

#[tokio::test]
async fn events_and_log_lines_reach_the_server_once_after_it_could_not_be_reached() {
    let scene = Scene::new(
        r#"progress 1; read _ < "$0.away"; for step in 2 3 4 5 6 7 8; do progress $step; echo "line $step" >&2; done
        touch "$0.said"; read _ < "$0.back"; finished"#,
    )
    .await;
    let (away, back) = (scene.gate("away"), scene.gate("back"));
    let (agent, attempt) = scene.start(assignment(0));
    scene
        .server
        .until("the first step is heard", |world| world.heard.get(&attempt).is_some_and(|h| h.steps() == [1]))
        .await;

    scene.server.change(|world| world.away = true);
    away.open().await;
    eventually("the trainer has said the rest", || scene.path("trainer.said").exists()).await;
    scene.server.change(|world| (world.away, world.loses_answers) = (false, true));
    scene.server.until("it is heard but not answered", |world| world.heard[&attempt].steps().len() == 8).await;
    let syncs = scene.server.look(|world| world.syncs);
    scene.server.until("it is said again", |world| world.syncs > syncs).await;
    scene.server.change(|world| world.loses_answers = false);
    back.open().await;

    let heard = scene.server.end_of(attempt).await;
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert_eq!(heard.steps(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let lines: Vec<_> = heard.log.iter().filter_map(|line| line.strip_prefix("line ")).collect();
    assert_eq!(lines, ["2", "3", "4", "5", "6", "7", "8"]);
    agent.stop().await;
}

/// Waits until the server has the log line `over`, and then for several more syncs.
async fn wait_past(scene: &Scene, attempt: AttemptId) {
    let over = |world: &server::World| world.heard.get(&attempt).is_some_and(|heard| heard.after("over").is_some());
    scene.server.until("the server has the log line `over`", over).await;
    let syncs = scene.server.look(|world| world.syncs);
    scene.server.until("several syncs have passed", |world| world.syncs > syncs + 3).await;
}

#[tokio::test]
async fn events_wait_until_the_files_of_an_earlier_checkpoint_are_stored() {
    let scene = Scene::new("progress 1; checkpoint 2 weights; progress 3; echo over >&2; finished").await;
    scene.server.change(|world| world.store_is_away = true);
    let (agent, attempt) = scene.start(assignment(0));
    wait_past(&scene, attempt).await;
    let heard = scene.server.heard(attempt);
    assert_eq!((heard.steps(), heard.ended), (vec![1], None));

    scene.server.change(|world| world.store_is_away = false);
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.steps(), heard.ended), (vec![1, 2, 3], Some(AttemptEnd::Succeeded)));
    assert!(scene.server.stores(b"weights"));
    agent.stop().await;
}

#[tokio::test]
async fn the_last_two_checkpoints_are_sent_if_the_store_was_unreachable() {
    let scene =
        Scene::new("for step in 1 2 3 4; do checkpoint $step weights-$step; done; echo over >&2; finished").await;
    scene.server.change(|world| world.store_is_away = true);
    let (agent, attempt) = scene.start(assignment(0));
    let two_left_out = |world: &server::World| {
        let left_out = |line: &&String| line.contains("is left out: newer checkpoints wait to be sent");
        world.heard.get(&attempt).is_some_and(|heard| heard.log.iter().filter(left_out).count() == 2)
    };
    scene.server.until("two are left out", two_left_out).await;
    scene.server.change(|world| world.store_is_away = false);
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.steps(), heard.ended), (vec![3, 4], Some(AttemptEnd::Succeeded)));
    agent.stop().await;
}

#[tokio::test]
async fn a_checkpoint_that_the_trainer_has_deleted_is_left_out_and_logged() {
    let heard = run(
        r#"write_checkpoint 2 gone; manifest=$(digest "$out/$name/manifest.json"); rm -r "$out/$name"
        echo "{\"event\":\"checkpointed\",\"step\":2,\"trained_seconds\":0.5,\"folder\":\"$name\",\"manifest\":\"$manifest\"}"
        progress 3; finished"#,
    ).await;
    assert_eq!((heard.steps(), heard.ended.clone()), (vec![3], Some(AttemptEnd::Succeeded)));
    assert!(heard.after("agent: the checkpoint at step 2 is left out: ").is_some(), "{:?}", heard.log);
}

#[tokio::test]
async fn predictions_are_stored_before_the_report_that_names_them() {
    let scene = Scene::new("predict MNLI-m.tsv matched; predict AX.tsv diagnostic; echo over >&2; scored").await;
    scene.server.change(|world| world.store_is_away = true);
    let (agent, attempt) = scene.start(assignment(0));
    wait_past(&scene, attempt).await;
    assert_eq!(scene.server.heard(attempt).ended, None);

    scene.server.change(|world| world.store_is_away = false);
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.predictions(), heard.ended.clone()), (vec!["MNLI-m.tsv", "AX.tsv"], Some(AttemptEnd::Succeeded)));
    let stored = scene.server.look(|world| world.artifacts.clone());
    assert!(stored.contains_key(&sha256(b"matched")) && stored.contains_key(&sha256(b"diagnostic")));
    eventually("the attempt's folder is gone", || scene.is_empty_of_attempts()).await;
    agent.stop().await;
}

#[tokio::test]
async fn missing_predictions_are_left_out_of_the_report_and_logged() {
    let heard = run(r#"predict RTE.tsv right; predict CoLA.tsv gone; rm "$out/predictions/CoLA.tsv"; scored"#).await;
    assert_eq!(heard.predictions(), ["RTE.tsv"]);
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert!(heard.after("agent: the predictions in CoLA.tsv are left out: ").is_some(), "{:?}", heard.log);
}

#[tokio::test]
async fn an_attempt_that_the_server_no_longer_lists_is_killed() {
    let scene = Scene::new("trap '' TERM; progress 1; for_ever").await;
    let agent = scene.agent();
    let (kept, cancelled) = (assignment(0), assignment(1));
    scene.server.assign(&kept);
    scene.server.assign(&cancelled);
    let (trainer_kept, trainer) = (scene.trainer_of(kept.attempt).await, scene.trainer_of(cancelled.attempt).await);
    scene.server.change(|world| world.run.retain(|assignment| assignment.attempt == kept.attempt));
    eventually("its trainer is gone", || !lives(trainer)).await;
    assert!(lives(trainer_kept));
    scene.server.change(|world| world.run.clear());
    eventually("both folders are gone", || scene.is_empty_of_attempts()).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_next_attempt_on_a_slot_starts_after_the_last_trainer_has_ended() {
    let scene = Scene::new("progress 1; for_ever").await;
    let agent = scene.agent();
    let (first, second) = (assignment(0), assignment(0));
    scene.server.assign(&first);
    let trainer = scene.trainer_of(first.attempt).await;
    scene.server.change(|world| world.run = vec![second.clone()]);
    scene.trainer_of(second.attempt).await;
    assert!(!lives(trainer));
    scene.server.change(|world| world.run.clear());
    agent.stop().await;
}

#[tokio::test]
async fn a_trainer_is_killed_before_its_lease_ends() {
    let scene = Scene::new("trap '' TERM; progress 1; for_ever").await;
    scene.server.change(|world| world.lease_seconds = 3.0);
    let (agent, attempt) = scene.start(assignment(0));
    let trainer = scene.trainer_of(attempt).await;
    let last_sync = scene.server.change(|world| {
        world.away = true;
        world.last_sync
    });
    eventually("the trainer is gone", || !lives(trainer)).await;
    assert!(last_sync.elapsed() < Duration::from_secs(3), "the server may have let another start by now");

    scene.server.change(|world| world.away = false);
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.steps(), heard.ended), (vec![1], Some(AttemptEnd::Lost)));
    agent.stop().await;
}

#[tokio::test]
async fn an_interrupted_trainer_writes_a_checkpoint() {
    let scene = Scene::new("trap 'checkpoint 5 weights; exit 75' TERM; progress 1; while :; do sleep 0.01; done").await;
    let (agent, attempt) = scene.start(assignment(0));
    scene.trainer_of(attempt).await;
    scene.server.change(|world| world.run[0].interrupt = true);
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.steps(), heard.ended), (vec![1, 5], Some(AttemptEnd::Interrupted)));
    agent.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_the_last_checkpoint() {
    let scene = Scene::new("trap 'checkpoint 5 weights; exit 75' TERM; progress 1; while :; do sleep 0.01; done").await;
    let (agent, attempt) = scene.start(assignment(0));
    scene.trainer_of(attempt).await;
    agent.stop().await;
    let heard = scene.server.heard(attempt);
    assert_eq!((heard.steps(), heard.ended), (vec![1, 5], Some(AttemptEnd::Interrupted)));
    assert!(scene.server.look(|world| world.leaving));
    assert!(scene.is_empty_of_attempts());
}

#[tokio::test]
async fn a_shutdown_kills_trainers_that_do_not_leave() {
    let scene = Scene::new("trap '' TERM; progress 1; for_ever").await;
    let agent = scene.agent_with(Config { shutdown_grace: Duration::from_millis(300), ..scene.config() });
    let assignment = assignment(0);
    scene.server.assign(&assignment);
    let trainer = scene.trainer_of(assignment.attempt).await;
    agent.stop().await;
    assert!(!lives(trainer));
    assert_eq!(scene.server.heard(assignment.attempt).ended, Some(AttemptEnd::Lost));
}

#[tokio::test]
async fn a_trainer_ends_with_its_killed_agent_and_the_next_agent_reports_it() {
    let scene = Scene::new("progress 1; checkpoint 2 weights; progress 3; touch \"$0.said\"; for_ever").await;
    scene.server.change(|world| world.store_is_away = true);
    let (killed, attempt) = scene.start_process(assignment(0));
    let trainer = scene.trainer_of(attempt).await;
    scene.server.until("the first step is heard", |world| world.heard[&attempt].steps() == [1]).await;
    eventually("the trainer has said all", || scene.path("trainer.said").exists()).await;
    let received = scene.path(&format!("agent/attempts/{attempt}/journal/received"));
    eventually("the agent has kept it", || fs::read_to_string(&received).unwrap().lines().count() == 3).await;
    killed.signal("-KILL");
    eventually("the trainer is gone", || !lives(trainer)).await;
    drop(killed);

    scene.server.change(|world| world.store_is_away = false);
    let agent = scene.agent();
    let heard = scene.server.end_of(attempt).await;
    assert_eq!((heard.steps(), heard.ended), (vec![1, 2, 3], Some(AttemptEnd::Lost)));
    assert!(scene.server.stores(b"weights"));
    assert_eq!(scene.server.look(|world| world.instances.len()), 2);
    eventually("the attempt's folder is gone", || scene.is_empty_of_attempts()).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_next_agent_reports_an_outcome_that_was_not_sent() {
    let scene = Scene::new(r#"progress 1; read _ < "$0.gate"; finished"#).await;
    let gate = scene.gate("gate");
    let (killed, attempt) = scene.start_process(assignment(0));
    scene.trainer_of(attempt).await;
    scene.server.change(|world| world.away = true);
    gate.open().await;
    let outcome = scene.path(&format!("agent/attempts/{attempt}/outcome.json"));
    eventually("the outcome is on disk", || outcome.exists()).await;
    killed.signal("-KILL");
    drop(killed);

    scene.server.change(|world| world.away = false);
    let agent = scene.agent();
    let heard = scene.server.end_of(attempt).await;
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert!(matches!(heard.events.last(), Some(Event::Finished { .. })));
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_suspended_past_its_lease_kills_its_trainer() {
    let scene = Scene::new("trap '' TERM; progress 1; for_ever").await;
    scene.server.change(|world| world.lease_seconds = 2.0);
    let (agent, attempt) = scene.start_process(assignment(0));
    let trainer = scene.trainer_of(attempt).await;
    agent.signal("-STOP");
    eventually("the lease is over", || scene.server.look(|world| world.last_sync.elapsed().as_secs_f64() > 2.0)).await;
    assert!(lives(trainer));
    agent.signal("-CONT");
    eventually("the trainer is gone", || !lives(trainer)).await;
    // The server still listed the attempt when the agent resumed, but it must not start again.
    assert_eq!(scene.server.end_of(attempt).await.ended, Some(AttemptEnd::Lost));
}

#[tokio::test]
async fn very_long_output_lines_are_stored_in_pieces() {
    let heard = run(
        r#"head -c 3000000 /dev/zero | tr '\0' x; echo; head -c 3000000 /dev/zero | tr '\0' y >&2; echo >&2; finished"#,
    )
    .await;
    assert_eq!(heard.ended, Some(AttemptEnd::Succeeded));
    assert!(heard.log.iter().all(|line| line.len() <= 1 << 20));
    for letter in ['x', 'y'] {
        let size = |line: &String| if line.chars().all(|c| c == letter) { line.len() } else { 0 };
        assert_eq!(heard.log.iter().map(size).sum::<usize>(), 3_000_000);
    }
}

#[tokio::test]
async fn a_long_output_is_sent_in_several_requests() {
    let heard = run(
        r#"step=0; while [ $step -lt 1200 ]; do step=$((step+1)); progress $step; echo "line $step" >&2; done; finished"#,
    ).await;
    assert_eq!(heard.steps(), (1..=1200).collect::<Vec<_>>());
    assert_eq!(heard.log.iter().filter(|line| line.starts_with("line ")).count(), 1200);
}

#[tokio::test]
async fn a_trainer_killed_from_outside_has_crashed_and_the_end_of_its_log_is_quoted() {
    let heard = run("progress 1; echo 'about to die' >&2; kill -KILL $$").await;
    let failure = heard.failure();
    assert_eq!(failure.kind, FailureKind::Crashed);
    assert!(failure.message.contains("signal 9") && failure.message.contains("about to die"), "{}", failure.message);
}

#[tokio::test]
async fn a_failure_that_the_trainer_reports_is_passed_on() {
    let heard = run(
        r#"echo '{"event":"failed","failure":{"kind":"non_finite_loss","message":"loss is NaN at step 3"}}'; exit 76"#,
    )
    .await;
    let expected = Failure { kind: FailureKind::NonFiniteLoss, message: "loss is NaN at step 3".into() };
    assert_eq!(heard.failure(), expected);
    assert!(matches!(heard.events.last(), Some(Event::Failed { .. })));
}

#[tokio::test]
async fn a_changed_dataset_file_is_bad_data() {
    let scene = Scene::new("finished").await;
    let (registered, now) = (sha256(b"as registered"), sha256(b"as it is now"));
    scene.server.change(|world| world.artifacts.insert(registered.clone(), b"as it is now".to_vec()));
    let corpus = Some(dataset("wiki", &[("deep/a.txt", &registered)]));
    let failure = scene.run(Assignment { corpus, ..assignment(0) }).await.failure();
    assert_eq!(failure.kind, FailureKind::BadData);
    for part in ["deep/a.txt", "wiki", "has changed since it was registered", &registered, &now] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_dataset_cannot_write_outside_its_folder() {
    let scene = Scene::new("finished").await;
    let digest = scene.server.keep(b"evil");
    let corpus = Some(dataset("wiki", &[("../../../../evil", &digest)]));
    let failure = scene.run(Assignment { corpus, ..assignment(0) }).await.failure();
    assert_eq!(failure.kind, FailureKind::BadData);
    assert!(failure.message.contains("is not a path inside a folder"), "{}", failure.message);
    assert!(!scene.path("agent/evil").exists() && !scene.path("evil").exists());
}

#[tokio::test]
async fn a_checkpoint_file_whose_digest_differs_from_the_manifest_is_corrupt() {
    let scene = Scene::new("finished").await;
    let digest = sha256(b"state");
    scene.server.change(|world| world.artifacts.insert(digest.clone(), b"flipped".to_vec()));
    let manifest = serde_json::json!(
        {"fingerprint": "f", "step": 3, "files": [{"name": "state.json", "sha256": digest, "bytes": 5}]}
    );
    let resume = Some(scene.server.keep(manifest.to_string().as_bytes()));
    let failure = scene.run(Assignment { resume, ..assignment(0) }).await.failure();
    assert_eq!(failure.kind, FailureKind::CorruptCheckpoint);
    assert!(failure.message.contains("state.json of the checkpoint at step 3"), "{}", failure.message);
}

#[tokio::test]
async fn an_agent_with_a_refused_token_ends_at_once() {
    let scene = Scene::new("finished").await;
    let config = Config { token: "wrong".into(), ..scene.config() };
    let error = agent::run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, agent::Error::Token(_)), "{error}");
}

#[tokio::test]
async fn two_agents_cannot_use_one_home() {
    let scene = Scene::new("finished").await;
    let agent = scene.agent();
    scene.server.until("the first is known", |world| world.syncs > 0).await;
    let error = agent::run(scene.config(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, agent::Error::HomeInUse { .. }), "{error}");
    agent.stop().await;
}

#[test]
#[ignore = "other tests start this as a process"]
fn agent_process() {
    scene::be_the_agent();
}

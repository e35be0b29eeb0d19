//! Artifacts: written once, whole or not at all, and kept as long as somebody needs them.

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use sha2::Digest as _;

use super::*;
use crate::artifact::ArtifactError;
use protocol::Digest;

fn digest_of(bytes: &[u8]) -> Digest {
    hex::encode(sha2::Sha256::digest(bytes)).parse().unwrap()
}

fn parts(bytes: &[u8]) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter(bytes.chunks(3).map(|part| Ok(Bytes::copy_from_slice(part))).collect::<Vec<_>>())
}

async fn put(world: &World, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    assert_eq!(world.artifacts.put(&digest, parts(bytes)).await.unwrap(), bytes.len() as u64);
    digest
}

async fn get(world: &World, digest: &Digest, start: u64, end: Option<u64>) -> Vec<u8> {
    let found = world.artifacts.get(digest, start, end).await.unwrap();
    let parts: Vec<Bytes> = found.stream.try_collect().await.unwrap();
    parts.concat()
}

/// Names of the files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test]
async fn an_artifact_is_read_back_in_whole_and_in_part() {
    let world = World::new().await;
    let digest = put(&world, b"0123456789").await;
    assert_eq!(world.artifacts.head(&digest).await.unwrap(), Some(10));
    assert_eq!(get(&world, &digest, 0, None).await, b"0123456789");
    assert_eq!(get(&world, &digest, 4, Some(6)).await, b"45");
    assert_eq!(get(&world, &digest, 8, Some(100)).await, b"89");
    assert!(matches!(world.artifacts.get(&digest, 10, None).await, Err(ArtifactError::Range { bytes: 10, .. })));
    put(&world, b"0123456789").await;
    assert_eq!(get(&world, &put(&world, b"").await, 0, None).await, b"");
    let unknown = digest_of(b"unknown");
    assert_eq!(world.artifacts.head(&unknown).await.unwrap(), None);
    assert!(matches!(world.artifacts.get(&unknown, 0, None).await, Err(ArtifactError::NotFound(_))));
    assert!("../../etc/passwd".parse::<Digest>().is_err());
}

#[tokio::test]
async fn bytes_with_another_digest_than_their_name_leave_nothing_behind() {
    let world = World::new().await;
    let digest = digest_of(b"promised");
    let error = world.artifacts.put(&digest, parts(b"delivered")).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Mismatch { .. }), "{error}");
    let broken = stream::iter([Ok(Bytes::from_static(b"prom")), Err(std::io::Error::other("the line went dead"))]);
    let error = world.artifacts.put(&digest, broken).await.unwrap_err();
    assert!(error.to_string().contains("the line went dead"));
    assert_eq!(world.artifacts.head(&digest).await.unwrap(), None);
    assert_eq!(files(&world.data.path().join("artifacts")), [] as [&str; 0]);
}

#[tokio::test]
async fn files_of_datasets_are_found_by_content() {
    let world = World::new().await;
    let digest = digest_of(b"one paragraph\n");
    assert_eq!(world.artifacts.head(&digest).await.unwrap(), Some(14));
    assert_eq!(get(&world, &digest, 4, Some(13)).await, b"paragraph");
}

#[tokio::test]
async fn artifacts_that_no_checkpoint_needs_are_deleted_and_the_others_stay() {
    let world = World::with(Policy { keep_unreferenced: Duration::from_secs(60), ..Policy::default() }).await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let first = world.running(&agent).await;
    let mut manifests = Vec::new();
    let mut events = vec![started(None)];
    for step in 1..=3u64 {
        let weights = put(&world, format!("weights {step}").as_bytes()).await;
        let files = json!([{"name": "model.safetensors", "sha256": weights.as_str(), "bytes": 9}]);
        let text = json!({"fingerprint": "f", "step": step, "files": files}).to_string();
        let manifest = put(&world, text.as_bytes()).await;
        let (folder, trained_seconds) = (format!("checkpoints/step-{step:012}"), 1.0);
        events.push(Event::Checkpointed { step, trained_seconds, folder, manifest: manifest.as_str().into() });
        manifests.push((manifest, weights));
    }
    let stray = put(&world, b"never reported").await;
    agent.sync(&world.store, vec![says(first.attempt, 1, events)]).await;
    assert_eq!(world.control.collect().await.unwrap(), 0, "all of it was touched a moment ago");
    let present = async || {
        let mut present = Vec::new();
        for (manifest, weights) in &manifests {
            let both = [world.artifacts.head(manifest).await.unwrap(), world.artifacts.head(weights).await.unwrap()];
            assert_eq!(both[0].is_some(), both[1].is_some());
            present.push(both[0].is_some());
        }
        present
    };
    let pass_time = "update artifact set touched_at = now() - interval '61 seconds'";
    world.database.execute(pass_time).await;
    assert_eq!(world.control.collect().await.unwrap(), 3, "the oldest checkpoint's two and the stray");
    assert_eq!(present().await, [false, true, true]);
    assert_eq!(world.artifacts.head(&stray).await.unwrap(), None);

    let TrialReport::Pretrain(report) = report_of(&first) else { panic!("it pre-trains") };
    let report = TrialReport::Pretrain(PretrainReport { checkpoint: manifests[2].0.as_str().into(), ..report });
    agent.sync(&world.store, vec![says(first.attempt, 5, vec![Event::Finished { report }])]).await;
    world.database.execute(pass_time).await;
    assert_eq!(world.control.collect().await.unwrap(), 2);
    assert_eq!(present().await, [false, false, true], "fine-tuning starts from the last one");
    assert_eq!(files(&world.data.path().join("artifacts")).len(), 2);
    put(&world, b"never reported").await;
}

#[tokio::test]
async fn answers_stay_as_long_as_a_report_names_them() {
    let world = World::with(Policy { keep_unreferenced: Duration::from_secs(60), ..Policy::default() }).await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    agent.sync(&world.store, vec![]).await;
    let glue = |spec: &mut Value| spec["glue"] = json!({"tasks": ["rte"], "seeds": 1, "selection": null});
    world.submit(glue).await;
    let pretrain = world.placed(&agent).await;
    agent.sync(&world.store, vec![says(pretrain.attempt, 1, vec![finished(&pretrain)])]).await;
    let finetune = world.placed(&agent).await;
    let TrialReport::Finetune(report) = report_of(&finetune) else { panic!("it fine-tunes") };
    let (named, stray) = (put(&world, b"index\tprediction\n").await, put(&world, b"of an attempt that was lost").await);
    let file = PredictionFile { name: "RTE.tsv".into(), rows: 0, sha256: named.as_str().into(), bytes: 17 };
    let report = TrialReport::Finetune(FinetuneReport { predictions: vec![file], ..report });
    agent.sync(&world.store, vec![says(finetune.attempt, 1, vec![Event::Finished { report }])]).await;
    world.database.execute("update artifact set touched_at = now() - interval '61 seconds'").await;
    assert_eq!(world.control.collect().await.unwrap(), 1);
    assert_eq!(world.artifacts.head(&named).await.unwrap(), Some(17));
    assert_eq!(world.artifacts.head(&stray).await.unwrap(), None);
}

#[tokio::test]
async fn an_artifact_that_is_being_deleted_is_not_served() {
    let world = World::new().await;
    let digest = put(&world, b"in the way").await;
    world.database.execute("update artifact set condemned_at = now()").await;
    assert_eq!(world.artifacts.head(&digest).await.unwrap(), None);
    let error = world.artifacts.put(&digest, parts(b"in the way")).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Condemned(_)), "{error}");
    assert_eq!(world.control.collect().await.unwrap(), 1);
    put(&world, b"in the way").await;
}

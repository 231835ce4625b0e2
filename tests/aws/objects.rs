//! Artifacts in S3: the promises of every store, and what is left of them when the way there is bad.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass::cloud::fault::{Faults, Faulty};
use windlass::cloud::setup::Aws;
use windlass::cloud::{Error, Objects, aws, conformance};
use windlass::ids::Digest;

use crate::emulator::{Call, Emulator};

const KEY: &str = "shop/shop-1/app.tar";

/// Of two parts, whatever its digest.
const LARGE: usize = 13 * 512 * 1024;

fn store(emulator: &Emulator) -> Arc<dyn Objects> {
    let setup = Aws { account: emulator.account(), builder: None, fleets: BTreeMap::new() };
    aws::Accounts::with(emulator.config()).open(&Arc::new(setup)).objects
}

/// A bucket, and a file to be put into it.
struct Story {
    emulator: Emulator,
    store: Arc<dyn Objects>,
    room: tempfile::TempDir,
}

impl Story {
    fn new() -> Self {
        let emulator = Emulator::start(json!({}));
        let store = store(&emulator);
        Self { emulator, store, room: tempfile::tempdir().unwrap() }
    }

    /// Content of that size that ends with `end`.
    fn file(&self, size: usize, end: &str) -> (PathBuf, Digest) {
        let mut content: Vec<u8> = (0..size - end.len()).map(|n| (n / 4096 % 251) as u8).collect();
        content.extend(end.as_bytes());
        let path = self.room.path().join(end);
        std::fs::write(&path, &content).unwrap();
        (path, Digest::of(&content))
    }

    async fn put(&self, (path, digest): &(PathBuf, Digest)) -> Result<(), Error> {
        self.store.put(KEY, path, digest).await
    }

    /// Puts it until one of its requests is held by the rule, and dies there. `false`: none was held,
    /// and it is done.
    async fn put_and_die(&self, file: &(PathBuf, Digest), rule: Value) -> bool {
        let rule = self.emulator.rule(rule);
        let (store, (path, digest)) = (self.store.clone(), file.clone());
        let putting = tokio::spawn(async move { store.put(KEY, &path, &digest).await });
        let died = loop {
            let held =
                tokio::task::block_in_place(|| self.emulator.held_within(rule, Duration::from_millis(50)));
            if held.is_some() {
                putting.abort();
                assert!(putting.await.unwrap_err().is_cancelled());
                break true;
            }
            if putting.is_finished() {
                putting.await.unwrap().expect("nothing kept it from being put");
                break false;
            }
        };
        self.emulator.clear(rule);
        died
    }

    fn calls(&self, operation: &str) -> Vec<Call> {
        let calls = self.emulator.calls();
        calls.into_iter().filter(|call| call.operation == operation).collect()
    }

    /// One object with this content, and no upload.
    async fn assert_is_there(&self, (path, digest): &(PathBuf, Digest)) {
        let state = self.emulator.state();
        assert_eq!(state["objects"][&self.emulator.world.bucket], json!([KEY]));
        assert_eq!(state["uploads"], json!([]), "no upload is left");
        assert_eq!(self.store.digest(KEY).await.unwrap().as_ref(), Some(digest));
        let back = self.room.path().join("back");
        self.store.get(KEY, &back).await.unwrap();
        assert!(std::fs::read(&back).unwrap() == std::fs::read(path).unwrap(), "other content came back");
    }
}

#[tokio::test]
async fn s3_conforms() {
    let story = Story::new();
    let make = async || Faulty::new(story.store.clone(), Faults::none());
    conformance::objects(story.room.path(), make).await;
    println!("cloud::conformance::objects passed for aws");
}

#[tokio::test]
async fn large_content_goes_in_parts_and_is_not_sent_twice() {
    let story = Story::new();
    let file = story.file(LARGE, "one");
    story.put(&file).await.unwrap();
    story.assert_is_there(&file).await;
    assert_eq!(story.emulator.count("UploadPart"), 2);
    story.put(&file).await.unwrap();
    assert_eq!(story.emulator.count("UploadPart"), 2, "it is there already");
    assert_eq!(story.emulator.count("CreateMultipartUpload"), 1);
}

#[tokio::test]
async fn large_content_that_is_not_as_promised_is_not_even_begun() {
    let story = Story::new();
    let (path, _) = story.file(LARGE, "one");
    let refused = story.put(&(path, Digest::of(b"another"))).await;
    assert!(matches!(refused, Err(Error::Failed(_))), "{refused:?}");
    assert!(story.emulator.calls().iter().all(|call| call.operation == "HeadObject"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_interrupted_goes_on_with_what_is_there() {
    let story = Story::new();
    let file = story.file(LARGE * 3, "one");
    // All of its parts but the first arrive.
    let first = json!({
        "operations": ["UploadPart"], "match": { "partNumber": "1" }, "fault": "hold", "drop": true
    });
    let first = story.emulator.rule(first);
    let (store, (path, digest)) = (story.store.clone(), file.clone());
    let putting = tokio::spawn(async move { store.put(KEY, &path, &digest).await });
    let numbers = |calls: &[Call]| -> BTreeSet<String> {
        calls.iter().map(|call| call.params["partNumber"].as_str().unwrap().to_owned()).collect()
    };
    let arrived = |calls: Vec<Call>| -> Vec<Call> {
        calls.into_iter().filter(|call| call.status == Some(200)).collect()
    };
    let look = || {
        story.emulator.until("three parts are there", |_| {
            let there = arrived(story.calls("UploadPart"));
            (there.len() >= 3).then(|| numbers(&there))
        })
    };
    let there = tokio::task::block_in_place(look);
    putting.abort();
    assert!(putting.await.unwrap_err().is_cancelled());
    story.emulator.clear(first);
    assert!(!there.contains("1"));

    let before = story.emulator.calls().len();
    story.put(&file).await.unwrap();
    story.assert_is_there(&file).await;
    let again: Vec<Call> = story.calls("UploadPart").into_iter().filter(|call| call.n > before).collect();
    let again = numbers(&again);
    assert!(again.contains("1") && again.is_disjoint(&there), "{again:?}, and {there:?} were there");
    assert_eq!(story.emulator.count("CreateMultipartUpload"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_request_and_put_again_it_is_there_once() {
    let story = Story::new();
    for (large, fault) in [(true, "hold"), (true, "block"), (false, "hold"), (false, "block")] {
        let mut deaths = 0;
        for nth in 1.. {
            let size = if large { LARGE } else { 1000 };
            // Each is another content, so that nothing is there already.
            let file = story.file(size, &format!("{fault}-{nth}"));
            let rule = json!({ "operations": ["s3:*"], "nth": nth, "fault": fault, "drop": fault == "hold" });
            if !story.put_and_die(&file, rule).await {
                break;
            }
            deaths += 1;
            story.put(&file).await.unwrap();
            story.assert_is_there(&file).await;
        }
        // Look, list, begin, two parts, complete; or look and put.
        assert!(deaths >= if large { 6 } else { 2 }, "{fault}: {deaths} requests were died at");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_begins_alike_is_not_taken_for_what_was_interrupted() {
    let story = Story::new();
    let (one, two) = (story.file(LARGE, "one"), story.file(LARGE, "two"));
    let rule = json!({ "operations": ["CompleteMultipartUpload"], "fault": "hold", "drop": true });
    assert!(story.put_and_die(&one, rule).await);
    story.put(&two).await.unwrap();
    story.assert_is_there(&two).await;
    assert_eq!(story.emulator.count("AbortMultipartUpload"), 1, "nobody goes on with the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_which_nothing_is_there_is_ended() {
    let story = Story::new();
    let file = story.file(LARGE, "one");
    let rule = json!({ "operations": ["CreateMultipartUpload"], "fault": "block" });
    assert!(story.put_and_die(&file, rule).await);
    story.put(&file).await.unwrap();
    story.assert_is_there(&file).await;
}

#[tokio::test]
async fn a_lost_answer_to_any_request_is_lived_with() {
    for operation in ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"] {
        for fault in ["lost", "dropped"] {
            let story = Story::new();
            let size = if operation == "PutObject" { 1000 } else { LARGE };
            let file = story.file(size, "one");
            story.emulator.rule(json!({ "operations": [operation], "nth": 1, "fault": fault }));
            story.put(&file).await.unwrap_or_else(|error| panic!("{operation} {fault}: {error}"));
            story.assert_is_there(&file).await;
            let struck = story.emulator.calls().iter().filter(|call| call.fault.is_some()).count();
            assert_eq!(struck, 1, "{operation} {fault}");
        }
    }
}

#[tokio::test]
async fn throttling_in_the_middle_is_waited_out() {
    let story = Story::new();
    let file = story.file(LARGE, "one");
    story.emulator.rule(json!({ "operations": ["s3:*"], "every": 3, "fault": "throttle" }));
    story.put(&file).await.unwrap();
    story.emulator.clear_all();
    story.assert_is_there(&file).await;
    assert!(story.emulator.calls().iter().any(|call| call.fault.as_deref() == Some("throttle")));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let story = Story::new();
    let account =
        windlass::cloud::setup::Account { bucket: "nobodys".to_owned(), ..story.emulator.account() };
    let setup = Aws { account, builder: None, fleets: BTreeMap::new() };
    let store = aws::Accounts::with(story.emulator.config()).open(&Arc::new(setup)).objects;
    for size in [1000, LARGE] {
        let (path, digest) = story.file(size, "one");
        let refused = store.put(KEY, &path, &digest).await;
        let Err(Error::NotFound(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("nobodys") && why.contains("clouds.aws.bucket"), "{why}");
    }
    assert!(matches!(store.list("").await, Err(Error::NotFound(_))));
}

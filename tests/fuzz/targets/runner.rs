//! What the runner is told, and its records: bytes become messages or an error, and what was recorded stays.

use serde::Serialize;
use serde::de::DeserializeOwned;
use windlass::ipc::Reader;
use windlass::runner::journal::{self, Journal};
use windlass::runner::protocol::{Hello, Request, Response};

pub const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "null",
    "\"id\":",
    "\"ask\":",
    "\"start\"",
    "\"wait\"",
    "\"cancel\"",
    "\"grace_ms\":18446744073709551615",
    "\"windlass_runner\":2",
    "\"windlass_runner\"",
    "\"opened\"",
    "\"starting\"",
    "\"running\"",
    "\"ended\"",
    "\"step\"",
    "\"pid\":",
    "\"start_time\":",
    "\"born\":null",
    "\"mark\":\"\"",
    "\"log\":\"/etc/passwd\"",
    "\"version\":2",
    "\"boot\":\"b0\"",
    "\"exit\"",
    "\"status\"",
    "\"kind\":\"code\"",
    "\"code\":-1",
    "4294967295",
    "0",
    "-1",
    "\n",
    "\"run\":\"a/0\"",
    "\"../../x\"",
    "\"9999-12-31T23:59:59Z\"",
    "[[[[[[[[",
];

pub fn messages(data: &[u8]) {
    conversation::<Hello>(data);
    conversation::<Request<'static>>(data);
    conversation::<Response>(data);
}

/// Reads messages until the first that is none, as both sides do.
pub fn conversation<T: DeserializeOwned + Serialize>(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = Reader::new(data);
        for _ in 0..=data.len() {
            let message: T = match reader.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                    return;
                }
            };
            let text = serde_json::to_string(&message).expect("what was read can be written");
            assert!(!text.contains('\n'), "a message is one line: {text:?}");
            let again: T = serde_json::from_str(&text).expect("what was written can be read");
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
        }
        panic!("more messages than bytes");
    });
}

pub fn journal(data: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    std::fs::write(&path, data).unwrap();
    let Ok(mut found) = journal::read(&path, "b0") else { return };
    for abandoned in &found.abandoned {
        assert!(!found.ended.contains_key(&abandoned.step), "{} ended and did not", abandoned.step);
    }
    // What a new runner writes down of it is what it goes by, and what the next one finds.
    Journal::create(&path, "b0".to_owned(), None, &mut found.ended).unwrap();
    let again = journal::read(&path, "b0").expect("what was written can be read");
    assert_eq!(again.ended, found.ended);
    assert!(again.abandoned.is_empty());
}

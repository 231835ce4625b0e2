//! Whether a data directory is sound, from its bytes.

use std::fs;
use std::path::Path;

use sha2::Digest;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::support::{Signal, World, signal, until};

/// Sees that nothing in it is half there: the database, the balancer's state, artifacts, images.
#[track_caller]
pub fn is_sound(data: &Path) {
    assert_eq!(integrity(&data.join("windlass.db")), "ok");
    if let Ok(text) = fs::read(data.join("balancer.json")) {
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
    }
    let blobs = walkdir::WalkDir::new(data.join("artifacts/blobs")).min_depth(2);
    for blob in blobs.into_iter().filter_map(Result::ok) {
        let (first, rest) = (blob.path().parent().unwrap().file_name().unwrap(), blob.file_name());
        let name = format!("{}{}", first.to_str().unwrap(), rest.to_str().unwrap());
        let digest = sha2::Sha256::digest(fs::read(blob.path()).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, name, "an artifact that is not whole");
    }
    for image in fs::read_dir(data.join("images")).into_iter().flatten().flatten() {
        let manifest = fs::read(image.path().join("manifest.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&manifest).unwrap();
        assert!(image.path().join("root/app/shop.py").exists(), "half an image: {:?}", image.path());
    }
}

fn integrity(database: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
        let said: String =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        said
    })
}

/// Every file below a directory, with what is in it: to see that nothing was changed.
pub fn bytes(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = walkdir::WalkDir::new(directory)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().display().to_string(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// Ends what keeps house, and waits until it has ended.
pub fn ended(world: &World, what: &[&str]) {
    let theirs = || {
        let mut all = world.processes();
        all.retain(|process| what.iter().any(|what| process.is_windlass(what)));
        all
    };
    theirs().iter().for_each(|process| signal(process.pid, Signal::TERM));
    until("the processes end", || theirs().is_empty().then_some(()));
}

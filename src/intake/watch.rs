//! Notices edits of the pipeline files, and new settings.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;

use super::Shared;
use super::catalog::Catalog;
use crate::wake::Watch;

/// What changes a file of a directory.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);

/// Editors and git change several files at once: they get so long to finish.
const SETTLING: Duration = Duration::from_millis(20);

/// The edits of a directory; of none where it cannot be watched.
pub struct Edits(Option<Watch>);

impl Edits {
    /// Watches from now on. What cannot be watched is said: then edits are noticed when the settings are
    /// read again.
    pub fn of(directory: Option<&Path>) -> Self {
        let watch = |directory: &Path| match Watch::new(directory, CHANGES) {
            Ok(watch) => Some(watch),
            Err(error) => {
                let directory = directory.display();
                tracing::error!(%error, "{directory} cannot be watched: after an edit there, send SIGHUP");
                None
            }
        };
        Self(directory.and_then(watch))
    }

    async fn next(&mut self) {
        match &self.0 {
            None => std::future::pending().await,
            Some(watch) => {
                if let Err(error) = watch.changed().await {
                    tracing::error!(%error, "edits of the pipelines are not noticed any more");
                    self.0 = None;
                }
            }
        }
        tokio::time::sleep(SETTLING).await;
    }
}

/// Looks again whenever something changed.
pub async fn run(shared: Arc<Shared>, mut edits: Edits) {
    let mut settings = shared.settings.subscribe();
    let mut seen = Vec::new();
    loop {
        let (before, directory) = (shared.catalog.borrow().clone(), shared.pipelines.clone());
        let (now, seen_before) = (settings.borrow_and_update().clone(), std::mem::take(&mut seen));
        let looked = tokio::task::spawn_blocking(move || {
            let stamps = stamps(directory.as_deref());
            // Files of other kinds may lie there, which somebody writes all the time.
            let same = stamps == seen_before && Arc::ptr_eq(&now, &before.settings);
            let after = (!same).then(|| before.look(directory.as_deref(), now));
            if let Some(after) = &after {
                report(&before, after);
            }
            (stamps, after)
        });
        if let Ok((stamps, after)) = looked.await {
            seen = stamps;
            if let Some(after) = after {
                shared.catalog.send_replace(Arc::new(after));
            }
        }
        tokio::select! {
            () = edits.next() => {}
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}

/// What tells that a file was changed or replaced.
type Stamp = (PathBuf, Option<(u64, u64, i64, i64)>);

fn stamps(directory: Option<&Path>) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok();
        let stamp = found.map(|found| (found.ino(), found.size(), found.mtime(), found.mtime_nsec()));
        (path, stamp)
    };
    let entries = directory.and_then(|directory| directory.read_dir().ok()).into_iter().flatten();
    let files = entries.flatten().map(|entry| entry.path());
    let yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let mut stamps: Vec<Stamp> = files.filter(yaml).map(stamp).collect();
    stamps.sort();
    stamps
}

/// Says what went wrong or right since the last look.
pub fn report(before: &Catalog, after: &Catalog) {
    if let Some(problem) = after.problem.as_ref().filter(|_| before.problem != after.problem) {
        tracing::error!("the pipelines stay as they were: {problem}");
    }
    for (file, entry) in &after.files {
        let was = before.files.get(file).and_then(|entry| entry.problem.as_ref());
        match (&entry.problem, was) {
            (Some(now), was) if was != Some(now) => match &entry.listed {
                Some(_) => tracing::error!("{file}: its last good version stays in use: {now}"),
                None => tracing::error!("{file}: no run can start from it: {now}"),
            },
            (None, Some(_)) => tracing::info!("{file} is good again"),
            _ => {}
        }
    }
}

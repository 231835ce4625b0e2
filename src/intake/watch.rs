//! Notices edits of the pipeline files and of the settings.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::WatchFlags;

use super::Shared;
use super::catalog::Catalog;
use crate::wake::Watch;

/// What changes a file of a directory; the directory's own end as well.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE);

/// Editors and git change several files at once: they get so long to finish.
const SETTLING: Duration = Duration::from_millis(20);

/// The directories that are watched.
pub struct Watches(Vec<Watch>);

impl Watches {
    /// Watches the directory of the pipelines, and the one in which the settings lie. What cannot be
    /// watched is said: then edits are noticed at the next start.
    pub fn new(pipelines: Option<&Path>, settings: Option<&Path>) -> Self {
        let directories = pipelines.into_iter().chain(settings.and_then(Path::parent));
        let watch = |directory: &Path| match Watch::new(directory, CHANGES) {
            Ok(watch) => Some(watch),
            Err(error) => {
                let directory = directory.display();
                tracing::error!(%error, "{directory} cannot be watched: edits there need a restart");
                None
            }
        };
        Self(directories.filter_map(watch).collect())
    }

    /// Waits for a change in any of them.
    async fn changed(&self) {
        let waits: Vec<_> = self.0.iter().map(|watch| Box::pin(watch.changed())).collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        if let (Err(error), ..) = futures_util::future::select_all(waits).await {
            tracing::error!(%error, "edits of the pipelines are not noticed any more");
            std::future::pending().await
        }
    }
}

/// Looks again whenever something changed.
pub async fn run(shared: Arc<Shared>, watches: Watches) {
    let mut seen = None;
    loop {
        let before = shared.catalog.borrow().clone();
        let directory = shared.pipelines.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // Other files may lie beside the settings.
            let stamps = stamps(&before, directory.as_deref());
            let after = (seen.as_ref() != Some(&stamps)).then(|| before.look(directory.as_deref()));
            if let Some(after) = &after {
                report(&before, after);
            }
            (stamps, after)
        });
        if let Ok((stamps, after)) = looked.await {
            seen = Some(stamps);
            if let Some(after) = after {
                shared.catalog.send_replace(Arc::new(after));
            }
        } else {
            seen = None;
        }
        watches.changed().await;
        tokio::time::sleep(SETTLING).await;
    }
}

/// What tells that a file was changed or replaced.
type Stamp = (PathBuf, Option<(u64, u64, i64, i64)>);

fn stamps(catalog: &Catalog, directory: Option<&Path>) -> Vec<Stamp> {
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok();
        let stamp = found.map(|found| (found.ino(), found.size(), found.mtime(), found.mtime_nsec()));
        (path, stamp)
    };
    let entries = directory.and_then(|directory| directory.read_dir().ok()).into_iter().flatten();
    let files = entries.flatten().map(|entry| entry.path());
    let mut stamps: Vec<Stamp> = files.chain(catalog.settings.path.clone()).map(stamp).collect();
    stamps.sort();
    stamps
}

/// Says what went wrong or right since the last look.
pub fn report(before: &Catalog, after: &Catalog) {
    let problem = |catalog: &Catalog, file: &str| {
        catalog.files.get(file).and_then(|entry| entry.problem.clone()).unwrap_or_default()
    };
    if let Some(problem) = after.problem.as_ref().filter(|_| before.problem != after.problem) {
        tracing::error!("what was read before stays in use: {problem}");
    }
    for (file, entry) in &after.files {
        match (&entry.problem, problem(before, file)) {
            (Some(now), before) if *now != before => match &entry.listed {
                Some(_) => tracing::error!("{file}: its last good version stays in use: {now}"),
                None => tracing::error!("{file}: no run can start from it: {now}"),
            },
            (None, before) if !before.is_empty() => tracing::warn!("{file} is good again"),
            _ => {}
        }
    }
}

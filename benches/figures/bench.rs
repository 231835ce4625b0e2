//! What all rows share: where they work, how often, and the programs they are measured beside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::peers::buildbot::Taken;

/// The program, as it was built for the benchmarks.
pub const WINDLASS: &str = env!("CARGO_BIN_EXE_windlass");

pub struct Bench {
    /// Rounds where nothing says otherwise.
    pub rounds: usize,
    /// On the disk of the target directory, as a memory file system waits for nothing.
    root: TempDir,
    buildbot: OnceLock<Option<Taken>>,
}

impl Bench {
    pub fn new(rounds: usize) -> std::io::Result<Self> {
        Ok(Self {
            rounds,
            root: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?,
            buildbot: OnceLock::new(),
        })
    }

    /// What Buildbot takes, measured when a row first asks, as it takes half a minute.
    pub fn buildbot(&self) -> Option<&Taken> {
        self.buildbot.get_or_init(|| Taken::measure(self)).as_ref()
    }

    /// A new empty directory, gone when it is dropped.
    pub fn directory(&self) -> TempDir {
        tempfile::tempdir_in(self.root.path()).expect("a directory")
    }

    /// Where a program is that something is measured beside. `.ci/tools` installs it where it is missing;
    /// what cannot be installed leaves its column out, visibly.
    pub fn peer(&self, name: &str) -> Option<PathBuf> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools");
        let found = Command::new(tools).arg(name).stderr(Stdio::inherit()).output().ok()?;
        let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if !found.status.success() || path.is_empty() {
            eprintln!("without {name}: it is not here");
            return None;
        }
        Some(path.into())
    }
}

/// Waits until something holds, and says what did not come.
pub fn wait_for<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < bound, "{what} did not come within {bound:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! What stories are told with.

mod foreground;
pub mod hooks;
mod look;
mod processes;
mod repository;
mod traffic;
mod world;

pub use foreground::{Ended, Foreground};
pub use look::*;
pub use processes::{Process, Signal, kill, signal};
pub use repository::Repository;
pub use traffic::{Seen, Traffic, get};
pub use world::{World, edit, free_port};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The pause between two looks at something that nobody tells us about.
const BEAT: Duration = Duration::from_millis(10);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass");

/// A directory below `tests/data`.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Looks again and again until there is something to see. `what` says what did not come.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(BEAT);
    }
}

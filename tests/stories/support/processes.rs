//! The processes of a story: all that carry its directory in their command line or environment.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::process::Pid;
pub use rustix::process::Signal;

/// A process as it was when it was looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub words: Vec<String>,
    environment: Vec<OsString>,
}

/// Without the environment: it is long, and nobody else's business.
impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.pid, self.words)
    }
}

impl Process {
    /// All processes that have to do with `directory`, but for this one.
    pub fn of(directory: &Path) -> Vec<Self> {
        let wanted = directory.as_os_str().as_encoded_bytes();
        let mut found: Vec<Self> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id().cast_signed())
            .filter_map(|pid| Self::read(pid, wanted))
            .collect();
        found.sort_by_key(|process| process.pid);
        found
    }

    /// `None` for a process that is over, and for one that has nothing to do with `wanted`.
    fn read(pid: i32, wanted: &[u8]) -> Option<Self> {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let over = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        let ours =
            [&command, &environment].iter().any(|text| text.windows(wanted.len()).any(|w| w == wanted));
        (ours && !over).then(|| Self {
            pid,
            words: split(&command).map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            environment: split(&environment).map(|word| OsString::from_vec(word.to_vec())).collect(),
        })
    }

    /// Whether it is `windlass COMMAND`.
    pub fn is_windlass(&self, command: &str) -> bool {
        self.words.first().is_some_and(|program| program.ends_with("windlass"))
            && self.words.get(1).is_some_and(|word| word == command)
    }

    /// Whether it was started with this variable.
    pub fn carries(&self, name: &str, value: &str) -> bool {
        let entry = format!("{name}={value}");
        self.environment.iter().any(|other| *other == *entry)
    }
}

fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == 0).filter(|word| !word.is_empty())
}

/// A process that is over already is as good.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

//! The runner's records: which steps it started, and how they ended.
//!
//! One file of JSON lines, appended to, rather than a file for each step: a step then costs three
//! short writes and no file of its own to make, sync and remove. Always true:
//!
//! - a step is recorded before its process is started, and its end before anybody is told;
//! - each record is one write. It is safe from anything that kills processes at once, and from a
//!   loss of power soon: the file is synced in the background, one sync for all that was written
//!   meanwhile, as the steps themselves do not survive that either and whoever asked for them
//!   keeps a journal of its own;
//! - the file is written anew, with the ended steps worth keeping, when a runner starts and when it
//!   has grown enough; secrets and output are never in it;
//! - room for records is kept ahead, so that a step that fills the disk does not lose its own end. What
//!   cannot be written all the same is written as soon as it can be, before anything else.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::FallocateFlags;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::{Exit, StartStep};
use crate::ids::StepId;

/// Goes up with every change that an older reader would misunderstand.
const VERSION: u32 = 1;

/// Of how many ended steps it is known how they ended, those that ended last: about 3 MB. However long ago
/// that was: whoever goes on with a run after weeks would do a step again of which nothing is known.
const KEPT_COUNT: usize = 10_000;

/// Lines after which the file is written anew.
const LINES: usize = 4 * KEPT_COUNT;

/// Room for records that is kept beyond the end of the file, in bytes: about a thousand of them.
const AHEAD: u64 = 256 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line.
    Opened {
        version: u32,
        boot: String,
        /// Missing where nobody guards the runner, and in what older versions wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
    },
    Starting {
        step: StepId,
        /// Missing in what older versions wrote.
        #[serde(default)]
        born: Option<Timestamp>,
        mark: String,
        log: PathBuf,
        at: Timestamp,
    },
    Running {
        step: StepId,
        pid: u32,
        start_time: u64,
    },
    Ended {
        step: StepId,
        #[serde(default)]
        born: Option<Timestamp>,
        exit: Exit,
    },
}

/// A step that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// When its run was created; `None` if an older version recorded it.
    pub born: Option<Timestamp>,
    pub exit: Exit,
}

impl Past {
    /// Whether this may be a step of the run that was created at `born`, and not of another that
    /// bore the same number.
    pub fn is_of(&self, born: Timestamp) -> bool {
        self.born.is_none_or(|recorded| recorded == born)
    }
}

/// A step of which a runner that died recorded the start and not the end.
#[derive(Debug, PartialEq, Eq)]
pub struct Abandoned {
    pub step: StepId,
    pub born: Option<Timestamp>,
    pub mark: String,
    pub log: PathBuf,
    pub started_at: Timestamp,
    /// Number and start time of its first process; `None` if that is not known, or if the machine
    /// was started anew meanwhile.
    pub leader: Option<(Pid, u64)>,
}

/// What the records say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub ended: HashMap<StepId, Past>,
    pub abandoned: Vec<Abandoned>,
    /// Who guarded the runner that wrote them, on this boot of the machine.
    pub guard: Option<Guard>,
}

/// Reads the records at `path`. A line that cannot be read (the machine lost power while it was
/// written) is passed over.
///
/// # Errors
/// The file cannot be read, or a newer version wrote it.
pub fn read(path: &Path, boot: &str) -> io::Result<Found> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        text => text?,
    };
    let mut ended = HashMap::new();
    let mut open: HashMap<StepId, Abandoned> = HashMap::new();
    let (mut same_boot, mut guarded) = (false, None);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Record::Opened { version, boot: then, guard }) => {
                known(version)?;
                same_boot = then == boot;
                guarded = guard.filter(|_| same_boot);
            }
            Ok(Record::Starting { step, born, mark, log, at }) => {
                // Of another run that bore the same number.
                ended.remove(&step);
                let abandoned =
                    Abandoned { step: step.clone(), born, mark, log, started_at: at, leader: None };
                open.insert(step, abandoned);
            }
            Ok(Record::Running { step, pid, start_time }) => {
                if let Some(abandoned) = open.get_mut(&step).filter(|_| same_boot) {
                    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    abandoned.leader = pid.map(|pid| (pid, start_time));
                }
            }
            Ok(Record::Ended { step, born, exit }) => {
                open.remove(&step);
                ended.insert(step, Past { born, exit });
            }
            Err(error) => tracing::warn!(%error, "passing over a record that cannot be read"),
        }
    }
    Ok(Found { ended, abandoned: open.into_values().collect(), guard: guarded })
}

/// Whether this program understands records of that version.
pub(super) fn known(version: u32) -> io::Result<()> {
    let newer = "a newer windlass wrote it: use that one, or move the file away";
    match version > VERSION {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, newer)),
        false => Ok(()),
    }
}

/// Appends records.
pub struct Journal {
    path: PathBuf,
    boot: String,
    guard: Option<Guard>,
    file: File,
    lines: usize,
    /// Up to where the file has room on the disk, as far as is known.
    room: u64,
    /// Its length.
    length: u64,
    /// Records that could not be written, whole or at all.
    owed: Vec<u8>,
}

impl Journal {
    /// Writes the file anew with what is worth keeping of `ended`, and forgets the rest of it.
    pub fn create(
        path: &Path,
        boot: String,
        guard: Option<Guard>,
        ended: &mut HashMap<StepId, Past>,
    ) -> io::Result<Self> {
        prune(ended);
        let mut text = line(&Record::Opened { version: VERSION, boot: boot.clone(), guard })?;
        for (step, past) in ended.iter() {
            text.extend(line(&Record::ended(step, past))?);
        }
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        let (lines, length) = (ended.len(), text.len() as u64);
        let path = path.to_owned();
        let mut journal = Self { path, boot, guard, file, lines, room: length, length, owed: Vec::new() };
        journal.look_ahead();
        Ok(journal)
    }

    /// Records that a step is about to be started. When this fails it is not recorded, and never will be.
    pub fn starting(&mut self, start: &StartStep, mark: &str, at: Timestamp) -> io::Result<()> {
        let (step, log) = (start.step.clone(), start.log.clone());
        let record = Record::Starting { step, born: Some(start.born), mark: mark.to_owned(), log, at };
        self.settle()?;
        let before = self.owed.len();
        let written = self.append(&record);
        if written.is_err() {
            self.owed.truncate(before);
        }
        written
    }

    /// Records which process a step's first is.
    pub fn running(&mut self, step: &StepId, pid: Pid, start_time: u64) -> io::Result<()> {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        self.append(&Record::Running { step: step.clone(), pid, start_time })
    }

    /// Records how a step ended. When this fails it is owed.
    pub fn ended(&mut self, step: &StepId, past: &Past) -> io::Result<()> {
        self.append(&Record::ended(step, past))
    }

    /// Whether the file should be written anew, which is only possible while no step runs.
    pub fn is_due(&self) -> bool {
        self.lines > LINES
    }

    /// Whether there are records that could not be written.
    pub fn is_behind(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Writes what is owed.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        // What is there of a record that was not written whole must not spoil the next one.
        let mut text = vec![b'\n'];
        text.extend_from_slice(&self.owed);
        self.write(&text)?;
        self.owed.clear();
        Ok(())
    }

    /// Writes the file anew; see [`create`](Self::create). On failure the old one goes on.
    pub fn renew(&mut self, ended: &mut HashMap<StepId, Past>) -> io::Result<()> {
        *self = Self::create(&self.path, self.boot.clone(), self.guard, ended)?;
        Ok(())
    }

    /// The file, to be synced by somebody who has the time.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let text = line(record)?;
        self.lines += 1;
        let written = self.settle().and_then(|()| self.write(&text));
        if written.is_err() {
            self.owed.extend(text);
        }
        written
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.length += text.len() as u64;
        if self.room < self.length + AHEAD / 2 {
            self.look_ahead();
        }
        Ok(())
    }

    /// Keeps room for more. Where that cannot be had, records are written as they come.
    fn look_ahead(&mut self) {
        let kept = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, AHEAD);
        if kept.is_ok() {
            self.room = self.length + AHEAD;
        }
    }
}

impl Record {
    fn ended(step: &StepId, past: &Past) -> Self {
        Self::Ended { step: step.clone(), born: past.born, exit: past.exit.clone() }
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    Ok(text)
}

fn prune(ended: &mut HashMap<StepId, Past>) {
    if ended.len() > KEPT_COUNT {
        let mut times: Vec<Timestamp> = ended.values().map(|past| past.exit.finished_at).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(oldest) = times.get(KEPT_COUNT).copied() {
            ended.retain(|_, past| past.exit.finished_at > oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::ExitStatus;

    fn step(n: u32) -> StepId {
        let run = "storefront/1".parse().unwrap();
        StepId { attempt: crate::ids::AttemptId { run, stage: "test".parse().unwrap(), attempt: 1 }, step: n }
    }

    fn past(at: Timestamp) -> Past {
        let status = ExitStatus::Code { code: 0 };
        Past {
            born: Some(at),
            exit: Exit { status, started_at: at, finished_at: at, log_bytes: 7, flooded: None },
        }
    }

    fn start(n: u32, born: Timestamp) -> StartStep {
        StartStep {
            step: step(n),
            born,
            shell: crate::pipeline::model::Shell::Sh,
            run: String::new(),
            directory: "/".into(),
            env: Default::default(),
            mask: Vec::new(),
            log_limit: None,
            log: "/log".into(),
        }
    }

    #[test]
    fn what_was_recorded_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert_eq!(read(&path, "boot").unwrap(), Found::default());

        let now = Timestamp::now();
        let pid = Pid::from_raw(4711).unwrap();
        let mut journal = Journal::create(&path, "boot".to_owned(), None, &mut HashMap::new()).unwrap();
        for n in [1, 2] {
            journal.starting(&start(n, now), "mark", now).unwrap();
            journal.running(&step(n), pid, 99).unwrap();
        }
        journal.ended(&step(1), &past(now)).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"ended\":{\"st").unwrap();

        let found = read(&path, "boot").unwrap();
        assert_eq!(found.ended, HashMap::from([(step(1), past(now))]));
        let [abandoned] = found.abandoned.as_slice() else { panic!("{found:?}") };
        assert_eq!((abandoned.step.clone(), abandoned.leader), (step(2), Some((pid, 99))));
        let after_a_reboot = read(&path, "another").unwrap();
        assert_eq!(after_a_reboot.abandoned.first().unwrap().leader, None);
    }

    #[test]
    fn a_step_of_another_run_with_the_same_number_takes_the_place_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let now = Timestamp::now();
        let later = now + jiff::SignedDuration::from_secs(1);
        let mut journal = Journal::create(&path, "boot".to_owned(), None, &mut HashMap::new()).unwrap();
        journal.ended(&step(1), &past(now)).unwrap();
        assert!(past(now).is_of(now) && !past(now).is_of(later));
        assert!(Past { born: None, ..past(now) }.is_of(later), "an old record fits any run");

        journal.starting(&start(1, later), "mark", later).unwrap();
        let found = read(&path, "boot").unwrap();
        assert!(found.ended.is_empty());
        assert_eq!(found.abandoned.first().unwrap().born, Some(later));
    }

    #[test]
    fn of_many_records_the_oldest_go_none_for_its_age_alone_and_a_newer_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let now = Timestamp::now();
        let old = now - jiff::SignedDuration::from_hours(24 * 400);
        let few = HashMap::from([(step(0), past(old)), (step(1), past(now))]);
        Journal::create(&path, "boot".to_owned(), None, &mut few.clone()).unwrap();
        assert_eq!(read(&path, "boot").unwrap().ended, few);
        let of = |n: u32| (step(n), past(old + jiff::SignedDuration::from_secs(i64::from(n))));
        let mut many: HashMap<StepId, Past> = (0..KEPT_COUNT as u32 + 3).map(of).collect();
        Journal::create(&path, "boot".to_owned(), None, &mut many).unwrap();
        assert_eq!(many.len(), KEPT_COUNT);
        assert!(!many.contains_key(&step(2)) && many.contains_key(&step(3)));

        fs::write(&path, r#"{"opened":{"version":2,"boot":"b"}}"#).unwrap();
        assert!(read(&path, "boot").is_err());
    }

    /// A file that version 1 wrote must always be read.
    #[test]
    fn version_1_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        fs::write(&path, include_str!("journal.v1.jsonl")).unwrap();
        let found = read(&path, "b0").unwrap();
        assert_eq!(found.abandoned.len(), 1);
        assert_eq!(found.abandoned.first().unwrap().leader, Some((Pid::from_raw(77).unwrap(), 1234)));
        assert_eq!(found.ended.len(), 1);
        assert_eq!(found.ended.get(&step(1)).unwrap().exit.status, ExitStatus::Code { code: 3 });
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_owed_and_written_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let now = Timestamp::now();
        let mut journal = Journal::create(&path, "boot".to_owned(), None, &mut HashMap::new()).unwrap();
        journal.starting(&start(1, now), "mark", now).unwrap();
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let disk = std::mem::replace(&mut journal.file, full);
        journal.ended(&step(1), &past(now)).unwrap_err();
        // Not begun, so that nobody ever calls it lost.
        journal.starting(&start(2, now), "mark", now).unwrap_err();
        assert!(journal.is_behind() && journal.settle().is_err());

        journal.file = disk;
        // Half of a record that was being written.
        journal.file.write_all(b"{\"ended\":{\"st").unwrap();
        journal.settle().unwrap();
        assert!(!journal.is_behind());
        let found = read(&path, "boot").unwrap();
        assert_eq!(
            found,
            Found { ended: HashMap::from([(step(1), past(now))]), abandoned: Vec::new(), guard: None }
        );
    }

    #[test]
    fn a_later_version_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let text = "{\"opened\":{\"version\":2,\"boot\":\"b\"}}\n{\"woven\":7}\n";
        fs::write(&path, text).unwrap();
        let refused = read(&path, "b").unwrap_err();
        assert!(refused.to_string().contains("a newer windlass"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

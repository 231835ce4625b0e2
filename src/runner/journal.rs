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
//!   has grown enough; secrets and output are never in it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Exit, StartStep};
use crate::ids::StepId;

/// Goes up with every change that an older reader would misunderstand.
const VERSION: u32 = 1;

/// Of how many ended steps it is known how they ended, those that ended last: about 3 MB. However long ago
/// that was: whoever goes on with a run after weeks would do a step again of which nothing is known.
const KEPT_COUNT: usize = 10_000;

/// Lines after which the file is written anew.
const LINES: usize = 4 * KEPT_COUNT;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// The first line.
    Opened {
        version: u32,
        boot: String,
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
    let mut same_boot = false;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Record::Opened { version, .. }) if version > VERSION => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a newer windlass wrote it: use that one, or move the file away",
                ));
            }
            Ok(Record::Opened { boot: then, .. }) => same_boot = then == boot,
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
    Ok(Found { ended, abandoned: open.into_values().collect() })
}

/// Appends records.
pub struct Journal {
    path: PathBuf,
    boot: String,
    file: File,
    lines: usize,
    /// A record could not be written, whole or at all.
    behind: bool,
}

impl Journal {
    /// Writes the file anew with what is worth keeping of `ended`, and forgets the rest of it.
    pub fn create(path: &Path, boot: String, ended: &mut HashMap<StepId, Past>) -> io::Result<Self> {
        prune(ended);
        let mut text = line(&Record::Opened { version: VERSION, boot: boot.clone() })?;
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
        Ok(Self { path: path.to_owned(), boot, file, lines: ended.len(), behind: false })
    }

    /// Records that a step is about to be started.
    pub fn starting(&mut self, start: &StartStep, mark: &str, at: Timestamp) -> io::Result<()> {
        let (step, log) = (start.step.clone(), start.log.clone());
        self.append(&Record::Starting { step, born: Some(start.born), mark: mark.to_owned(), log, at })
    }

    /// Records which process a step's first is.
    pub fn running(&mut self, step: &StepId, pid: Pid, start_time: u64) -> io::Result<()> {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        self.append(&Record::Running { step: step.clone(), pid, start_time })
    }

    /// Records how a step ended.
    pub fn ended(&mut self, step: &StepId, past: &Past) -> io::Result<()> {
        self.append(&Record::ended(step, past))
    }

    /// Whether the file should be written anew, which is only possible while no step runs.
    pub fn is_due(&self) -> bool {
        self.behind || self.lines > LINES
    }

    /// Writes the file anew; see [`create`](Self::create). On failure the old one goes on.
    pub fn renew(&mut self, ended: &mut HashMap<StepId, Past>) -> io::Result<()> {
        *self = Self::create(&self.path, self.boot.clone(), ended)?;
        Ok(())
    }

    /// The file, to be synced by somebody who has the time.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut text = line(record)?;
        if self.behind {
            // What is there of the record that could not be written must not spoil this one.
            text.insert(0, b'\n');
        }
        let written = self.file.write_all(&text);
        self.behind = written.is_err();
        self.lines += 1;
        written
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
        Past { born: Some(at), exit: Exit { status, started_at: at, finished_at: at, log_bytes: 7 } }
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
        let mut journal = Journal::create(&path, "boot".to_owned(), &mut HashMap::new()).unwrap();
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
        let mut journal = Journal::create(&path, "boot".to_owned(), &mut HashMap::new()).unwrap();
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
        Journal::create(&path, "boot".to_owned(), &mut few.clone()).unwrap();
        assert_eq!(read(&path, "boot").unwrap().ended, few);
        let of = |n: u32| (step(n), past(old + jiff::SignedDuration::from_secs(i64::from(n))));
        let mut many: HashMap<StepId, Past> = (0..KEPT_COUNT as u32 + 3).map(of).collect();
        Journal::create(&path, "boot".to_owned(), &mut many).unwrap();
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
}

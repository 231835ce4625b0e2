//! PURE. Whether what a data directory holds is sound: what was read of it goes in, findings come out.
//!
//! - The journals are the truth: lists have to be what the journals fold to, and what the journals name
//!   has to be there. What is there and named by none is only noted.
//! - Nothing is found in a directory that Windlass alone has written, whenever its processes were
//!   killed, and whatever `windlass gc` has ended.
//! - What can be made anew from the journals is said to be mendable, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, FleetId, ImageId, RunId, StepId};
use crate::store::{FleetRow, RunRow};

mod files;
mod journals;
mod lists;
#[cfg(test)]
mod tests;

pub use files::{Files, ImageFact};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is lost or wrong.
    Error,
    /// Nothing is lost yet.
    Warning,
    /// It is as it may be; somebody may want to know.
    Note,
}

/// Where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    Database,
    Journal,
    Lists,
    Inbox,
    Logs,
    Artifacts,
    Objects,
    Images,
    Instances,
    Runner,
    Balancer,
    Backup,
}

impl Area {
    pub fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Journal => "journal",
            Self::Lists => "lists",
            Self::Inbox => "inbox",
            Self::Logs => "logs",
            Self::Artifacts => "artifacts",
            Self::Objects => "objects",
            Self::Images => "images",
            Self::Instances => "instances",
            Self::Runner => "runner",
            Self::Balancer => "balancer",
            Self::Backup => "backup",
        }
    }
}

/// Something that is not as it should be, or that somebody may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub area: Area,
    /// Which of them: a journal, a step, an image.
    pub place: String,
    pub problem: String,
    /// What to do about it.
    pub advice: String,
    /// Whether `windlass check-data --repair` makes it anew.
    pub mendable: bool,
}

impl Finding {
    fn new(severity: Severity, area: Area, place: impl ToString, problem: impl Into<String>) -> Self {
        let (place, problem, advice) = (place.to_string(), problem.into(), String::new());
        Self { severity, area, place, problem, advice, mendable: false }
    }

    pub fn error(area: Area, place: impl ToString, problem: impl Into<String>) -> Self {
        Self::new(Severity::Error, area, place, problem)
    }

    pub fn warning(area: Area, place: impl ToString, problem: impl Into<String>) -> Self {
        Self::new(Severity::Warning, area, place, problem)
    }

    pub fn note(area: Area, place: impl ToString, problem: impl Into<String>) -> Self {
        Self::new(Severity::Note, area, place, problem)
    }

    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn mendable(mut self) -> Self {
        self.mendable = true;
        self.advice("windlass check-data --repair makes it anew from the journals, while no server runs")
    }
}

/// What is said of damage that only an older copy can mend.
pub const RESTORE: &str = "restore the data directory from a backup";

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub runs: u64,
    pub fleets: u64,
    pub events: u64,
    pub deliveries: u64,
    pub logs: u64,
    pub artifacts: u64,
    pub objects: u64,
    pub images: u64,
}

/// What the journals name outside of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// At least so long, in bytes.
    pub logs: BTreeMap<StepId, u64>,
    /// And who made it.
    pub artifacts: BTreeMap<Digest, RunId>,
    /// Objects of the local store.
    pub objects: BTreeMap<String, (Digest, RunId)>,
    /// And what needs it. Only these have to be there: `windlass gc` ends others.
    pub images: BTreeMap<ImageId, String>,
    /// Images that a run made or a fleet ran.
    pub known_images: BTreeSet<ImageId>,
}

/// Judges what was read. Journals first, then lists, then files.
pub struct Judge {
    now: Timestamp,
    findings: Vec<Finding>,
    looked: Looked,
    needs: Needs,
    /// As the journals have them; `None` for a journal that cannot be followed.
    runs: BTreeMap<RunId, Option<RunRow>>,
    fleets: BTreeMap<FleetId, Option<FleetRow>>,
    /// Rows as they have to be, where one is not.
    rows: Option<Rows>,
    /// By pipeline: the number of its newest run, where the stored one is lower.
    numbers: Vec<(String, u64)>,
}

/// Every row of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub runs: Vec<RunRow>,
    pub fleets: Vec<FleetRow>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub findings: Vec<Finding>,
    pub looked: Looked,
    pub rows: Option<Rows>,
    pub numbers: Vec<(String, u64)>,
}

impl Judge {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            findings: Vec::new(),
            looked: Looked::default(),
            needs: Needs::default(),
            runs: BTreeMap::new(),
            fleets: BTreeMap::new(),
            rows: None,
            numbers: Vec::new(),
        }
    }

    /// What SQLite said of its file.
    pub fn database(&mut self, said: &[String]) {
        for line in said {
            let finding = Finding::error(Area::Database, "windlass.db", line.clone());
            self.findings.push(match is_of_an_index(line) {
                true => finding.mendable(),
                false => finding.advice(RESTORE),
            });
        }
    }

    pub fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// What has to be there; complete when all journals were judged.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    pub fn has_run(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// The worst first.
    pub fn finish(mut self) -> Verdict {
        self.findings.sort_by(|a, b| (a.severity, a.area, &a.place).cmp(&(b.severity, b.area, &b.place)));
        Verdict { findings: self.findings, looked: self.looked, rows: self.rows, numbers: self.numbers }
    }
}

/// Whether what `PRAGMA integrity_check` says is about an index, which `REINDEX` makes anew; see
/// <https://www.sqlite.org/pragma.html#pragma_integrity_check>.
fn is_of_an_index(line: &str) -> bool {
    line.contains("missing from index")
        || line.starts_with("wrong # of entries in index")
        || line.starts_with("non-unique entry in index")
}

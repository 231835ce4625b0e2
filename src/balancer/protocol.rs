//! What is said on the admin socket: both sides say [`Hello`], then the client asks and the balancer
//! answers, one JSON value a line.
//!
//! [`Hello`] and [`Request::TakeOver`] never change their form: an older process must understand the
//! newer one that replaces it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::{Error, Listener, Target};
use crate::ids::{FleetId, InstanceId};

/// The version of everything here but the hello and the take-over.
pub const PROTOCOL: u32 = 1;

/// Tells one built program from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The package's version.
    pub version: String,
    /// Of the program file, in bytes.
    pub size: u64,
    /// When the program file was last changed, in nanoseconds since 1970.
    pub modified: i64,
}

impl Build {
    /// The build of a program file; `None` when the file is not there any more.
    pub fn of(program: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata(program).ok()?;
        let modified = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
        Some(Self { version: env!("CARGO_PKG_VERSION").to_owned(), size: file.size(), modified })
    }

    /// The build of this process, also after its file was replaced.
    pub fn own() -> Self {
        Self::of(Path::new("/proc/self/exe")).unwrap_or_else(|| Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            size: 0,
            modified: 0,
        })
    }

    /// Whether this program should take the place of `running`. An older one never does: two
    /// programs that are used in turn would replace each other for ever.
    pub fn replaces(&self, running: &Self) -> bool {
        self != running && self.modified > running.modified
    }
}

/// The first line of both sides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub build: Build,
    /// The process that says it.
    pub pid: u32,
}

impl Hello {
    pub fn own() -> Self {
        Self { protocol: PROTOCOL, build: Build::own(), pid: std::process::id() }
    }
}

/// What a client asks. Everything may be asked twice with the same effect as once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    PutListener {
        listener: Listener,
    },
    RemoveListener {
        fleet: FleetId,
    },
    Register {
        fleet: FleetId,
        targets: Vec<(InstanceId, SocketAddr)>,
    },
    /// An older process does not know this and the next one: it refuses them.
    StandBy {
        fleet: FleetId,
        targets: Vec<(InstanceId, SocketAddr)>,
    },
    Switch {
        fleet: FleetId,
        to: Vec<InstanceId>,
    },
    Deregister {
        fleet: FleetId,
        targets: Vec<InstanceId>,
    },
    Forget {
        fleet: FleetId,
        targets: Vec<InstanceId>,
    },
    Targets {
        fleet: FleetId,
    },
    /// Answered when the fleet's revision is another than `seen` (without one: another than now), or
    /// after `patience`.
    Watch {
        fleet: FleetId,
        seen: Option<u64>,
        patience: Duration,
    },
    /// Ends the process, and those that still finish what they had open when it took over.
    Stop,
    /// See [`super::handover`].
    TakeOver,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Done,
    Targets { targets: Vec<Target>, revision: u64 },
    Refused { fault: Fault, message: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    NotFound,
    Conflict,
    Failed,
}

impl Answer {
    pub fn refused(fault: Fault, message: impl Into<String>) -> Self {
        Self::Refused { fault, message: message.into() }
    }
}

impl Fault {
    /// The error of the cloud contract that it is.
    pub fn error(self, message: String) -> Error {
        match self {
            Self::NotFound => Error::NotFound(message),
            Self::Conflict => Error::Conflict(message),
            Self::Failed => Error::Failed(message),
        }
    }
}

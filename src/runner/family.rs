//! Everything that steps started, and how it is ended.
//!
//! The runner is the child subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`): a process whose parent
//! ends becomes the runner's child, so nothing that a step starts ever leaves the runner's tree,
//! whether it forks twice, makes a session of its own or ignores signals. Always true:
//!
//! - a step's first process, its *leader*, is left a zombie until the rest of the step has ended.
//!   Its number, which is also its process group's, thus cannot be used again meanwhile, and
//!   signalling the group never hits another;
//! - an adopted process belongs to the step whose group or session it is in, or whose mark is in its
//!   environment. What shows neither is ended when no step runs.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::process::{self, Process};

/// The variable in a step's environment that holds its mark.
pub const MARK: &str = "WINDLASS_STEP";

/// A process that SIGKILL does not end within this time hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(5);

/// A look again after this time covers what no signal tells: a child of an adopted process.
const AGAIN: Duration = Duration::from_millis(20);

/// The processes of one step.
#[derive(Debug, Clone)]
pub struct Member {
    pub leader: Pid,
    pub mark: String,
}

/// The runner's tree of processes.
pub struct Family {
    me: Pid,
    /// Lists the children of the thread that starts and adopts processes.
    children: File,
    leaders: Mutex<HashSet<Pid>>,
    died: Notify,
}

impl Family {
    /// Makes this process the one that adopts. Must be called on the main thread, which adopts, and
    /// steps must be started on it.
    pub fn new() -> io::Result<Self> {
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me))?;
        let children = File::open(format!("/proc/{me}/task/{me}/children"))?;
        Ok(Self { me, children, leaders: Mutex::default(), died: Notify::new() })
    }

    /// A step's first process was started.
    pub fn add(&self, leader: Pid) {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner).insert(leader);
    }

    /// A step's first process was reaped.
    pub fn remove(&self, leader: Pid) {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner).remove(&leader);
    }

    /// Some child died (SIGCHLD): reaps those that were adopted.
    pub fn reap(&self) {
        self.adopted();
        self.died.notify_waiters();
    }

    /// Children that are no leaders and live.
    fn adopted(&self) -> Vec<Pid> {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = self.children.read_at(&mut buffer, text.len() as u64)
            && let Some(part) = buffer.get(..count).filter(|part| !part.is_empty())
        {
            text.extend_from_slice(part);
        }
        let leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        text.split(|byte| *byte == b' ')
            .filter_map(|number| process::pid_from(std::str::from_utf8(number).ok()?))
            .filter(|pid| !leaders.contains(pid))
            .filter(|pid| {
                let reaped =
                    rustix::process::waitid(WaitId::Pid(*pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
                matches!(reaped, Ok(None))
            })
            .collect()
    }

    /// Those adopted processes that belong to `member`.
    fn orphans(&self, member: &Member) -> Vec<Pid> {
        let mut adopted = self.adopted();
        adopted.retain(|pid| {
            Process::read(*pid).is_some_and(|process| {
                process.group == Some(member.leader)
                    || process.session == Some(member.leader)
                    || process.has(MARK, &member.mark)
            })
        });
        adopted
    }

    /// Sends `signal` to all of the step that lives. Its leader must not have been reaped.
    pub fn signal(&self, member: &Member, signal: Signal) {
        // Fails only when there is nobody left to tell.
        let _ = rustix::process::kill_process_group(member.leader, signal);
        let mut roots = self.orphans(member);
        roots.push(member.leader);
        for process in process::descendants(&process::all(), &roots) {
            if process.group != Some(member.leader) && !process.zombie {
                let _ = process.signal(signal);
            }
        }
    }

    /// Ends what is left of a step whose leader has exited and was not reaped.
    ///
    /// # Errors
    /// The processes that SIGKILL did not end in time.
    pub async fn end(&self, member: &Member) -> Result<(), Vec<Pid>> {
        let _ = rustix::process::kill_process_group(member.leader, Signal::KILL);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let died = self.died.notified();
            let left = self.orphans(member);
            match left.is_empty() {
                true => return Ok(()),
                false if Instant::now() > deadline => return Err(left),
                false => self.signal(member, Signal::KILL),
            }
            let _ = tokio::time::timeout(AGAIN, died).await;
        }
    }

    /// Ends everything that is left, unless a step runs, to which it might belong.
    pub async fn end_strays(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_leaders() {
            let died = self.died.notified();
            let strays = self.adopted();
            if strays.is_empty() || Instant::now() > deadline {
                return;
            }
            tracing::info!(?strays, me = %self.me, "ending what steps left behind");
            for process in process::descendants(&process::all(), &strays) {
                let _ = process.signal(Signal::KILL);
            }
            let _ = tokio::time::timeout(AGAIN, died).await;
        }
    }

    fn has_leaders(&self) -> bool {
        !self.leaders.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Ends what a runner that died has left of a step: a leader known by number and start time, with
/// its group, and whatever carries the mark, wherever it is.
///
/// # Errors
/// The processes that SIGKILL did not end in time.
pub async fn end_abandoned(leader: Option<(Pid, u64)>, mark: &str) -> Result<(), Vec<Pid>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = process::all();
        let marked: Vec<&Process> = all.iter().filter(|p| !p.zombie && p.has(MARK, mark)).collect();
        // The group is the step's if its leader is the one recorded, or if it has someone marked.
        let group = leader.map(|(pid, _)| pid).filter(|pid| {
            marked.iter().any(|process| process.group == Some(*pid))
                || all.iter().any(|process| Some((process.pid, process.start_time)) == leader)
        });
        let in_group = |process: &Process| group.is_some() && process.group == group;
        let roots: Vec<Pid> = all
            .iter()
            .filter(|p| !p.zombie && (in_group(p) || marked.contains(p)))
            .map(|process| process.pid)
            .collect();
        let left: Vec<Process> =
            process::descendants(&all, &roots).into_iter().filter(|p| !p.zombie).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(left.iter().map(|process| process.pid).collect());
        }
        for process in &left {
            let _ = process.signal(Signal::KILL);
        }
        // They are no children of ours: nothing tells when they are gone.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

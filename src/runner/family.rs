//! Everything that steps started, and how it is ended.
//!
//! The runner is the child subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`): a process whose parent
//! ends becomes the runner's child, so nothing that a step starts ever leaves the runner's tree,
//! whether it forks twice, makes a session of its own or ignores signals. Always true:
//!
//! - a step's first process, its *leader*, is left a zombie until the rest of the step has ended.
//!   Its number, which is also its process group's, thus cannot be used again meanwhile, and
//!   signalling the group never hits another;
//! - an adopted process belongs to the step whose group or session it is in, or whose mark is on it
//!   (see [`super::mark`]). What shows neither is ended when no step runs.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::mark::Mark;
use super::process::{self, Process};

/// What a dead runner left and SIGKILL does not end within this time hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(2);

/// A look again after this time covers what no signal tells: a child of an adopted process.
const AGAIN: Duration = Duration::from_millis(20);

/// The processes of one step.
#[derive(Debug, Clone)]
pub struct Member {
    pub leader: Pid,
    pub mark: Mark,
}

/// The runner's tree of processes.
pub struct Family {
    me: Pid,
    /// Lists the children of the thread that starts and adopts processes.
    children: File,
    leaders: Mutex<HashSet<Pid>>,
    /// Strays that SIGKILL did not end: nobody waits for them again.
    stuck: Mutex<HashSet<Pid>>,
    died: Notify,
}

impl Family {
    /// Makes this process the one that adopts. Must be called on the main thread, which adopts, and
    /// steps must be started on it.
    pub fn new() -> io::Result<Self> {
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me))?;
        let children = File::open(format!("/proc/{me}/task/{me}/children"))?;
        Ok(Self { me, children, leaders: Mutex::default(), stuck: Mutex::default(), died: Notify::new() })
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

    /// Those adopted processes that belong to `member`; each is handed to `found` as soon as it is known
    /// to be one, before it can fork and be gone.
    fn orphans(&self, member: &Member, found: impl Fn(Pid)) -> Vec<Pid> {
        let mut adopted = self.adopted();
        adopted.retain(|pid| {
            let ours = Process::read(*pid).is_some_and(|process| {
                process.group == Some(member.leader)
                    || process.session == Some(member.leader)
                    || member.mark.is_on(&process)
            });
            if ours {
                found(*pid);
            }
            ours
        });
        adopted
    }

    /// Sends `signal` to all of the step that lives, and answers who of it was adopted. Its leader must
    /// not have been reaped.
    pub fn signal(&self, member: &Member, signal: Signal) -> Vec<Pid> {
        // Fails only when there is nobody left to tell.
        let _ = rustix::process::kill_process_group(member.leader, signal);
        let orphans = self.orphans(member, |pid| {
            // A child of ours: its number is its own until we reap it. The group was told already.
            if rustix::process::getpgid(Some(pid)) != Ok(member.leader) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        });
        // Of one that has exited nobody is a child any more: all that are left were adopted. Looking for
        // others, through all processes of the machine, would cost more than the step.
        if orphans.is_empty() && has_exited(member.leader) {
            return orphans;
        }
        let roots = [&orphans[..], &[member.leader]].concat();
        for process in process::descendants(&process::all(), &roots) {
            let told = process.group == Some(member.leader) || orphans.contains(&process.pid);
            if !told && !process.zombie {
                let _ = process.signal(signal);
            }
        }
        orphans
    }

    /// Ends what is left of a step whose leader has exited, or does not, and was not reaped.
    ///
    /// # Errors
    /// The processes that SIGKILL did not end until `by`.
    pub async fn end(&self, member: &Member, by: Instant) -> Result<(), Vec<Pid>> {
        let mut before = Vec::new();
        loop {
            let died = self.died.notified();
            let left = self.signal(member, Signal::KILL);
            match left.is_empty() {
                true => return Ok(()),
                false if Instant::now() > by => return Err(left),
                // What forks as fast as it can is only met by whoever looks as fast as he can.
                false if left.iter().any(|pid| !before.contains(pid)) => tokio::task::yield_now().await,
                false => drop(tokio::time::timeout(AGAIN, died).await),
            }
            before = left;
        }
    }

    /// Ends everything that is left, unless a step runs, to which it might belong. What SIGKILL does not
    /// end until `by` is said, once.
    pub async fn end_strays(&self, by: Instant) {
        let mut before = Vec::new();
        while !self.has_leaders() {
            let died = self.died.notified();
            let strays = self.strays();
            if strays.is_empty() {
                return;
            }
            // Children of ours: their numbers are their own until we reap them.
            for pid in &strays {
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
            }
            for process in process::descendants(&process::all(), &strays) {
                let _ = process.signal(Signal::KILL);
            }
            if Instant::now() > by {
                tracing::warn!(?strays, "what steps left behind does not end, not even by SIGKILL");
                self.stuck.lock().unwrap_or_else(PoisonError::into_inner).extend(strays);
                return;
            }
            match strays.iter().any(|pid| !before.contains(pid)) {
                // What forks as fast as it can is only met by whoever looks as fast as he can.
                true => {
                    tracing::info!(?strays, me = %self.me, "ending what steps left behind");
                    tokio::task::yield_now().await;
                }
                false => drop(tokio::time::timeout(AGAIN, died).await),
            }
            before = strays;
        }
    }

    /// Adopted processes, but for those of which it is known that they do not end.
    fn strays(&self) -> Vec<Pid> {
        let mut strays = self.adopted();
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|pid| strays.contains(pid));
        strays.retain(|pid| !stuck.contains(pid));
        strays
    }

    fn has_leaders(&self) -> bool {
        !self.leaders.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Whether a child has exited, and was not reaped.
fn has_exited(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(rustix::process::waitid(WaitId::Pid(child), options), Ok(Some(_)))
}

/// Ends what a runner that died has left of a step: a leader known by number and start time, with
/// its group, and whatever carries the mark, wherever it is.
///
/// # Errors
/// The processes that SIGKILL did not end in time.
pub async fn end_abandoned(leader: Option<(Pid, u64)>, mark: &Mark) -> Result<(), Vec<Pid>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = process::all();
        let marked: Vec<&Process> = all.iter().filter(|p| !p.zombie && mark.is_on(p)).collect();
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

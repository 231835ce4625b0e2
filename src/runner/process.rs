//! What the kernel knows of processes.
//!
//! A number alone never says which process is meant, as numbers are used again: a [`Process`] is
//! known by its number and its start time, and is signalled through a pidfd after a look at both.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _};

use rustix::process::{Pid, PidfdFlags, Signal};

/// A process as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
    pub parent: Option<Pid>,
    pub group: Option<Pid>,
    pub session: Option<Pid>,
    pub zombie: bool,
}

impl Process {
    /// The process that has this number now.
    pub fn read(pid: Pid) -> Option<Self> {
        // See proc_pid_stat(5): the name, in parentheses, may itself have spaces and parentheses.
        // It has some 300 bytes, and one read gives them all.
        let mut stat = [0; 1024];
        let count = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
        let rest = stat.get(..count)?.rsplitn(2, |byte| *byte == b')').next()?;
        let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = || fields.next().and_then(pid_from);
        let (parent, group, session) = (number(), number(), number());
        // Field 22 of all; the session is field 6.
        let start_time = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, start_time, parent, group, session, zombie: matches!(state, "Z" | "X") })
    }

    /// Sends `signal`, unless the process is gone and its number belongs to another.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pidfd = rustix::process::pidfd_open(self.pid, PidfdFlags::empty())?;
        match Self::read(self.pid) {
            Some(now) if now.start_time == self.start_time => {
                Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
            }
            _ => Err(rustix::io::Errno::SRCH.into()),
        }
    }

    /// Whether it was started with `variable=value` in its environment. False also for what this
    /// user may not look at.
    pub fn has(&self, variable: &str, value: &str) -> bool {
        let wanted = format!("{variable}={value}");
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    }

    /// Its soft limit of `RLIMIT_RTTIME`, in microseconds; `None` where it has none.
    pub fn realtime_limit(&self) -> Option<u64> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid)).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }
}

/// The process number in `text`. The kernel also shows 0, for what is out of sight, and -1, for the
/// group of a process that is just ending: those are none.
pub fn pid_from(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}

/// All processes, zombies among them.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| pid_from(entry.ok()?.file_name().to_str()?))
        .filter_map(Process::read)
        .collect()
}

/// Of `all`, those that descend from one of `roots`, and those themselves.
pub fn descendants(all: &[Process], roots: &[Pid]) -> Vec<Process> {
    let mut found: Vec<Process> =
        all.iter().filter(|process| roots.contains(&process.pid)).copied().collect();
    let mut seen: HashSet<Pid> = roots.iter().copied().collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|process| process.pid) {
        // Read at different moments, the parents may even form a circle.
        found.extend(all.iter().filter(|p| p.parent == Some(parent) && seen.insert(p.pid)));
        at += 1;
    }
    found
}

/// Tells this boot of the machine from every other; start times mean nothing across them.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_a_process_is_none() {
        assert_eq!(pid_from("1"), Some(Pid::INIT));
        for none in ["0", "-1", "self", "", "99999999999"] {
            assert_eq!(pid_from(none), None);
        }
    }

    #[test]
    fn a_process_is_read_and_signalled_only_while_it_is_the_same() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "echo up; read line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .env("MARK", "one")
            .spawn()
            .unwrap();
        // Before it has said something its environment may not be in place.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        let pid = Pid::from_child(&child);
        let process = Process::read(pid).unwrap();
        assert_eq!(process.parent, Some(rustix::process::getpid()));
        assert!(process.has("MARK", "one") && !process.has("MARK", "on"));
        assert!(descendants(&all(), &[rustix::process::getpid()]).contains(&process));

        let other = Process { start_time: process.start_time + 1, ..process };
        assert!(other.signal(Signal::KILL).is_err());
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(process.signal(Signal::KILL).is_err());
    }
}

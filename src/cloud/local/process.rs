//! The processes of an instance: how they are started, told apart, and ended.
//!
//! A process is named by its number, its start time and the boot it belongs to: a number alone is
//! used again. What belongs to an instance is the group of its first process, and whatever still
//! carries the instance's home in its environment, so that a daemon that left the group is found too.
//! A daemon that leaves the group and clears its environment is not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::cloud::Error;

/// How long a service has between SIGTERM and SIGKILL. It has been drained by then: this is for
/// closing what is open, and as long as the runner gives a step.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long SIGKILL may take. The kernel needs milliseconds; only a process inside a broken device
/// or network file system outlives it.
const FORCE: Duration = Duration::from_secs(10);

/// Processes waited for at a time; each takes a descriptor. The rest is looked at afterwards.
const WAITED: usize = 64;

/// `PF_KTHREAD` of Linux's `sched.h`: it has no environment at all.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A process shows no environment for an instant while it becomes another program. Looked at so
/// often, a millisecond apart, until that is over; one that was really started with nothing costs
/// this much.
const EXEC_TRIES: usize = 20;

/// Reads its own entry in /proc into the file `$1`, and then becomes the command `$2`. Standard
/// input is the locked file that says "being started"; it is given back when the entry is written:
/// whoever gets the lock afterwards knows which process there is, and finding no whole entry knows
/// that the command never ran. Only what every POSIX shell has built in.
const WRAPPER: &str = r#"
exec 9<&0 </dev/null || exit 126
read -r boot </proc/sys/kernel/random/boot_id || exit 126
read -r stat <"/proc/$$/stat" || exit 126
printf '%s\n%s\n' "$boot" "$stat" >"$1" || exit 126
exec 9<&-
exec /bin/sh -c "$2"
"#;

/// A process that no other one is taken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    boot: String,
    pid: i32,
    /// In ticks since the boot.
    start: u64,
}

/// What /proc/PID/stat says, see proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pid: i32,
    state: char,
    parent: i32,
    group: i32,
    flags: u32,
    start: u64,
    /// As wait(2) has it, once it has ended.
    exit: i32,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name, which may hold anything, also brackets.
        let (pid, rest) = text.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The rest starts with the third field.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            exit: field(52)?.parse().ok()?,
        })
    }

    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// It has ended and only its parent has not looked yet.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Whether it was started with this variable.
    fn carries(&self, variable: &[u8]) -> bool {
        if self.flags & KERNEL_THREAD != 0 {
            return false;
        }
        for _ in 0..EXEC_TRIES {
            match fs::read(format!("/proc/{}/environ", self.pid)) {
                Ok(all) if all.is_empty() => std::thread::sleep(Duration::from_millis(1)),
                Ok(all) => return all.split(|byte| *byte == 0).any(|entry| entry == variable),
                // Gone, or another user's, which no instance is.
                Err(_) => return false,
            }
        }
        false
    }
}

impl Identity {
    /// What the wrapper wrote; `None` when it did not get to the end of it.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (boot, stat) = text.strip_suffix('\n')?.split_once('\n')?;
        let stat = Stat::parse(stat)?;
        Some(Self { boot: boot.to_owned(), pid: stat.pid, start: stat.start })
    }

    /// The entry in /proc, if it is still this process.
    fn stat(&self) -> Option<Stat> {
        let stat = Stat::of(self.pid).filter(|stat| stat.start == self.start)?;
        (boot()? == self.boot).then_some(stat)
    }

    /// How it is; `directory` is where [`start`] was told to leave how it ends.
    pub(super) fn life(&self, directory: &Path) -> Life {
        match self.stat() {
            Some(stat) if !stat.is_over() => Life::Running,
            Some(stat) => Life::Over { how: Some(told(stat.exit)) },
            None => {
                let told = fs::read_to_string(self.exit_file(directory)).ok();
                Life::Over { how: told.filter(|how| !how.is_empty()) }
            }
        }
    }

    /// What tells of its end; `None` when it has ended.
    pub(super) fn descriptor(&self) -> io::Result<Option<OwnedFd>> {
        match self.stat() {
            Some(stat) if !stat.is_over() => Ok(handle(&stat)?),
            _ => Ok(None),
        }
    }

    fn exit_file(&self, directory: &Path) -> PathBuf {
        directory.join(format!("exit-{}-{}", self.pid, self.start))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// How it ended, unless only a process knew that is gone itself.
    Over {
        how: Option<String>,
    },
}

fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

/// A wait status in words; see wait(2) for its bits.
fn told(status: i32) -> String {
    match (status & 0x7f, (status >> 8) & 0xff) {
        (0, code) => format!("it ended with exit code {code}"),
        (signal, _) => format!("it was killed by signal {signal}"),
    }
}

/// What is started.
pub(super) struct Start<'a> {
    pub command: &'a str,
    /// The instance's own directory.
    pub directory: &'a Path,
    pub app: &'a Path,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    pub output: fs::File,
    /// Locked, and held by the new process until it is registered.
    pub lock: fs::File,
}

/// Starts the command in a process group of its own. It is registered when the lock is free again.
pub(super) fn start(start: Start<'_>) -> io::Result<()> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WRAPPER, "windlass-instance"])
        .arg(registration(start.directory))
        .arg(start.command)
        .current_dir(start.app)
        .env_clear()
        .envs(start.env)
        .stdin(Stdio::from(start.lock))
        .stdout(Stdio::from(start.output.try_clone()?))
        .stderr(Stdio::from(start.output))
        .process_group(0);
    let child = command.spawn()?;
    watch(child.id().cast_signed(), start.directory);
    Ok(())
}

/// Waits for the end of an instance that an earlier program of this same process started, as when
/// the process became another program.
pub(super) fn adopt(directory: &Path) {
    let Some(identity) = Identity::read(&registration(directory)) else { return };
    if identity.stat().is_some_and(|stat| stat.parent == std::process::id().cast_signed()) {
        watch(identity.pid, directory);
    }
}

/// Waits for the end of our child in the background.
fn watch(pid: i32, directory: &Path) {
    let directory = directory.to_owned();
    // A thread and not a task: it must go on when the runtime that launched is gone, and a service
    // that ends while nobody waits would stay as a zombie.
    let reaper = std::thread::Builder::new().name("instance".to_owned()).stack_size(128 * 1024);
    if let Err(error) = reaper.spawn(move || reap(pid, &directory)) {
        tracing::warn!(pid, %error, "nobody will wait for the end of this instance");
    }
}

/// Where the wrapper writes who it is.
pub(super) fn registration(directory: &Path) -> PathBuf {
    directory.join("process")
}

/// Waits for the end of our child, and writes down how it ended before the kernel forgets it.
fn reap(pid: i32, directory: &Path) {
    let Some(number) = Pid::from_raw(pid) else { return };
    let wait = |options| {
        loop {
            match rustix::process::waitid(WaitId::Pid(number), options) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    };
    if wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_ok()
        && let (Some(stat), Some(boot)) = (Stat::of(pid), boot())
    {
        let identity = Identity { boot, pid, start: stat.start };
        // When the instance was terminated meanwhile there is no directory, and nobody to tell. Whole or
        // not there: half of it, on a full disk, would be another end.
        let file = identity.exit_file(directory);
        let new = file.with_extension("new");
        if fs::write(&new, told(stat.exit)).and_then(|()| fs::rename(&new, &file)).is_err() {
            let _ = fs::remove_file(&new);
        }
    }
    let _ = wait(WaitIdOptions::EXITED);
}

/// What has to end for an instance to be gone.
#[derive(Debug, Clone)]
pub(super) struct Belongings {
    /// `None` for an instance that was never started.
    pub first: Option<Identity>,
    /// Every process of the instance was started with this `HOME`.
    pub home: PathBuf,
}

impl Belongings {
    /// Everything that is still there and has not ended.
    pub(super) fn find(&self) -> Vec<Stat> {
        let marker = [b"HOME=", self.home.as_os_str().as_encoded_bytes()].concat();
        let first = self.first.as_ref().and_then(Identity::stat);
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = std::process::id().cast_signed();
        // What was there before its first process descends from another one: most of a machine. To read
        // an environment takes longer than all else here.
        let booted = boot();
        let began = self.first.as_ref().filter(|first| Some(&first.boot) == booted.as_ref());
        let began = began.map_or(0, |first| first.start);
        numbers
            .filter(|pid| *pid != own)
            .filter_map(Stat::of)
            .filter(|stat| !stat.is_over())
            .filter(|stat| {
                // While its first process is there, in whatever state, the group is the instance's.
                first.is_some_and(|first| stat.group == first.pid)
                    || stat.start >= began && stat.carries(&marker)
            })
            .collect()
    }

    /// Sends a signal to all of them; the group's by one call, which also reaches a child that is
    /// being forked.
    fn signal(&self, members: &[Stat], signal: Signal) {
        let group = self.first.as_ref().map(|first| first.pid);
        if members.iter().any(|member| Some(member.group) == group)
            && let Some(group) = group.and_then(Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        for member in members.iter().filter(|member| Some(member.group) != group) {
            if let Ok(Some(handle)) = handle(member) {
                let _ = rustix::process::pidfd_send_signal(handle, signal);
            }
        }
    }
}

/// A descriptor of exactly this process; `None` when it is gone.
fn handle(member: &Stat) -> Result<Option<OwnedFd>, Errno> {
    let Some(number) = Pid::from_raw(member.pid) else { return Ok(None) };
    match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        Err(Errno::SRCH) => Ok(None),
        other => {
            let same = Stat::of(member.pid).is_some_and(|stat| stat.start == member.start);
            other.map(|handle| same.then_some(handle))
        }
    }
}

/// Ends all of it: SIGTERM, and after the grace SIGKILL. Answers when nothing is left.
///
/// # Errors
/// [`Error::Failed`] when something survives SIGKILL.
pub(super) fn end(of: &Belongings, grace: Duration) -> Result<(), Error> {
    let mut told: BTreeSet<(i32, u64)> = BTreeSet::new();
    let grace = Instant::now() + grace;
    while Instant::now() < grace {
        let members = of.find();
        if members.is_empty() {
            return Ok(());
        }
        let news: Vec<Stat> =
            members.iter().filter(|member| told.insert((member.pid, member.start))).copied().collect();
        of.signal(&news, Signal::TERM);
        wait(&members, grace)?;
    }
    let force = Instant::now() + FORCE;
    loop {
        let members = of.find();
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() >= force {
            let numbers: Vec<String> = members.iter().map(|member| member.pid.to_string()).collect();
            return Err(Error::Failed(format!(
                "the processes {} do not end: they hang in the kernel, likely on a device or a network \
                 file system; see `ps -o pid,wchan`",
                numbers.join(", ")
            )));
        }
        of.signal(&members, Signal::KILL);
        wait(&members, force)?;
    }
}

/// Returns when these have ended, or at the deadline.
fn wait(members: &[Stat], deadline: Instant) -> Result<(), Error> {
    let failed = |error| Error::Failed(format!("cannot wait for processes: {error}"));
    let handles = members.iter().take(WAITED).filter_map(|member| handle(member).transpose());
    let mut left: Vec<OwnedFd> = handles.collect::<Result<_, _>>().map_err(failed)?;
    while !left.is_empty() {
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Ok(());
        }
        let patience = Timespec::try_from(patience).map_err(|error| Error::Failed(error.to_string()))?;
        // A process descriptor becomes readable at the end of its process.
        let mut polled: Vec<PollFd<'_>> = left.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut polled, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        let ended: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        left.retain(|_| !ended.next().unwrap_or(false));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

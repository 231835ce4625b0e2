//! One step: how its process is started, and how it is watched until nothing of it is left.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use super::family::{Family, Member};
use super::mark::{self, Mark};
use super::output::Output;
use super::process::Process;
use super::{ExitStatus, StartStep};
use crate::pipeline::model::Shell;

/// How long children that a step left in the background may go on writing once its first process
/// has exited. Then they are ended.
const DRAIN: Duration = Duration::from_secs(2);

/// SIGKILL is repeated as often, for what was forked meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// From the first SIGKILL on, so long at most until it is said how the step ended: then whatever SIGKILL
/// does not end hangs in the kernel, and a log that is not written yet has a disk that hangs. It leaves
/// some of the time that a cancel may take over its grace to whoever asked for it.
const LAST: Duration = Duration::from_millis(1200);

/// The same for a step that ended by itself. With [`DRAIN`] less than a grace: who cancels it meanwhile
/// does not wait longer either.
const PATIENCE: Duration = Duration::from_secs(7);

/// A text longer than this is handed to the shell in a file: an argument has at most 128 KiB
/// (`MAX_ARG_STRLEN`, see execve(2)).
const ARGUMENT: usize = 100 * 1024;

/// Somebody wants the step ended.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub why: Why,
    /// Until then it has time to end by itself.
    pub until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Cancelled,
    /// The runner itself was told to end.
    Shutdown,
}

/// A step that was started.
pub struct Running {
    child: Child,
    exited: AsyncFd<OwnedFd>,
    output: Output,
    member: Member,
    /// The file with its text, if it needed one.
    script: Option<PathBuf>,
}

impl Running {
    /// Starts the process. Long texts are put below `scratch`.
    ///
    /// # Errors
    /// What to tell the author; nothing was started then.
    pub fn start(
        start: StartStep,
        mark: Mark,
        output: (Output, OwnedFd),
        scratch: &Path,
    ) -> Result<Self, String> {
        let (output, pipe) = output;
        let script = match start.run.len() > ARGUMENT {
            true => Some(write_script(&start.run, &scratch.join(mark.as_str())).map_err(|error| {
                format!("its text could not be written to a file for the shell: {error}")
            })?),
            false => None,
        };
        let spawned = mark.put(|| spawn(&start, &mark, pipe, script.as_deref()));
        let running = spawned.and_then(|child| {
            let no_pidfd = |error: io::Error| format!("it cannot be watched: {error}");
            let leader = Pid::from_child(&child);
            let exited = rustix::process::pidfd_open(leader, PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(crate::wake::readable)
                .map_err(|error| {
                    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
                    no_pidfd(error)
                })?;
            Ok((child, exited, Member { leader, mark }))
        });
        match running {
            Ok((child, exited, member)) => Ok(Self { child, exited, output, member, script }),
            Err(message) => {
                remove(script.as_deref());
                Err(message)
            }
        }
    }

    pub fn leader(&self) -> Pid {
        self.member.leader
    }

    /// When its process started, in clock ticks since the machine did.
    pub fn start_time(&self) -> u64 {
        Process::read(self.member.leader).map_or(0, |process| process.start_time)
    }

    /// Watches it until it has ended, by itself or by order. Answers how, and the log's length. Nothing of
    /// it is left then, or it is said what does not end.
    pub async fn watch(
        mut self,
        family: &Family,
        mut orders: watch::Receiver<Option<Order>>,
    ) -> (ExitStatus, u64) {
        let Leader { mut why, has_exited, mut drain, mut by } = self.until_exit(family, &mut orders).await;
        // The leader is a zombie now. What it left in the background may still write for a while.
        while has_exited && !self.output.is_closed() {
            tokio::select! {
                // When writing fails the pipe breaks, which may have ended the leader (SIGPIPE).
                written = self.output.closed() => if let Err(error) = written {
                    why.get_or_insert(Ended::Lost(error.to_string()));
                },
                order = ordered(&mut orders) => {
                    drain = drain.min(order.until);
                    by.get_or_insert(drain + LAST);
                }
                () = tokio::time::sleep_until(drain) => break,
            }
        }
        let bound = if why.is_some() || by.is_some() { LAST } else { PATIENCE };
        let by = by.unwrap_or_else(|| Instant::now() + bound);
        let left = family.end(&self.member, by).await;
        let flushed = self.flush(by).await;
        let exit = match has_exited {
            true => self.child.wait().map(Some),
            false => self.child.try_wait(),
        };
        // One that hangs is reaped with those that were adopted, whenever it ends.
        family.remove(self.member.leader);
        family.end_strays(by).await;
        remove(self.script.as_deref());

        let left = match &exit {
            Ok(None) => Err(vec![self.member.leader]),
            _ => left,
        };
        let status = match (why, left.map_err(|pids| stuck(&pids)).and(flushed), exit) {
            (Some(Ended::Lost(message)), ..) | (_, Err(message), _) => ExitStatus::Lost { message },
            (Some(Ended::Order(Why::Cancelled)), ..) => ExitStatus::Cancelled,
            (Some(Ended::Order(Why::Shutdown)), ..) => {
                ExitStatus::Lost { message: "the runner was told to end (SIGTERM), and ended it".to_owned() }
            }
            (None, Ok(()), Ok(Some(exit))) => match (exit.code(), exit.signal()) {
                (Some(code), _) => ExitStatus::Code { code },
                (None, signal) => ExitStatus::Signal { signal: signal.unwrap_or_default() },
            },
            (None, Ok(()), Ok(None)) => ExitStatus::Lost { message: "it does not end".to_owned() },
            (None, Ok(()), Err(error)) => {
                ExitStatus::Lost { message: format!("nobody knows how it ended: {error}") }
            }
        };
        (status, self.output.length())
    }

    /// Waits until the first process has exited; makes it, if so ordered or if its output cannot be
    /// written.
    async fn until_exit(&mut self, family: &Family, orders: &mut watch::Receiver<Option<Order>>) -> Leader {
        let mut why = None;
        let mut kill_at: Option<Instant> = None;
        let mut by: Option<Instant> = None;
        let has_exited = loop {
            tokio::select! {
                biased;
                // Fails only when there is no kernel to ask.
                _ = self.exited.readable() => break true,
                written = self.output.closed(), if !self.output.is_closed() => if let Err(error) = written {
                    why = Some(Ended::Lost(error.to_string()));
                    kill_at = Some(Instant::now());
                },
                order = ordered(orders) => {
                    if kill_at.is_none() {
                        // What is stopped cannot end.
                        family.signal(&self.member, Signal::TERM);
                        family.signal(&self.member, Signal::CONT);
                    }
                    why.get_or_insert(Ended::Order(order.why));
                    kill_at = Some(kill_at.map_or(order.until, |at| at.min(order.until)));
                }
                () = tokio::time::sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    family.signal(&self.member, Signal::KILL);
                    let now = Instant::now();
                    if now > *by.get_or_insert(now + LAST) {
                        break false;
                    }
                    kill_at = Some(now + KILL_AGAIN);
                }
            }
        };
        let drain = Instant::now() + DRAIN;
        Leader { why, has_exited, drain: kill_at.map_or(drain, |at| at.min(drain)), by }
    }

    /// Nobody of the step is left: takes what is still in the pipe.
    async fn flush(&mut self, by: Instant) -> Result<(), String> {
        if self.output.is_closed() {
            return Ok(());
        }
        // Whoever still holds the pipe was handed it by the step and is none of its processes.
        self.output.stop();
        match tokio::time::timeout_at(by, self.output.closed()).await {
            Ok(flushed) => flushed.map_err(|error| error.to_string()),
            Err(_) => {
                Err("it has ended, and its log lacks what it said last: the disk does not answer".to_owned())
            }
        }
    }
}

/// What became of a step's first process.
struct Leader {
    why: Option<Ended>,
    /// SIGKILL ends it, unless it hangs in the kernel.
    has_exited: bool,
    /// Until then the rest may go on writing.
    drain: Instant,
    /// Until then all has to be over, if SIGKILL was sent.
    by: Option<Instant>,
}

enum Ended {
    Order(Why),
    Lost(String),
}

/// The next order; never, when nobody can give one any more.
async fn ordered(orders: &mut watch::Receiver<Option<Order>>) -> Order {
    loop {
        if orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Some(order) = *orders.borrow_and_update() {
            return order;
        }
    }
}

fn stuck(pids: &[Pid]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!("these processes of it do not end, not even by SIGKILL: {}", pids.join(" "))
}

/// Starts the shell: in a group of its own, with nothing to read, both outputs into one pipe, and
/// exactly the environment it is given. In a form that the standard library starts by posix_spawn,
/// which costs a fraction of a fork: an absolute program, and no code between fork and exec.
fn spawn(start: &StartStep, mark: &Mark, pipe: OwnedFd, script: Option<&Path>) -> Result<Child, String> {
    let path = start.env.get("PATH").map_or("", String::as_str);
    let (name, program, options): (_, _, &[&str]) = match start.shell {
        Shell::Sh => ("sh", PathBuf::from("/bin/sh"), &["-e"]),
        Shell::Bash => ("bash", find("bash", path)?, &["-euo", "pipefail"]),
    };
    let failed = |error: io::Error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        _ if !start.directory.is_dir() => format!("its directory {} is not there", start.directory.display()),
        Some(rustix::io::Errno::TOOBIG) => "its environment is larger than the system takes".to_owned(),
        _ if error.kind() == io::ErrorKind::InvalidInput => {
            "its text or its environment has a NUL character, which no process can be given".to_owned()
        }
        _ => format!("{} could not be started: {error}", program.display()),
    };
    let mut command = Command::new(&program);
    command.arg0(name).args(options);
    match script {
        Some(script) => command.arg(script),
        None => command.arg("-c").arg(&start.run),
    };
    command.env_clear().envs(&start.env).env(mark::VARIABLE, mark.as_str());
    command.current_dir(&start.directory).process_group(0).stdin(Stdio::null());
    command.stdout(pipe.try_clone().map_err(failed)?).stderr(pipe);
    command.spawn().map_err(failed)
}

fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    directories
        .chain(["/bin", "/usr/bin"])
        .map(|directory| Path::new(directory).join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("there is no {name} in its PATH, nor in /bin or /usr/bin"))
}

fn write_script(text: &str, path: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path.to_owned())
}

fn remove(script: Option<&Path>) {
    if let Some(script) = script
        && let Err(error) = std::fs::remove_file(script)
    {
        tracing::warn!(%error, script = %script.display(), "a step's script could not be removed");
    }
}

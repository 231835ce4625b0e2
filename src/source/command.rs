//! Running `git` in a clean environment, ended with everything it started when nobody waits for it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::address::hide_credentials;
use super::{Address, Error};

/// What git and ssh need to find themselves, keys and proxies; nothing else is inherited.
const PASSED: [&str; 13] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Keeps ssh from asking, and from waiting for a host that does not answer.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20";

/// How much of what git says is kept, in bytes: the list of a hundred thousand branches.
const SAID_LIMIT: u64 = 16 * 1024 * 1024;

/// Runs git against an address.
pub(super) struct Git<'a> {
    pub address: &'a Address,
    /// The only configuration it reads, beside the repository's own.
    pub configuration: &'a Path,
    /// What is being done, for messages: "fetch from".
    pub action: &'static str,
    pub limit: Duration,
}

impl Git<'_> {
    /// What git printed, if it succeeded.
    pub async fn run(&self, arguments: &[&OsStr]) -> Result<String, Error> {
        let mut command = tokio::process::Command::new("git");
        command.args(arguments).env_clear();
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.configuration)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.address.protocol())
            .env("GIT_SSH_COMMAND", SSH)
            // A transfer slower than 1 kB/s for a minute is dead.
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
            .env("GIT_HTTP_LOW_SPEED_TIME", "60")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| Error::NoGit(error.to_string()))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (out, err, status) = tokio::join!(read(stdout), read(stderr), child.wait());
            status.map(|status| (status, out, err))
        };
        let outcome = tokio::time::timeout(self.limit, work).await;
        match outcome {
            Ok(Ok((status, out, err))) => {
                group.ended();
                match status.success() {
                    true => Ok(out),
                    false if err.trim().is_empty() => Err(self.failed(format!("git ended with {status}"))),
                    false => Err(self.failed(last_lines(&err))),
                }
            }
            Ok(Err(error)) => Err(self.failed(error.to_string())),
            Err(_) => Err(self.failed(format!("git did not end within {} s", self.limit.as_secs()))),
        }
    }

    fn failed(&self, message: String) -> Error {
        Error::Git { action: self.action, address: self.address.clone(), message }
    }
}

/// What a process says, up to the limit; the rest is read, so that it does not stall, and dropped.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    let _ = (&mut pipe).take(SAID_LIMIT).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines, on one line, without credentials and without git's prefixes.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().rev().take(4).rev();
    let clean: Vec<&str> =
        last.map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ")).collect();
    hide_credentials(&clean.join("; "))
}

/// A process group that is killed unless its leader has ended.
struct Group(Option<Pid>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

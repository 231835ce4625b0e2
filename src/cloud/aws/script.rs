//! What a builder is told: user data that fetches one script, and that script, which provisions.
//!
//! - Nothing comes in to a builder: it reads and writes objects by presigned URLs.
//! - Whatever an author wrote is quoted or stands in a here-document of its own: it is never code here,
//!   except the commands themselves.
//! - Run with `WINDLASS_ROOT` set, neither script touches anything outside of that directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::cloud::{Error, Provision};
use crate::ids::{Digest, PipelineName};

const BOOTSTRAP: &str = include_str!("script.sh");
const USER_DATA: &str = include_str!("user-data.sh");
const FETCH: &str = include_str!("fetch.sh");

/// "User data is limited to 16 KB, in raw form": Amazon EC2 User Guide, "Run commands when you launch an
/// EC2 instance".
const USER_DATA_LIMIT: usize = 16 * 1024;

/// How often a builder looks whether its log has grown.
pub const BEAT: Duration = Duration::from_secs(2);

/// All that the script of a builder says and does.
pub struct Bootstrap<'a> {
    pub service: &'a PipelineName,
    /// Tells one build from every other.
    pub build: &'a str,
    /// Where the archives are that fill the app directory.
    pub contents: &'a [String],
    pub files: &'a Files,
    pub provision: &'a [Provision],
    pub env: &'a BTreeMap<String, String>,
    pub start: &'a str,
    /// Where the log is put, again and again.
    pub log: &'a str,
    /// Where the verdict is put, last.
    pub verdict: &'a str,
    pub beat: Option<Duration>,
    /// The machine ends itself then.
    pub dead_after: Duration,
}

/// What is at hand only for provisioning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Where the archive of them is.
    pub archive: Option<String>,
    /// What of it is not among the contents, relative to the app directory.
    pub files: Vec<String>,
    /// The same for directories, those above first.
    pub directories: Vec<String>,
}

impl Bootstrap<'_> {
    /// The script.
    pub fn text(&self) -> String {
        let beat = self.beat.unwrap_or(BEAT).as_secs_f64();
        let values = format!(
            "service={}\nbuild={}\nlog_url={}\nverdict_url={}\nminutes={}\ncommands={}\nbeat={beat}\n",
            quote(self.service.as_str()),
            quote(self.build),
            quote(self.log),
            quote(self.verdict),
            minutes(self.dead_after),
            self.provision.len(),
        );
        let archives = self.contents.iter().chain(&self.files.archive);
        let contents = archives.fold(String::new(), |mut text, url| {
            let _ = writeln!(text, "  unpack {} || return $?", quote(url));
            text
        });
        let environment = self.env.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "      {} \\", quote(&format!("{name}={value}")));
            text
        });
        let mut commands = String::new();
        for (number, command) in (1..).zip(self.provision) {
            let _ = write!(commands, "{}", here(&format!("  cat >\"$work/command-{number}\""), &command.run));
            let shell = if command.bash { "bash -euo pipefail" } else { "sh -e" };
            let _ = writeln!(commands, "  run {number} {} {shell}", quote(&command.name));
        }
        let unit = here("  cat >\"$units/$service.service\"", &unit(self.service, self.start));
        fill_in(
            BOOTSTRAP,
            &[
                ("values", &values),
                ("contents", &contents),
                ("environment", &environment),
                ("commands", &commands),
                ("files", &here("  done", &self.files.files.join("\n"))),
                ("directories", &here("  done", &reversed(&self.files.directories))),
                ("unit", &unit),
            ],
        )
    }
}

fn reversed(names: &[String]) -> String {
    let names: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    names.join("\n")
}

/// What a builder is launched with. Without a URL, somebody else tells it what to do.
///
/// # Errors
/// It is longer than user data may be.
pub fn user_data(url: Option<&str>, dead_after: Duration) -> Result<String, Error> {
    let mut values = format!("minutes={}\n", minutes(dead_after));
    if let Some(url) = url {
        let _ = writeln!(values, "url={}", quote(url));
    }
    let text = fill_in(USER_DATA, &[("values", &values), ("fetch", if url.is_some() { FETCH } else { "" })]);
    match text.len() {
        length if length > USER_DATA_LIMIT => Err(Error::Failed(format!(
            "the user data of the builder has {length} bytes, more than EC2 takes"
        ))),
        _ => Ok(text),
    }
}

/// The same for a machine that is told by somebody else to fetch what to do.
pub fn fetch(url: &str) -> String {
    let values =
        format!("root=${{WINDLASS_ROOT:-}}\nfile=\"$root/var/lib/windlass-bootstrap\"\nurl={}\n", quote(url));
    format!("{values}{FETCH}")
}

/// Rounded up: `shutdown` takes whole minutes.
fn minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60).max(1)
}

/// Puts texts in place of the lines that name them. What is put in is not looked at again.
fn fill_in(template: &str, parts: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        match line.strip_prefix("#@").and_then(|name| parts.iter().find(|(known, _)| *known == name)) {
            Some((_, part)) => text.push_str(part),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// A command that reads this text, whatever is in it.
fn here(command: &str, text: &str) -> String {
    let end = format!("windlass-{}", Digest::of(text.as_bytes()).short());
    let line = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{command} <<'{end}'\n{text}{line}{end}\n")
}

/// One word for a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The service as systemd starts it, once a launch has written its environment. Values follow
/// systemd.syntax(7) and systemd.service(5): `\`, `"`, `%` and `$` mean something there.
fn unit(service: &PipelineName, start: &str) -> String {
    let mut command = String::new();
    for c in start.chars() {
        match c {
            '\\' => command.push_str("\\\\"),
            '"' => command.push_str("\\\""),
            '\n' => command.push_str("\\n"),
            '%' => command.push_str("%%"),
            '$' => command.push_str("$$"),
            c => command.push(c),
        }
    }
    format!(
        "[Unit]\n\
         Description={service}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         ConditionPathExists=/etc/windlass/{service}.env\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         WorkingDirectory=/opt/{service}\n\
         EnvironmentFile=/etc/windlass/{service}.env\n\
         ExecStart=/bin/sh -c \"{command}\"\n\
         Restart=always\n\
         RestartSec=1\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

#[cfg(test)]
mod tests;

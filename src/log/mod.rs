//! Step output: where it lies, how it is written, how it is followed.
//!
//! A log is one file of raw bytes that only grows. Always true: every byte passed the [`Redactor`]
//! before it was written (so whoever reads a log, streams it or searches it needs no secrets), and
//! a byte that cannot be part of a secret any more is written at once (so a log can be followed
//! live). Writers are the runner, for shell steps, and [`Writer`], for steps inside the engine.

mod follow;
mod forms;
mod redact;
mod variants;

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use follow::follow;
pub use redact::Redactor;
pub use variants::SHORTEST;

use crate::ids::StepId;

/// Where the log of `step` lies: `DATA/logs/PIPELINE/NUMBER/STAGE/ATTEMPT/NN.log`.
pub fn path(data: &Path, step: &StepId) -> PathBuf {
    let attempt = &step.attempt;
    data.join("logs")
        .join(attempt.run.pipeline.as_str())
        .join(attempt.run.number.to_string())
        .join(attempt.stage.as_str())
        .join(attempt.attempt.to_string())
        .join(format!("{:02}.log", step.step))
}

/// Opens a log to append to it, making the directories above; also says how long it is already.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            options.open(path)?
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Whether the log at `path` ends with this line.
pub fn ends_with_line(path: &Path, line: &str) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let wanted = format!("{line}\n");
    let start = length.saturating_sub(wanted.len() as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::with_capacity(wanted.len());
    file.take(wanted.len() as u64).read_to_end(&mut tail)?;
    Ok(tail == wanted.as_bytes())
}

/// Writes the log of a step that runs inside this process, line by line.
pub struct Writer {
    file: File,
    redactor: Redactor,
    out: Vec<u8>,
    length: u64,
}

impl Writer {
    /// Appends to the log at `path`; what is in `secrets` is masked.
    pub fn open<S: AsRef<str>>(path: &Path, secrets: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let redactor = Redactor::new(secrets);
        let (file, length) = open(path)?;
        Ok(Self { file, redactor, out: Vec::new(), length })
    }

    /// Writes `text` and a newline, as one write that followers see at once. A secret of several
    /// lines is masked line by line here, as nothing is held back between calls.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        self.redactor.push(text.to_string().as_bytes(), &mut self.out);
        self.redactor.finish(&mut self.out);
        self.out.push(b'\n');
        let written = self.file.write_all(&self.out);
        self.length = match &written {
            Ok(()) => self.length + self.out.len() as u64,
            // A full disk took some of it, or nothing: what is recorded of a log is there.
            Err(_) => self.file.metadata().map_or(self.length, |log| log.len()),
        };
        self.out.clear();
        written
    }

    /// The log's length in bytes, after redaction.
    pub fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests;

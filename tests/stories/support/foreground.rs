//! A command that is under way, with all it said so far.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Signal, kill, signal};

/// A command that is under way. Killed when it is dropped.
pub struct Foreground {
    child: Child,
    patience: Duration,
    said: Arc<Said>,
    readers: Vec<JoinHandle<()>>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

#[derive(Default)]
struct Said {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    out: Vec<String>,
    err: Vec<String>,
    /// Streams that have ended.
    ended: usize,
}

impl Foreground {
    /// Starts it; whatever is waited for has to come within `patience`.
    pub fn start(command: &mut Command, patience: Duration) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Said::default());
        let out = read(child.stdout.take().unwrap(), said.clone(), |lines| &mut lines.out);
        let err = read(child.stderr.take().unwrap(), said.clone(), |lines| &mut lines.err);
        Self { child, patience, said, readers: vec![out, err] }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until a line has `text`, and answers that line.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + self.patience;
        let mut lines = self.said.lines.lock().unwrap();
        loop {
            let found = lines.out.iter().chain(&lines.err).find(|line| line.contains(text));
            if let Some(line) = found {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                lines.ended < 2 && !left.is_zero(),
                "it never said {text:?}, but:\n{}\n{}",
                lines.out.join("\n"),
                lines.err.join("\n")
            );
            lines = self.said.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for so many lines of output or for the end, and answers whether it goes on.
    pub fn says_lines(&self, count: usize) -> bool {
        let lines = self.said.lines.lock().unwrap();
        let wait = |lines: &mut Lines| lines.out.len() < count && lines.ended < 2;
        let (lines, late) = self.said.more.wait_timeout_while(lines, self.patience, wait).unwrap();
        assert!(!late.timed_out(), "it said only:\n{}", lines.out.join("\n"));
        lines.ended < 2
    }

    /// Whether it has ended by itself.
    #[allow(dead_code, reason = "the stories on AWS share this file")]
    pub fn is_over(&self) -> bool {
        self.said.lines.lock().unwrap().ended == 2
    }

    pub fn signal(&self, wanted: Signal) {
        signal(self.pid(), wanted);
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let said = self.said.clone();
        let lines = said.lines.lock().unwrap();
        let (lines, late) =
            said.more.wait_timeout_while(lines, self.patience, |lines| lines.ended < 2).unwrap();
        assert!(!late.timed_out(), "it does not end:\n{}\n{}", lines.out.join("\n"), lines.err.join("\n"));
        drop(lines);
        self.finish()
    }

    fn finish(&mut self) -> Ended {
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let lines = self.said.lines.lock().unwrap();
        let text = |lines: &[String]| lines.iter().flat_map(|line| [line, "\n"]).collect();
        Ended { code: status.code(), out: text(&lines.out), err: text(&lines.err) }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill(self.pid());
            let _ = self.child.wait();
        }
    }
}

fn read(
    from: impl Read + Send + 'static,
    said: Arc<Said>,
    which: fn(&mut Lines) -> &mut Vec<String>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            which(&mut said.lines.lock().unwrap()).push(String::from_utf8_lossy(&line).into_owned());
            said.more.notify_all();
        }
        said.lines.lock().unwrap().ended += 1;
        said.more.notify_all();
    })
}

impl Ended {
    /// Sees that it ended with this exit code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n{}\n{}", self.out, self.err);
        self
    }

    /// Sees that it printed one JSON document, and answers it.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.out, self.err))
    }

    /// Sees that it says all of these, on either stream.
    #[track_caller]
    pub fn says(&self, wanted: &[&str]) -> &Self {
        let said = format!("{}\n{}", self.out, self.err);
        for text in wanted {
            assert!(said.contains(text), "it does not say {text:?}, but:\n{said}");
        }
        self
    }
}

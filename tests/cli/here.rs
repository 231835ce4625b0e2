//! A directory with pipelines in which the program runs, and signals from its steps.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What has not happened by then does not happen: so long a test that fails may hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Here {
    directory: tempfile::TempDir,
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Here {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    /// Settings in which whoever wants to go on to `production` waits for a promotion.
    pub fn with_gate(&self, service: &str) -> &Self {
        self.write(
            "windlass.yaml",
            &format!(
                "environments:\n  production:\n    group: production\n    promotion: manual\n    \
                 fleets: {{ {service}: {{ cloud: local, size: 1, port: 7999, health: {{ path: / }} }} }}\n"
            ),
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(arguments).current_dir(self.directory.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("WINDLASS_DATA", self.path("data")).env("HOME", self.path("home")).env("USER", "octocat");
        command.env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs a shell script to its end, to which the program is `$0`.
    pub fn shell(&self, script: &str) -> Said {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_windlass")]).current_dir(self.directory.path());
        said(command.output().unwrap())
    }

    /// Runs the program to its end.
    pub fn windlass(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    /// The same, for what has to be good; answers its standard output.
    pub fn good(&self, arguments: &[&str]) -> String {
        let said = self.windlass(arguments);
        assert_eq!(said.code, 0, "windlass {arguments:?}: {said:?}");
        said.out
    }

    /// The one object that the program prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(arguments)).unwrap()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines, seen: Vec::new() }
    }

    /// A step that writes its number of starts to the file `starts`, says `begun`, and goes on when
    /// the test says so; see [`Signal`].
    pub fn held_step(&self, name: &str) -> (String, Gate) {
        let gate = Gate { begun: self.path(&format!("{name}.begun")), go: self.path(&format!("{name}.go")) };
        for fifo in [&gate.begun, &gate.go] {
            assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        let starts = self.path(&format!("{name}.starts"));
        let run = format!(
            "echo start >> {}; echo begun; echo x > {}; read line < {}; echo done",
            starts.display(),
            gate.begun.display(),
            gate.go.display()
        );
        (format!("{{ name: Held, run: {run:?} }}"), gate)
    }

    /// How often the held step was started.
    pub fn starts(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path(&format!("{name}.starts"))).unwrap().lines().count()
    }
}

impl Drop for Here {
    /// Returns when the runner has ended, as it does by itself: nothing stays behind. Steps that a
    /// test left held are let go; a pipe that is open both ways makes nobody wait.
    fn drop(&mut self) {
        let ends = |path: &PathBuf| path.extension().is_some_and(|end| end == "begun" || end == "go");
        let files = self.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut pipes: Vec<File> = files
            .filter(ends)
            .map(|pipe| File::options().read(true).write(true).open(pipe).unwrap())
            .collect();
        pipes.iter_mut().for_each(|pipe| pipe.write_all(b"x\n").unwrap());
        if let Ok(lock) = File::options().write(true).open(self.path("data/runner.lock")) {
            lock.lock().unwrap();
        }
    }
}

/// How a held step is waited for and let go.
pub struct Gate {
    begun: PathBuf,
    go: PathBuf,
}

impl Gate {
    /// Returns when the step has begun.
    pub fn begun(&self) {
        at_last(&self.begun, |path| {
            File::open(path).unwrap().read_to_end(&mut Vec::new()).unwrap();
        });
    }

    /// Lets the step go on.
    pub fn go(&self) {
        at_last(&self.go, |path| std::fs::write(path, "x\n").unwrap());
    }
}

/// Opening a pipe waits for the other side; here, not for ever.
fn at_last(path: &Path, act: fn(&Path)) {
    let (sender, done) = mpsc::channel();
    let path = path.to_owned();
    let shown = path.display().to_string();
    std::thread::spawn(move || {
        act(&path);
        let _ = sender.send(());
    });
    done.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("nobody is at {shown}: {error}"));
}

/// The program, while it runs.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Waits for a line on the standard output with this text in it.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let mut err = String::new();
                    let _ = self.child.stderr.take().unwrap().read_to_string(&mut err);
                    panic!("{text:?} was never said: {:#?}\n{err}", self.seen);
                }
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line on the standard error with this text in it. What is read here is not in the
    /// answer of [`Self::end`].
    pub fn wait_for_log(&mut self, text: &str) {
        let err = self.child.stderr.as_mut().unwrap();
        let mut line = Vec::new();
        // Byte by byte: what comes behind the line is left there.
        let mut byte = [0];
        while err.read(&mut byte).unwrap() == 1 {
            line.push(byte[0]);
            if line.ends_with(b"\n") {
                if String::from_utf8_lossy(&line).contains(text) {
                    return;
                }
                line.clear();
            }
        }
        panic!("{text:?} is not in the log");
    }

    /// Ends it at once, as a crash would.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Said {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        let mut stderr = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        said(Output { status, stdout: self.seen.join("\n").into_bytes(), stderr })
    }
}

impl Drop for Running {
    /// Of a test that fails, too, nothing is left.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

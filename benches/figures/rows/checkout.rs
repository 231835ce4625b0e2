//! A clone of a commit for a stage to work in, from a cache that is warm, beside `git worktree add` from a
//! bare clone of the same repository.
//!
//! Measured is what a run waits for: from the beginning of its `checkout` until the first step of the next
//! stage has ended, a step that only fails. It fails so that its workspace stays, as git's do: nothing is removed
//! between the rounds. And it is all in memory, where there is room: a disk is asked to keep nothing here but our
//! journal, and ext4 without a journal, as many virtual machines have it, looks again and again at every file
//! that was deleted minutes before, whoever makes a new one.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::Row;
use super::output::Noise;
use crate::bench::Bench;
use crate::measure::{Unit, in_turns};
use crate::report::{Bound, Case};
use crate::run::Run;

pub const ROW: Row = Row { name: "checkout", what: "a commit's files, from a warm cache", measure };

/// Files, and rounds at most.
const SIZES: [(usize, usize); 4] = [(100, 5), (1_000, 5), (10_000, 3), (50_000, 2)];

/// That which the goal is about.
const JUDGED: usize = 50_000;

/// Of a file, in bytes: those of sources are a few kB.
const LENGTHS: std::ops::Range<usize> = 1024..8192;

/// What the largest takes, in bytes.
const ROOM: u64 = 4_000_000_000;

const PIPELINE: &str = "\
name: bench
stages:
  checkout: { uses: checkout }
  work: { needs: checkout, steps: [{ run: 'exit 1' }] }
";

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases = Vec::new();
    for (files, rounds) in SIZES {
        let directory = directory(bench);
        let at = directory.path();
        std::fs::write(at.join("bench.yaml"), PIPELINE).expect("the pipeline");
        make_repository(&at.join("source.git"), files);
        if files == JUDGED {
            cases.push(cold(at, files));
        } else {
            windlass(at);
        }
        let mut number = 0;
        let [ours, theirs] = in_turns(
            rounds.min(bench.rounds),
            [&mut || windlass(at), &mut || {
                number += 1;
                worktree(at, number)
            }],
        );
        let case = Case::new(ROW.name, format!("warm, {files} files"), Unit::Seconds, &ours)
            .beside("git worktree", &ours, &theirs)
            .growing("checkout", "files", files as u64);
        let goal = Bound::AtMost(1.0);
        cases.push(if files == JUDGED { case.goal_beside("git worktree", goal) } else { case });
    }
    cases
}

fn directory(bench: &Bench) -> TempDir {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > ROOM);
    let made = room.then(|| tempfile::tempdir_in(memory).ok()).flatten();
    made.unwrap_or_else(|| bench.directory())
}

/// Seconds until a step has the files.
fn windlass(at: &Path) -> f64 {
    let run = Run::of(
        &at.join("bench.yaml"),
        &at.join("data"),
        &["--source", &at.join("source.git").display().to_string()],
    );
    run.seconds(&["checkout", "work"])
}

/// The first run from a source, with all it fetches, beside a clone by the same means.
fn cold(at: &Path, files: usize) -> Case {
    let begun = Instant::now();
    windlass(at);
    let ours = begun.elapsed().as_secs_f64();
    let source = format!("file://{}", at.join("source.git").display());
    let theirs = time(Command::new("git").args(["clone", "-q", &source]).arg(at.join("clone")));
    Case::new(ROW.name, format!("cold, the whole run, {files} files"), Unit::Seconds, &[ours]).beside(
        "git clone",
        &[ours],
        &[theirs],
    )
}

fn worktree(at: &Path, number: usize) -> f64 {
    let tree = at.join(format!("worktree-{number}"));
    time(
        Command::new("git")
            .arg("-C")
            .arg(at.join("source.git"))
            .args(["worktree", "add", "-q", "--detach"])
            .arg(tree),
    )
}

fn time(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdin(Stdio::null()).status().expect("git is here");
    assert!(status.success(), "{command:?} ended with {status}");
    begun.elapsed().as_secs_f64()
}

/// A bare repository with one commit of so many files, some levels deep.
fn make_repository(path: &Path, files: usize) {
    let status = Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(path).status();
    assert!(status.expect("git is here").success());
    let mut import = Command::new("git")
        .arg("-C")
        .arg(path)
        // As git compresses by default, this would take most of the row's time.
        .args(["-c", "core.compression=1", "fast-import", "--quiet", "--depth=0"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git is here");
    let mut to = BufWriter::new(import.stdin.take().expect("its input"));
    // Files are pieces of one text, each at a place of its own.
    let mut noise = Noise(7);
    let mut text = String::new();
    while text.len() < 1 << 20 {
        text.extend((0..2 + noise.below(9)).map(|_| char::from(b'a' + noise.below(26) as u8)));
        text.push_str([" ", " ", " = ", "();\n    ", "\n"][noise.below(5)]);
    }
    let mut write = || -> std::io::Result<()> {
        write!(to, "commit refs/heads/main\ncommitter A <a@example.com> 1700000000 +0000\ndata 1\nx\n")?;
        for number in 0..files {
            let length = LENGTHS.start + noise.below(LENGTHS.len());
            let from = noise.below(text.len() - length);
            let (outer, inner) = (number / 1000, number / 25 % 40);
            writeln!(to, "M 644 inline src/part{outer}/unit{inner}/file{number}.rs\ndata {length}")?;
            writeln!(to, "{}", &text[from..from + length])?;
        }
        to.flush()
    };
    write().expect("git takes it");
    drop(to);
    assert!(import.wait().expect("git ends").success());
}

//! What a step says, through the redactor to disk, beside `cat > file` at the end of the same pipe.
//!
//! The writer is `cat` with a prepared text in the page cache, so that what differs is who reads the pipe.
//! A step's time is that of the journal, from its intent to its end: it has the start of its processes and
//! the two records in it, which is what the small texts show. The runner is up by then: a stage before started it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Row;
use crate::bench::Bench;
use crate::measure::{Unit, in_turns};
use crate::report::{Bound, Case};
use crate::run::Run;

pub const ROW: Row = Row { name: "output", what: "what steps say, redacted and on disk", measure };

const MB: usize = 1_000_000;

/// That which the goals are about, in MB.
const JUDGED: usize = 100;

/// So many stages write at once, each its own text.
const FAN: usize = 8;

/// A text is `cat` of this many times the file of so many MB.
const TEXTS: [(usize, usize, usize); 4] = [(1, 1, 1), (10, 1, 10), (100, 1, 100), (1000, 10, 100)];

/// What the runner may have resident, in MB.
const MEMORY: f64 = 64.0;

/// What is looked for in the output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mask {
    Nothing,
    One,
    Twenty,
}

impl Mask {
    fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing to mask",
            Self::One => "one secret",
            Self::Twenty => "20 secrets",
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One => 1,
            Self::Twenty => 20,
        }
    }
}

/// The value of a secret: one in five is a key of several lines, the others have what is escaped in a URL.
fn secret(number: usize) -> String {
    if number % 5 != 4 {
        return format!("pa/ss@word-{number:02}-of+the%service");
    }
    let mut noise = Noise(number as u64 + 1);
    let mut key = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for _ in 0..26 {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        key.extend((0..64).map(|_| char::from(alphabet[noise.below(64)])));
        key.push('\n');
    }
    key + "-----END PRIVATE KEY-----\n"
}

/// Numbers that look as if by chance, the same in each run.
pub struct Noise(pub u64);

impl Noise {
    /// A number below `bound`, by xorshift64.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// A build's log, lines of about 100 bytes; one of a thousand has a secret, as it is or as in a URL.
fn log_text(length: usize) -> String {
    const WORDS: [&str; 12] = [
        "compiling",
        "src/store/sqlite/journal.rs",
        "warning:",
        "test",
        "passed",
        "tests::the_cut_changes_nothing",
        "GET /api/v1/runs",
        "in 12.3 ms",
        "password",
        "200",
        "pass",
        "-----",
    ];
    let mut noise = Noise(42);
    let mut text = String::with_capacity(length + 4096);
    let mut line = 0;
    while text.len() < length {
        let _ = write!(text, "2026-11-22T15:04:05.{:06}Z ", noise.below(1_000_000));
        let end = text.len() + 73;
        while text.len() < end {
            text.push_str(WORDS[noise.below(WORDS.len())]);
            text.push(' ');
        }
        line += 1;
        if line % 1000 == 0 {
            let secret = secret(line / 1000 % 20);
            match line % 2000 {
                0 => text.push_str(&secret),
                _ => text.push_str(&secret.replace('/', "%2F").replace('@', "%40").replace('+', "%2B")),
            }
        }
        text.push('\n');
    }
    text.truncate(length);
    text
}

/// No line breaks, and all the time all but the last character of a secret.
fn nearly(length: usize) -> String {
    let secret = secret(0);
    let mut text = secret[..secret.len() - 1].repeat(length / (secret.len() - 1) + 1);
    text.truncate(length);
    text
}

fn measure(bench: &Bench) -> Vec<Case> {
    let directory = bench.directory();
    let at = directory.path();
    let text = log_text(100 * MB);
    for size in [1, 10, 100] {
        fs::write(at.join(format!("{size}.txt")), &text[..size * MB]).expect("a text");
    }
    fs::write(at.join("nearly.txt"), nearly(25 * MB)).expect("a text");
    drop(text);

    let mut subject = Subject { at, rounds: bench.rounds, memory: [Vec::new(), Vec::new()] };
    let mut cases = Vec::new();
    for mask in [Mask::Nothing, Mask::One, Mask::Twenty] {
        for (size, times, of) in TEXTS {
            if size <= JUDGED || mask == Mask::Nothing {
                let text = vec![format!("{of}.txt"); times].join(" ");
                let rounds = if size > JUDGED { 1 } else { 3 };
                let case = subject.measure(mask, 1, &text, rounds, &format!("{size} MB"));
                let case = case.growing(mask.words(), "MB", size as u64);
                cases.push(if size == JUDGED { goal(case) } else { case });
            }
        }
        cases.push(goal(subject.measure(mask, FAN, "10.txt", 3, "10 MB each")));
        if mask != Mask::Nothing {
            cases.push(goal(subject.measure(mask, 1, "nearly.txt", 2, "25 MB that nearly are one")));
        }
    }
    for (writers, values) in [("one writer", &subject.memory[0]), ("eight writers", &subject.memory[1])] {
        let what = format!("the runner's memory at its highest, {writers}");
        cases.push(Case::new(ROW.name, what, Unit::Megabytes, values).goal(Bound::AtMost(MEMORY)));
    }
    cases
}

fn goal(case: Case) -> Case {
    case.goal_beside("cat", Bound::AtMost(2.0))
}

struct Subject<'a> {
    /// Where the texts are.
    at: &'a Path,
    rounds: usize,
    /// What the runner had resident at most, in MB: with one writer, and with many.
    memory: [Vec<f64>; 2],
}

impl Subject<'_> {
    fn measure(&mut self, mask: Mask, writers: usize, text: &str, rounds: usize, size: &str) -> Case {
        let at = self.at;
        let many = if writers == 1 { "one writer".to_owned() } else { format!("{writers} writers") };
        write_pipeline(at, mask, writers, text);
        let memory = &mut self.memory[usize::from(writers > 1)];
        let [ours, theirs] = in_turns(
            rounds.min(self.rounds),
            [
                &mut || {
                    let (took, most) = windlass(at, mask, writers, text);
                    memory.push(most);
                    took
                },
                &mut || cat(at, writers, text),
            ],
        );
        let what = format!("{many}, {}, {size}", mask.words());
        Case::new(ROW.name, what, Unit::Seconds, &ours).beside("cat", &ours, &theirs)
    }
}

fn stages(writers: usize) -> Vec<String> {
    (0..writers).map(|number| format!("s{number}")).collect()
}

/// The pipeline and its settings. The last stage asks its parent, which is the runner, what it had resident.
fn write_pipeline(at: &Path, mask: Mask, writers: usize, text: &str) {
    let names: Vec<String> = (0..mask.count()).map(|number| format!("SECRET_{number}")).collect();
    let mut settings = format!("runner: {{ slots: {FAN}, log_limit: 2GiB }}\n");
    if mask != Mask::Nothing {
        settings.push_str("secrets:\n");
    }
    for (number, name) in names.iter().enumerate() {
        fs::write(at.join(name), secret(number)).expect("a secret");
        let _ = writeln!(settings, "  {name}: {{ file: {name} }}");
    }
    fs::write(at.join("windlass.yaml"), settings).expect("the settings");
    let mut pipeline = "name: bench\nstages:\n  first: { steps: [{ run: ':' }] }\n".to_owned();
    let paths: Vec<String> = text.split(' ').map(|name| at.join(name).display().to_string()).collect();
    for stage in stages(writers) {
        let _ = writeln!(pipeline, "  {stage}:\n    needs: first");
        if mask != Mask::Nothing {
            let _ = writeln!(pipeline, "    secrets: [{}]", names.join(", "));
        }
        let _ = writeln!(pipeline, "    steps: [{{ run: 'cat {}' }}]", paths.join(" "));
    }
    let needs = stages(writers).join(", ");
    let _ = writeln!(
        pipeline,
        "  memory:\n    needs: [{needs}]\n    steps:\n      - run: |\n          \
         awk '/^VmHWM/ {{ print \"kib=\" $2 }}' /proc/$PPID/status >> \"$WINDLASS_OUTPUT\""
    );
    fs::write(at.join("bench.yaml"), pipeline).expect("the pipeline");
}

/// Seconds from the intent of the first step to the end of the last, and MB.
fn windlass(at: &Path, mask: Mask, writers: usize, text: &str) -> (f64, f64) {
    let data = tempfile::tempdir_in(at).expect("a data directory");
    let settings = at.join("windlass.yaml");
    let run = Run::of(&at.join("bench.yaml"), data.path(), &["--config", settings.to_str().expect("a path")]);
    let stages = stages(writers);
    let stages: Vec<&str> = stages.iter().map(String::as_str).collect();
    let said: u64 =
        text.split(' ').map(|name| fs::metadata(at.join(name)).map_or(0, |text| text.len())).sum();
    for stage in &stages {
        let logged = run.log_bytes(stage);
        match mask {
            Mask::Nothing => assert_eq!(logged, said, "all of it is in the log"),
            _ => assert!(logged <= said && logged > said / 2, "{logged} of {said} bytes are in the log"),
        }
    }
    let kib: f64 = run.output("memory", "kib").parse().expect("a number");
    (run.seconds(&stages), kib * 1024.0 / 1e6)
}

/// The same writers, each with a pipe to a `cat` of its own.
fn cat(at: &Path, writers: usize, text: &str) -> f64 {
    let out = tempfile::tempdir_in(at).expect("a directory");
    let begun = Instant::now();
    let cats: Vec<_> = (0..writers)
        .map(|number| {
            let script = format!("cat {text} | cat > {}", out.path().join(number.to_string()).display());
            Command::new("sh").arg("-c").arg(script).current_dir(at).stdin(Stdio::null()).spawn()
        })
        .collect();
    for cat in cats {
        assert!(cat.and_then(|mut cat| cat.wait()).expect("cat").success());
    }
    begun.elapsed().as_secs_f64()
}

//! Runs a target: over its corpus, then over mutations. Everything is repeatable: the same seed gives the
//! same inputs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::targets::Target;

mod mutate;

pub use mutate::Random;

/// Most CPU time that one input may take. A development build takes some ten times what a release takes.
pub const LIMIT: Duration = Duration::from_secs(5);

/// An input that has not come to its end by then never will, however busy the machine is.
const HANGS: Duration = Duration::from_secs(120);

/// Longest input that mutations make, in bytes.
const LONGEST: usize = 32 * 1024;

/// For how long to look, instead of a fixed number of mutations.
const SECONDS: &str = "WINDLASS_FUZZ";
/// The seed to begin with.
const SEED: &str = "WINDLASS_FUZZ_SEED";
/// A file whose bytes are the only input.
const INPUT: &str = "WINDLASS_FUZZ_INPUT";

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The files of a target's corpus, in the order of their names.
pub fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(directory().join("corpus").join(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// One of these with a few changes.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    mutate::mutate(random, seeds, words, LONGEST)
}

/// The input under way, for whoever waits.
type Current = Arc<Mutex<(Instant, Vec<u8>)>>;

/// Runs the target as the environment asks for.
pub fn run(target: &'static Target) {
    watched(target, move |current| inputs(target, current));
}

/// Runs the target on these bytes.
pub fn run_on(target: &'static Target, bytes: Vec<u8>) {
    watched(target, move |current| one(target, &bytes, current));
}

/// Does it on a thread, and fails when an input does not come to its end.
fn watched(target: &'static Target, work: impl FnOnce(&Current) + Send + 'static) {
    let current: Current = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    let (done, waiting) = mpsc::channel();
    let shared = current.clone();
    // A thread of its own has the stack that a thread of the server has.
    let thread = std::thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&shared)));
        let _ = done.send(());
        result
    });
    while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(Duration::from_secs(1)) {
        let (since, bytes) = current.lock().unwrap().clone();
        if since.elapsed() > HANGS {
            panic!("it does not end\n{}", keep(target, &bytes));
        }
    }
    if let Err(panic) = thread.join().unwrap() {
        std::panic::resume_unwind(panic);
    }
}

fn inputs(target: &Target, current: &Current) {
    let variable = |name| std::env::var(name).ok();
    if let Some(path) = variable(INPUT) {
        return one(target, &std::fs::read(path).unwrap(), current);
    }
    let seeds: Vec<Vec<u8>> = corpus(target.name).into_iter().map(|(_, bytes)| bytes).collect();
    one(target, &[], current);
    for seed in &seeds {
        one(target, seed, current);
    }
    let number = |name| variable(name).map(|text| text.parse::<u64>().expect(name));
    let seconds = number(SECONDS);
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    let seed = number(SEED).unwrap_or(if seconds.is_some() { now() as u64 } else { 0 });
    let begun = Instant::now();
    let mut count = 0;
    let more = |count: u64| match seconds {
        Some(seconds) => begun.elapsed() < Duration::from_secs(seconds),
        None => count < target.mutations,
    };
    while more(count) {
        let mut random = Random::new(seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = mutated(&mut random, &seeds, target.words);
        one(target, &bytes, current);
        count += 1;
    }
    eprintln!("{}: {} of the corpus, {count} mutations, seed {seed}", target.name, seeds.len());
}

/// Gives one input to the target.
fn one(target: &Target, bytes: &[u8], current: &Current) {
    *current.lock().unwrap() = (Instant::now(), bytes.to_vec());
    let before = cpu_time();
    let result = catch_unwind(|| (target.run)(bytes));
    let took = cpu_time().saturating_sub(before);
    if result.is_err() {
        let smaller = smaller(target, bytes);
        panic!("{}", keep(target, &smaller));
    }
    assert!(took < LIMIT, "{} bytes took {took:.1?}\n{}", bytes.len(), keep(target, bytes));
}

/// Of an input that panics, one that is smaller and panics too: as long as leaving pieces out helps.
fn smaller(target: &Target, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut size = bytes.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < bytes.len() && begun.elapsed() < Duration::from_secs(20) {
            let mut without = bytes.clone();
            without.drain(at..(at + size).min(bytes.len()));
            match catch_unwind(|| (target.run)(&without)) {
                Err(_) => bytes = without,
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    std::panic::set_hook(hook);
    bytes
}

/// Keeps an input that fails, and says how to repeat it.
fn keep(target: &Target, bytes: &[u8]) -> String {
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{:016x}", target.name, hash.finish()));
    std::fs::write(&path, bytes).unwrap();
    let text = String::from_utf8_lossy(bytes.get(..400).unwrap_or(bytes)).into_owned();
    format!(
        "the input of {} bytes begins with {text:?}\nto repeat it: {INPUT}={} cargo test --test fuzz {} -- --exact\n\
         mended, it belongs into {}",
        bytes.len(),
        path.display(),
        target.name,
        directory().join("corpus").join(target.name).display(),
    )
}

/// Of this thread: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

//! What this machine takes for that which no figure can go below: a process that does nothing, a page that is
//! safe, a word to another process and back, a directory. What limits a row is told by these.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Row;
use crate::bench::Bench;
use crate::measure::{Unit, in_turns};
use crate::report::Case;

pub const ROW: Row = Row { name: "machine", what: "what nothing can go below here", measure };

/// So often a thing is done in each round.
const TIMES: u32 = 300;

/// What a step has to wait for meanwhile: whoever is woken has slept.
const PAUSE: Duration = Duration::from_micros(500);

/// A commit of a step: about three pages of the write-ahead log.
const COMMIT: usize = 3 * 4096;

fn measure(bench: &Bench) -> Vec<Case> {
    let directory = bench.directory();
    let at = directory.path();
    let file = File::create(at.join("log")).expect("a file");
    let mut echo = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
    let (mut there, mut back) = (echo.stdin.take().expect("a pipe"), echo.stdout.take().expect("a pipe"));
    let body = vec![b'x'; 8 * 1024];

    let mut shell = |_| {
        let status = Command::new("sh").args(["-c", ":"]).stdin(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "a shell starts");
    };
    let mut sync = |nth: u32| {
        file.write_all_at(&[1; COMMIT], u64::from(nth) * COMMIT as u64).expect("room on the disk");
        file.sync_data().expect("a disk");
    };
    let mut word = |_| {
        there.write_all(b"x").and_then(|()| back.read_exact(&mut [0])).expect("an echo");
    };
    let mut made = |nth: u32| {
        let path = at.join(nth.to_string());
        std::fs::create_dir(&path).and_then(|()| std::fs::remove_dir(&path)).expect("a directory");
    };
    let mut signed = |_| {
        let mut signing = Hmac::<Sha256>::new_from_slice(b"a secret").expect("a key");
        signing.update(&body);
        std::hint::black_box(signing.finalize());
    };
    let [shells, syncs, words, made, signed] = in_turns(
        bench.rounds,
        [
            &mut || each(&mut shell, Duration::ZERO),
            &mut || each(&mut sync, Duration::ZERO),
            &mut || each(&mut word, PAUSE),
            &mut || each(&mut made, Duration::ZERO),
            &mut || each(&mut signed, Duration::ZERO),
        ],
    );
    drop(there);
    let _ = echo.wait();
    let case = |what: &str, values: &[f64]| Case::new(ROW.name, what, Unit::Seconds, values);
    vec![
        case("a shell that does nothing, from its start to its end", &shells),
        case("12 KB written and synced", &syncs),
        case("a byte to a process that sleeps, and back", &words),
        case("a directory made and removed", &made),
        case("the signature of 8 KB", &signed),
    ]
}

/// Seconds that one takes, without the pauses between them.
fn each(one: &mut dyn FnMut(u32), pause: Duration) -> f64 {
    let mut sum = Duration::ZERO;
    for nth in 0..TIMES {
        std::thread::sleep(pause);
        let begun = Instant::now();
        one(nth);
        sum += begun.elapsed();
    }
    sum.as_secs_f64() / f64::from(TIMES)
}

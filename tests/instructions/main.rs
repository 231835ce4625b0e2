//! How many instructions the hot paths take, as valgrind counts them: the same on a machine that is busy
//! with something else, so that a change can be judged at once.
//!
//! `counts.json` has what they took when somebody last looked. A path that takes a third more fails; so does
//! one whose cost grows faster than its work. `WINDLASS_COUNT=write cargo test --test instructions` takes
//! the counts down anew, after a change that was meant. They are those of a development build.

mod balancer;
mod paths;
#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "../tools/mod.rs"]
mod tools;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// In the order in which [`paths::all`] calls them.
const PATHS: [&str; 13] = [
    "read_pipeline",
    "drive_100",
    "drive_400",
    "fold",
    "show",
    "encode",
    "decode",
    "redact",
    "check_webhook",
    "plan_swap",
    "record",
    "take_in",
    "carry",
];

type Counts = BTreeMap<String, u64>;

#[test]
fn no_hot_path_takes_a_third_more_than_it_did() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/counts.json");
    let now = count();
    if std::env::var("WINDLASS_COUNT").is_ok_and(|word| word == "write") {
        std::fs::write(&file, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let known: Counts = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(known.keys().eq(now.keys()), "{} names other paths", file.display());
    let grown: Vec<String> = now
        .iter()
        .filter(|(name, count)| **count * 3 > known[*name] * 4)
        .map(|(name, count)| format!("{name}: {} before, {count} now", known[name]))
        .collect();
    assert!(
        grown.is_empty(),
        "these take over a third more instructions: {grown:#?}\nif that is meant: WINDLASS_COUNT=write"
    );
    let (once, four_times) = (now["drive_100"], now["drive_400"]);
    assert!(
        four_times < once * 5,
        "a run of four times the stages takes {four_times} instructions instead of {once}: it has to cost \
         four times as much"
    );
}

/// What each path takes, counted in a process of this program's own.
fn count() -> Counts {
    let valgrind = tools::tool("valgrind");
    let directory = tempfile::tempdir().unwrap();
    let ran = Command::new(valgrind)
        .arg("--tool=callgrind")
        .args(
            PATHS
                .iter()
                .flat_map(|name| ["before", "after"].map(|when| format!("--dump-{when}=*paths::{name}"))),
        )
        .arg(format!("--callgrind-out-file={}/out", directory.path().display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_hot_paths_once", "--ignored", "--test-threads", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = [&ran.stdout, &ran.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(ran.status.success(), "valgrind: {}", said.concat());
    // What was counted up to a call is a file of its own, and of no interest.
    let mut counts = Counts::new();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let returned = field("desc: Trigger: --dump-after=").and_then(|name| name.rsplit("::").next());
        if let Some(name) = returned {
            counts.insert(name.to_owned(), field("totals: ").unwrap().trim().parse().unwrap());
        }
    }
    assert!(counts.len() == PATHS.len() && PATHS.iter().all(|name| counts.contains_key(*name)), "{counts:?}");
    counts
}

#[test]
#[ignore = "what the other one counts"]
fn the_hot_paths_once() {
    paths::all();
}

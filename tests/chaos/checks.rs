//! What has to be true afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::ground::{Ground, LINES, is_counted};
use crate::support::text;

/// What killed, and so what may be seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// Nothing is to be seen of it at all.
    Server,
    /// What the runner had under way is lost, and says so.
    Runner,
}

/// Everything below, for all runs.
pub fn all_is_well(ground: &mut Ground, killed: Killed) {
    let runs = deliveries_led_to_runs(ground);
    let mut ledger = ground.world.ledger();
    ledger.retain(|line| line.starts_with("counting/"));
    let mut ledger = Ledger::read(&ledger);
    for run in &runs {
        let view = ground.world.show(run);
        assert!(!view["finished_at"].is_null(), "{view:#}");
        if killed == Killed::Server {
            assert_eq!(view["status"], "succeeded", "{view:#}");
        }
        for stage in view["stages"].as_array().unwrap() {
            stage_is_well(ground, run, stage, killed, &mut ledger);
        }
    }
    assert!(ledger.0.is_empty(), "steps ran that no run knows of: {:#?}", ledger.0);
    said_by_the_program(ground, &runs);
}

/// Every delivery that was acknowledged has led to its run, once, and no other has led to more. Answers the
/// runs.
fn deliveries_led_to_runs(ground: &mut Ground) -> Vec<String> {
    ground.learn();
    let deliveries: BTreeMap<String, Value> =
        ground.deliveries().into_iter().map(|found| (text(&found["id"]).to_owned(), found)).collect();
    let mut commits = BTreeMap::new();
    for sent in &ground.sent {
        let Some(found) = deliveries.get(&sent.id) else {
            assert!(!sent.acknowledged, "{sent:?} was acknowledged, and nobody knows it");
            continue;
        };
        let runs = found["runs"].as_array().unwrap();
        assert_eq!((&found["status"], runs.len()), (&"handled".into(), 1), "{found:#}");
        let run = text(&runs[0]).to_owned();
        assert!(commits.insert(run, &sent.commit).is_none(), "two deliveries, one run: {found:#}");
    }
    let mut runs = ground.runs();
    runs.retain(is_counted);
    let there: BTreeSet<&str> = runs.iter().map(|run| text(&run["run"])).collect();
    let wanted: BTreeSet<&str> = commits.keys().map(String::as_str).collect();
    assert_eq!(there, wanted, "the runs there are, and those of the deliveries");
    for run in &runs {
        assert_eq!(run["commit"], **commits[text(&run["run"])], "{run:#}");
    }
    assert!(!runs.is_empty(), "nothing ever came in");
    runs.iter().map(|run| text(&run["run"]).to_owned()).collect()
}

/// How often each line was written down.
struct Ledger(BTreeMap<String, usize>);

impl Ledger {
    fn read(lines: &[String]) -> Self {
        let mut counts = BTreeMap::new();
        lines.iter().for_each(|line| *counts.entry(line.clone()).or_default() += 1);
        Self(counts)
    }

    fn take(&mut self, line: &str) -> usize {
        self.0.remove(line).unwrap_or(0)
    }
}

fn stage_is_well(ground: &Ground, run: &str, stage: &Value, killed: Killed, ledger: &mut Ledger) {
    let attempts = stage["history"].as_array().unwrap();
    assert_eq!(stage["attempts"], attempts.len(), "{stage:#}");
    if killed == Killed::Server {
        assert_eq!((&stage["status"], attempts.len()), (&"succeeded".into(), 1), "{run}: {stage:#}");
    }
    for (number, attempt) in (1..).zip(attempts) {
        let last = number == attempts.len();
        match text(&attempt["status"]) {
            "succeeded" => assert!(last, "{run} {stage:#}"),
            "failed" => {
                assert_eq!(attempt["cause"], "infrastructure", "{run} {stage:#}");
                is_named(run, text(&attempt["reason"]));
                // The policy that the pipeline states has decided.
                assert!(!last || number == 3, "{run} {stage:#}");
            }
            other => panic!("{run} ended with an attempt that is {other}: {stage:#}"),
        }
        if stage["uses"] == "script" {
            for (index, step) in attempt["steps"].as_array().unwrap().iter().enumerate() {
                let key = format!("{run} {} {} {number}", text(&stage["name"]), text(&step["name"]));
                let log = ground.world.data.join("logs").join(run).join(text(&stage["name"]));
                let log = log.join(number.to_string()).join(format!("{:02}.log", index + 1));
                step_is_well(&key, step, &log, ledger);
            }
        }
    }
}

/// Whatever was lost with a runner says so.
pub fn is_named(run: &str, reason: &str) {
    // It could not even be asked where each that was started was killed at once.
    let named = ["the runner died while it ran", "the runner cannot be reached: it "];
    assert!(named.iter().any(|words| reason.contains(words)), "{run}: {reason}");
}

/// Its side effect happened once, and its log has every line that it said, once, in their order.
fn step_is_well(key: &str, step: &Value, log: &Path, ledger: &mut Ledger) {
    let effects = (ledger.take(&format!("{key} starts")), ledger.take(&format!("{key} is done")));
    let all: String = (1..=LINES).map(|line| format!("{key} says line {line} of {LINES}\n")).collect();
    let said = fs::read_to_string(log).unwrap_or_default();
    match text(&step["status"]) {
        "succeeded" => {
            assert_eq!(effects, (1, 1), "{key}: {step:#}");
            assert_eq!(said, all, "the log of {key} is not whole");
            assert_eq!(step["log_bytes"], all.len(), "{key}: {step:#}");
        }
        "failed" => {
            assert!(effects <= (1, 1) && effects.0 >= effects.1, "{key} happened {effects:?} times");
            assert!(all.starts_with(&said), "{key} said something else than it said:\n{said}");
            assert_eq!(step["log_bytes"], said.len(), "{key}: {step:#}");
        }
        // The steps before it did not get there.
        "pending" | "skipped" => assert_eq!(effects, (0, 0), "{key}: {step:#}"),
        other => panic!("{key} ended as {other}: {step:#}"),
    }
}

/// What people are shown of a log is what is in it.
fn said_by_the_program(ground: &Ground, runs: &[String]) {
    let Some(run) = runs.last() else { return };
    let log = ground.world.data.join("logs").join(run).join("left/1/01.log");
    if let Ok(text) = fs::read_to_string(log) {
        let said = ground.world.windlass(&["logs", run, "left", "--attempt", "1"]).with(0);
        assert!(said.out.contains(text.trim_end()), "{}\n-- but --\n{text}", said.out);
    }
}

/// Nothing is in the data directory but what belongs there. Whoever is killed leaves its socket; the next that
/// listens takes its place, where one is needed. What SQLite keeps beside the database is its own business.
pub fn only_known_files(data: &Path) {
    const KNOWN: [&str; 21] = [
        "artifacts",
        "balancer.json",
        "balancer.lock",
        "balancer.log",
        "balancer.start.lock",
        "builders",
        "cache",
        "images",
        "instances",
        "lock",
        "home.json",
        "logs",
        "objects",
        "runner",
        "runner.lock",
        "runner.log",
        "runner.sock",
        "windlass.db",
        "windlass.db-shm",
        "windlass.db-wal",
        "workspaces",
    ];
    let names = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let unknown: Vec<String> =
        names(data).into_iter().filter(|name| !KNOWN.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "strays in the data directory: {unknown:?}");
    for name in names(&data.join("cache/git")) {
        let known = [".git", ".lock", ".config"].iter().any(|ending| name.ends_with(ending));
        assert!(known, "a stray in the cache: {name}");
    }
    assert_eq!(names(&data.join("runner/scripts")), [""; 0], "scripts of steps that are over");
    let mut own = names(&data.join("runner"));
    own.retain(|name| !["journal", "scripts"].contains(&name.as_str()));
    assert_eq!(own, [""; 0], "strays of the runner");
}

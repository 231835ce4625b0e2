//! What came out, in the documents: pictures and JSON in `benches/results`, the tables between two marks in
//! README.md and CONTRIBUTING.md.

use std::path::{Path, PathBuf};

use crate::measure::Summary;
use crate::report::Case;

const BEGIN: &str = "<!-- figures: measured -->\n";
const END: &str = "<!-- /figures -->";

/// Where the pictures that the documents show are.
pub fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results")
}

/// What the figures were measured on: `2 cores of Intel Xeon, Linux 6.1, 2026-11-22`.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": an unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let today = jiff::Zoned::now().date();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{cores} cores of {model}, Linux {}, {today}", kernel.trim())
}

/// Replaces the measured parts: all of it in CONTRIBUTING.md, what has a goal in README.md.
pub fn write(cases: &[Case], pictures: &[String]) -> std::io::Result<()> {
    let machine = machine();
    let judged: Vec<&Case> = cases.iter().filter(|case| !case.goals.is_empty()).collect();
    replace("README.md", &format!("On {machine}:\n\n{}", table(&judged)))?;
    let mut all = format!("On {machine}:\n\n{}\n", table(&cases.iter().collect::<Vec<_>>()));
    for picture in pictures {
        all.push_str(&format!("![{picture}](benches/results/{picture})\n"));
    }
    replace("CONTRIBUTING.md", &all)
}

fn replace(document: &str, measured: &str) -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path)?;
    let missing = || std::io::Error::other(format!("{document} has no {BEGIN}"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(&path, format!("{before}{BEGIN}{measured}{END}{after}"))
}

fn table(cases: &[&Case]) -> String {
    let mut table =
        "| | what | median (from – to) | beside | ratio | goal |\n|---|---|---|---|---|---|\n".to_owned();
    let mut row = "";
    for case in cases {
        let name = if case.row == row { "" } else { &case.row };
        row = &case.row;
        let show = |value| case.unit.show(value);
        let span = |summary: &Summary| match summary.rounds {
            1 => show(summary.median),
            _ => format!("{} ({} – {})", show(summary.median), show(summary.min), show(summary.max)),
        };
        let peers: Vec<String> =
            case.peers.iter().map(|peer| format!("{} {}", peer.name, show(peer.value.median))).collect();
        let ratios: Vec<String> = case.peers.iter().map(|peer| crate::report::ratio(&peer.ratio)).collect();
        let goals: Vec<String> = case
            .goals
            .iter()
            .map(|goal| format!("{}: {}", goal.goal, if goal.met { "met" } else { "**not met**" }))
            .collect();
        let note = case.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        table.push_str(&format!(
            "| {name} | {}{note} | {} | {} | {} | {} |\n",
            case.case.replace('|', "\\|"),
            span(&case.ours),
            peers.join("<br>"),
            ratios.join("<br>"),
            goals.join("<br>")
        ));
    }
    table
}

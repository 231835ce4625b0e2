//! Dependencies point down only: the table of what each room may import, and a check that the code
//! keeps to it.

use std::collections::BTreeMap;
use std::path::Path;

/// Each room and what it may import, besides itself. In reading order: nothing names a room below
/// its own line, so that there is no cycle.
const ROOMS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("clock", &[]),
    ("secret", &[]),
    ("wake", &[]),
    ("ipc", &[]),
    ("directory", &[]),
    ("space", &[]),
    ("backup", &["ids"]),
    ("pipeline", &["ids"]),
    ("run", &["ids", "pipeline"]),
    ("rollout", &["ids"]),
    ("artifact", &["ids"]),
    ("cloud", &["ids", "clock", "wake"]),
    ("reap", &["ids", "cloud"]),
    ("config", &["ids", "secret", "pipeline", "rollout", "cloud"]),
    ("store", &["ids", "directory", "space", "run"]),
    ("journal", &["ids", "run", "store"]),
    ("check", &["ids", "run", "store", "journal"]),
    ("log", &["ids", "secret", "wake"]),
    ("report", &["run"]),
    ("source", &["ids", "directory", "run"]),
    ("github", &["ids", "secret"]),
    ("balancer", &["ids", "wake", "ipc", "cloud"]),
    ("runner", &["ids", "wake", "ipc", "directory", "space", "pipeline", "log"]),
    (
        "stage",
        &[
            "ids", "clock", "secret", "space", "pipeline", "run", "rollout", "cloud", "artifact", "config",
            "store", "journal", "log", "report", "source", "runner",
        ],
    ),
    (
        "engine",
        &[
            "ids", "clock", "space", "pipeline", "run", "rollout", "cloud", "reap", "config", "store",
            "journal", "stage",
        ],
    ),
    (
        "intake",
        &[
            "ids", "clock", "secret", "wake", "pipeline", "run", "config", "store", "source", "github",
            "engine",
        ],
    ),
    (
        "http",
        &[
            "ids", "clock", "secret", "ipc", "space", "pipeline", "run", "config", "store", "journal", "log",
            "github", "engine", "intake",
        ],
    ),
    (
        "app",
        &[
            "ids", "backup", "clock", "ipc", "run", "cloud", "artifact", "config", "store", "check", "log",
            "source", "balancer", "runner", "stage", "engine", "intake",
        ],
    ),
    (
        "cli",
        &[
            "ids",
            "clock",
            "secret",
            "ipc",
            "directory",
            "space",
            "backup",
            "pipeline",
            "run",
            "reap",
            "rollout",
            "config",
            "store",
            "journal",
            "check",
            "log",
            "source",
            "balancer",
            "runner",
            "engine",
            "intake",
            "http",
            "app",
            "cloud",
        ],
    ),
];

/// Rooms that are values to values: they name none of these.
const PURE: &[&str] = &["pipeline", "run", "rollout", "reap", "check", "github"];
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "hyper",
    "axum",
    "git2",
    "tracing",
    "rustix",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
];

/// What of one file is against the table.
fn violations(room: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("the room {room} is not in the table")];
    };
    for line in code(text) {
        for (at, _) in line.match_indices("crate::") {
            let name: String =
                line[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let known = ROOMS.iter().any(|(room, _)| *room == name);
            if known && name != room && !allowed.contains(&name.as_str()) {
                found.push(format!("{room} imports {name}: {}", line.trim()));
            }
            if line[at + 7..].starts_with('{') {
                found.push(format!("{room} imports several rooms in one `use`: {}", line.trim()));
            }
        }
        if PURE.contains(&room) {
            let named = IMPURE.iter().filter(|word| names(line, word));
            found.extend(named.map(|word| format!("{room} is pure and names {word}: {}", line.trim())));
        }
    }
    found
}

/// Whether the line names the word as a path of its own, not as a part of another word.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        !part(before) && !part(after) && line[at..].contains("::")
    })
}

/// The lines of code: without comments, and without what follows `#[cfg(test)]`.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = Vec::new();
    let mut all = text.lines().peekable();
    while let Some(line) = all.next() {
        if line.trim() == "#[cfg(test)]" && all.peek().is_some_and(|next| next.trim_end().ends_with('{')) {
            break;
        }
        lines.push(line.split("//").next().unwrap_or_default());
    }
    lines.into_iter()
}

#[test]
fn the_code_keeps_to_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut files = 0;
    for entry in walkdir::WalkDir::new(&root).into_iter().filter_map(Result::ok) {
        let path = entry.path();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs") || path.ends_with("tests");
        if path.extension().is_none_or(|extension| extension != "rs") || tests {
            continue;
        }
        let inside = path.strip_prefix(&root).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "main" | "lib") {
            continue;
        }
        files += 1;
        let violations = violations(room, &std::fs::read_to_string(path).unwrap());
        if !violations.is_empty() {
            found.insert(inside.display().to_string(), violations);
        }
    }
    assert!(files > 50, "only {files} files were looked at");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_table_points_down_only() {
    for (at, (room, imports)) in ROOMS.iter().enumerate() {
        for import in *imports {
            let above = ROOMS[..at].iter().any(|(other, _)| other == import);
            assert!(above, "{room} imports {import}, which does not stand above it");
        }
    }
}

#[test]
fn an_import_against_the_table_is_found() {
    assert_eq!(violations("run", "use crate::ids::RunId;\n").len(), 0);
    assert_eq!(violations("run", "use crate::store::Store;\n").len(), 1);
    assert_eq!(violations("store", "fn x() { crate::engine::drive() }\n").len(), 1);
    assert_eq!(violations("run", "use tokio::sync::mpsc;\n").len(), 1);
    assert_eq!(violations("rollout", "let now = jiff::Timestamp::now();\n").len(), 1);
    assert_eq!(violations("engine", "use tokio::sync::mpsc;\n").len(), 0);
    assert_eq!(violations("run", "/// as [`crate::engine`] does with tokio::spawn\n").len(), 0);
    assert_eq!(violations("attic", "").len(), 1);
}

//! How things look as text, on a terminal or in a pipe.

use clap::builder::styling::{AnsiColor, Style};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::ids::CommitSha;
use crate::run::view::{ReplayView, StageStatus, Status, StepStatus};

pub const RED: Style = AnsiColor::Red.on_default();
pub const GREEN: Style = AnsiColor::Green.on_default();
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
pub const BLUE: Style = AnsiColor::Blue.on_default();
pub const CYAN: Style = AnsiColor::Cyan.on_default();
pub const DIM: Style = Style::new().dimmed();
pub const BOLD: Style = Style::new().bold();

/// Text from outside (a branch, a message, a step's name) as part of a line: nothing in it moves the
/// cursor, starts a line or turns the writing direction.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || crate::run::event::is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// The same for text that may have several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean_line(line.trim_end())).collect::<Vec<_>>().join("\n")
}

fn clean_line(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    format!("{}{}", " ".repeat(indent), clean(line))
}

/// At most `limit` characters of it.
pub fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// A stretch of time: `25 ms`, `0.4 s`, `41 s`, `2 min 5 s`, `1 h 2 min`.
pub fn time(duration: SignedDuration) -> String {
    let seconds = duration.as_secs_f64().max(0.0);
    match seconds {
        _ if seconds < 0.0995 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 59.5 => format!("{seconds:.0} s"),
        _ => {
            let whole = seconds.round() as u64;
            let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
            match (hours, rest) {
                (0, 0) => format!("{minutes} min"),
                (0, _) => format!("{minutes} min {rest} s"),
                (_, _) => format!("{hours} h {minutes} min"),
            }
        }
    }
}

/// From `start` to `end`.
pub fn between(start: Timestamp, end: Timestamp) -> String {
    time(end.duration_since(start))
}

/// The time of day where the user is.
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// Date and time where the user is.
pub fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `1 file`, `3 files`.
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// `812 B`, `12.3 kB`, `4.0 MB`.
pub fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        _ => format!("{:.1} MB", number as f64 / 1e6),
    }
}

/// A commit, or that there is none.
pub fn commit(sha: Option<&CommitSha>) -> &str {
    sha.map_or("no commit", CommitSha::short)
}

/// A symbol and a colour for what something is doing.
pub struct Look {
    pub symbol: &'static str,
    pub style: Style,
}

const GOOD: Look = Look { symbol: "✓", style: GREEN };
const BAD: Look = Look { symbol: "✗", style: RED };
const BUSY: Look = Look { symbol: "●", style: BLUE };
const WAITS: Look = Look { symbol: "‖", style: YELLOW };
const OFF: Look = Look { symbol: "○", style: DIM };
const ENDED: Look = Look { symbol: "–", style: DIM };

pub fn stage_look(status: StageStatus) -> Look {
    match status {
        StageStatus::Succeeded => GOOD,
        StageStatus::Failed => BAD,
        StageStatus::Running | StageStatus::Retrying => BUSY,
        StageStatus::Waiting | StageStatus::Queued => WAITS,
        StageStatus::Pending => OFF,
        StageStatus::Skipped | StageStatus::Cancelled => ENDED,
    }
}

pub fn step_look(status: StepStatus) -> Look {
    match status {
        StepStatus::Succeeded => GOOD,
        StepStatus::Failed => BAD,
        StepStatus::Running => BUSY,
        StepStatus::Pending => OFF,
        StepStatus::Skipped | StepStatus::Cancelled => ENDED,
    }
}

pub fn run_look(status: Status) -> Look {
    match status {
        Status::Succeeded => GOOD,
        Status::Failed => BAD,
        Status::Running | Status::Cancelling => BUSY,
        Status::Waiting | Status::Queued => WAITS,
        Status::Cancelled | Status::Superseded => ENDED,
    }
}

/// Who replayed what, with which changes: `octocat: --failed, with params.flavour=plain`.
pub fn replay(replay: &ReplayView) -> String {
    let edits: Vec<String> = replay.edits.iter().map(|edit| short(&clean(edit), 100)).collect();
    let edits = if edits.is_empty() { String::new() } else { format!(", with {}", edits.join(", ")) };
    format!("{}: {}{edits}", clean(&replay.actor), clean(&replay.request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_moves_nothing() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c\rd\ne\u{9b}"), "a[31mbcd e");
        assert_eq!(clean_lines("one\n  two\x07\nthree"), "one\n  two\nthree");
    }

    #[test]
    fn times_are_as_exact_as_people_want_them() {
        let shown = |ms| time(SignedDuration::from_millis(ms));
        assert_eq!(shown(25), "25 ms");
        assert_eq!(shown(400), "0.4 s");
        assert_eq!(shown(3_249), "3.2 s");
        assert_eq!(shown(9_960), "10 s");
        assert_eq!(shown(59_600), "1 min");
        assert_eq!(shown(125_000), "2 min 5 s");
        assert_eq!(shown(3_725_000), "1 h 2 min");
        assert_eq!(shown(-5), "0 ms");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(short("äöüß", 4), "äöüß");
        assert_eq!(short("äöüßé", 4), "äöü…");
    }
}

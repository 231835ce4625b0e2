//! How things read on a page.

use jiff::{SignedDuration, Timestamp};

use crate::engine::fleets::FleetView;
use crate::ids::CommitSha;
use crate::intake::PipelineView;
use crate::run::event::Shipment;
use crate::run::report::Tests;
pub use crate::run::report::full_name;

/// Makes what would hide, move or turn other text visible: control characters as their pictures, and
/// marks of writing direction (Unicode Technical Report 36) as their numbers. Whole pages go through this;
/// line ends and tabs stay.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_visible(&mut out, c);
    }
    out
}

/// One character of it.
pub fn push_visible(out: &mut String, c: char) {
    match c {
        '\n' | '\t' => out.push(c),
        // The pictures stand in Unicode in the order of what they picture.
        '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
        '\u{7f}' => out.push('\u{2421}'),
        // Joiners are part of words and emoji, and hide nothing.
        '\u{200c}' | '\u{200d}' => out.push(c),
        c if c.is_control() || crate::run::event::is_invisible(c) || c == '\u{61c}' => {
            out.push_str(&format!("‹U+{:04X}›", u32::from(c)));
        }
        c => out.push(c),
    }
}

/// A time: absolute for programs and on hovering, relative to be read.
pub fn when(at: &Timestamp, now: &Timestamp) -> String {
    let (exact, words) = (exact(at), ago(now.duration_since(*at)));
    format!("<time datetime=\"{at:.0}\" title=\"{exact}\" data-ago>{words}</time>")
}

/// A time with both in sight.
pub fn when_exactly(at: &Timestamp, now: &Timestamp) -> String {
    let (exact, words) = (exact(at), ago(now.duration_since(*at)));
    format!("<time datetime=\"{at:.0}\">{exact}</time> (<time datetime=\"{at:.0}\" data-ago>{words}</time>)")
}

/// A time that is to come.
pub fn until(at: &Timestamp) -> String {
    format!("<time datetime=\"{at:.0}\">{}</time>", at.strftime("%a %Y-%m-%d %H:%M UTC"))
}

fn exact(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The same words as `live.js` says.
fn ago(passed: SignedDuration) -> String {
    match passed.as_secs() {
        i64::MIN..=-1 => "soon".to_owned(),
        0..10 => "just now".to_owned(),
        seconds @ 10..60 => format!("{} s ago", seconds / 10 * 10),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h ago", seconds / 3_600),
        seconds @ 86_400..172_800 => format!("{} day ago", seconds / 86_400),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// From one time to another, or to now: `0.4 s`, `41 s`, `2 min 5 s`, `1 h 2 min`. Nothing for what has
/// not begun.
pub fn took(from: &Option<Timestamp>, to: &Option<Timestamp>, now: &Timestamp) -> String {
    let Some(from) = from else { return String::new() };
    let seconds = to.unwrap_or(*now).duration_since(*from).as_secs_f64().max(0.0);
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, rest) => format!("{rest} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// `60 ms`, `1.2 s`.
pub fn milliseconds(number: &u64) -> String {
    match *number {
        0..1_000 => format!("{number} ms"),
        _ => format!("{:.1} s", *number as f64 / 1e3),
    }
}

/// `85.00 %`, of hundredths of a per cent.
pub fn percent(hundredths: &u32) -> String {
    crate::run::report::percent(*hundredths)
}

/// So many tests failed beside those that are told one by one.
pub fn more(tests: &Tests) -> u64 {
    (u64::from(tests.failed) + u64::from(tests.errors)).saturating_sub(tests.failures.len() as u64)
}

/// Whether a run of it has to be given a param.
pub fn has_to_give(file: &PipelineView) -> bool {
    file.params.iter().any(|param| param.default.is_none())
}

/// How a fleet is, in a word: `initial` while a rollout is under way that nothing was there before.
pub fn fleet(fleet: &FleetView) -> &'static str {
    match (&fleet.rollout, fleet.image.is_some()) {
        _ if fleet.trouble.is_some() => "unhealthy",
        (Some(_), false) => "initial",
        (None, false) => "none",
        _ if fleet.healthy < fleet.size => "unhealthy",
        _ => "healthy",
    }
}

/// `1 file`, `3 files`.
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// `812 B`, `12.3 kB`, `4.0 MB`.
pub fn bytes(number: &u64) -> String {
    match *number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", *number as f64 / 1e3),
        _ => format!("{:.1} MB", *number as f64 / 1e6),
    }
}

pub fn commit(sha: &Option<CommitSha>) -> &str {
    sha.as_ref().map_or("no commit", CommitSha::short)
}

/// The first line.
pub fn subject(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// What comes after the first line.
pub fn body(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest.trim())
}

/// `Ada <ada@example.com>` without the address.
pub fn person(author: &str) -> &str {
    match author.split_once('<').map(|(name, _)| name.trim()) {
        Some(name) if !name.is_empty() => name,
        _ => author,
    }
}

/// A sign for a status beside its word, so that nothing rests on colour alone.
pub fn sign(status: &str) -> &'static str {
    match status {
        "succeeded" | "promoted" | "healthy" | "handled" => "✓",
        "failed" | "rejected" | "unhealthy" => "✗",
        "running" | "retrying" | "cancelling" | "initial" | "standby" => "●",
        "waiting" | "queued" | "draining" => "‖",
        "pending" | "none" => "○",
        _ => "–",
    }
}

/// What a gate shows: what runs there, and what would come. A decision is only taken on what was shown.
pub fn shown(ships: &Shipment) -> String {
    let running = ships.running_image.as_ref().map_or("nothing", |image| image.as_str());
    let image = ships.image.as_ref().map_or("nothing", |image| image.id.as_str());
    format!("{running} to {image}")
}

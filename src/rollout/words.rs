//! What a plan says to people.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Check, Life, Member, Traffic};

/// Which release the fleet moves to, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Back,
}

/// Why a member did not make it: its own last words, and what its last health check said.
pub(super) fn failed(member: &Member, patience: Duration) -> String {
    let mut text = match &member.life {
        Life::Failed(reason) => format!("{} ended by itself: {}", member.id, sentence(reason)),
        Life::Pending => format!("{} was not running {} after its launch", member.id, time(patience)),
        Life::Running => format!("{} was not healthy {} after its launch", member.id, time(patience)),
    };
    if let Some(check) = said(member) {
        let _ = write!(text, "; its last health check said: {}", sentence(check));
    }
    text
}

/// What is being waited for; `None` when nothing is.
pub(super) fn awaited(way: Way, coming: &[&Member], leaving: &[&Member]) -> Option<String> {
    let mut parts = Vec::new();
    if !coming.is_empty() {
        let which = match way {
            Way::Forward => "new",
            Way::Back => "old",
        };
        let mut part = format!("{} to become healthy", count(coming.len(), which, "instance"));
        let check = coming.iter().find_map(|member| said(member));
        if let Some(check) = check {
            let _ = write!(part, ": {}", sentence(check));
        }
        parts.push(part);
    }
    if let Some((first, more)) = leaving.split_first() {
        let open: u64 = leaving
            .iter()
            .map(|member| match member.traffic {
                Traffic::Draining { open_requests } => open_requests,
                _ => 0,
            })
            .sum();
        let who = match more.len() {
            0 => first.id.to_string(),
            more => format!("{} and {more} more", first.id),
        };
        parts.push(match open {
            0 => format!("{who} to drain"),
            1 => format!("{who} to finish 1 open request"),
            open => format!("{who} to finish {open} open requests"),
        });
    }
    (!parts.is_empty()).then(|| format!("waiting for {}", parts.join(" and for ")))
}

/// What is left where a release could not be brought up.
pub(super) fn stranded(ready: &[&Member], bad: &[&Member], size: usize) -> String {
    let mut text = format!("only {} of {size} instances came up", ready.len());
    let last = bad.iter().rev().find_map(|member| match (&member.life, &member.traffic) {
        (Life::Failed(reason), _) => Some(format!("{} ended by itself: {}", member.id, sentence(reason))),
        (_, Traffic::Unhealthy(check)) => Some(format!("{} is not healthy: {}", member.id, sentence(check))),
        _ => None,
    });
    if let Some(last) = last {
        let _ = write!(text, ": {last}");
    }
    text
}

/// What its last health check said.
fn said(member: &Member) -> Option<&str> {
    match &member.traffic {
        Traffic::Unhealthy(check) | Traffic::Standby(Check::Unhealthy(check)) => Some(check),
        _ => None,
    }
}

/// A message as part of a sentence: trimmed, without its period.
fn sentence(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

fn count(number: usize, which: &str, what: &str) -> String {
    match number {
        1 => format!("1 {which} {what}"),
        number => format!("{number} {which} {what}s"),
    }
}

pub(super) fn time(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

//! The small languages inside values: durations, shares, paths, variable names. Each says what is
//! wrong in a sentence that starts with what was written.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Longest time that may be asked for: a year. Longer ones are mistakes.
pub const TIME_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A number of members, or a part of the fleet's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Count(u32),
    /// 0 to 100.
    Percent(u32),
}

impl Share {
    /// How many members of `size` that are, rounded up.
    pub fn of(self, size: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let members = (u64::from(size) * u64::from(percent)).div_ceil(100);
                u32::try_from(members).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Reads `500ms`, `5s`, `15m`, `2h` and sums of them from large to small, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit; write \"{text}s\" or \"{text}m\""));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, next) = behind.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        if millis >= last_unit {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
        last_unit = millis;
        rest = next;
    }
    match text.is_empty() {
        true => Err(wrong()),
        false if total > TIME_LIMIT => Err(format!("{text:?} is longer than a year")),
        false => Ok(total),
    }
}

/// A duration as an author would write it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let mut out = String::new();
    let mut rest = millis;
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= size {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    match out.is_empty() {
        true => "0s".to_owned(),
        false => out,
    }
}

/// Reads `2` or `25%`.
pub fn share(text: &str) -> Result<Share, String> {
    let (number, percent) = match text.strip_suffix('%') {
        Some(number) => (number, true),
        None => (text, false),
    };
    let wrong = || format!("{text:?} is neither a number nor a percentage");
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match percent {
        true if number > 100 => Err(format!("{text:?} is more than 100%")),
        true => Ok(Share::Percent(number)),
        false => Ok(Share::Count(number)),
    }
}

/// Checks a path that stays below the directory it is relative to, and answers it without `.` and
/// needless slashes. `.` alone is the directory itself.
pub fn path(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a path cannot be empty".to_owned());
    }
    if text.starts_with('/') {
        return Err(format!("{text:?} is an absolute path; a path here is relative"));
    }
    if text.starts_with('~') {
        return Err(format!("{text:?} starts with `~`, which is not expanded here; a path here is relative"));
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err(format!("{text:?} has a character that paths here cannot have"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(format!("{text:?} has `..`; a path here never leaves its directory"));
    }
    match parts.is_empty() {
        true => Ok(".".to_owned()),
        false => Ok(parts.join("/")),
    }
}

/// Checks the name of an environment variable: letters, digits and underscores, no digit first; see
/// POSIX, "Environment Variable Definition".
pub fn variable(text: &str) -> Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match plain && !text.is_empty() && text.len() <= 200 && !text.as_bytes()[0].is_ascii_digit() {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is no name of an environment variable: letters, digits and underscores, no digit first"
        )),
    }
}

/// Checks the name of a param, so that `params.NAME` can be written.
pub fn param(text: &str) -> Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let start = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    match plain && start && text.len() <= 100 {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is no name of a param: letters, digits, underscores and hyphens, a letter first"
        )),
    }
}

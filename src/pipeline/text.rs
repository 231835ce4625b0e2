//! The small languages inside values: durations, shares, paths, names of many kinds. Each says what is
//! wrong in a sentence that starts with what was written.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};

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

/// Reads `512KiB`, `64MiB`, `2GiB` or `1TiB`: a number of bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; sizes are written 512KiB, 64MiB, 2GiB or 1TiB");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..) {
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some("TiB") => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
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

/// Reads the name of a time zone as the IANA's database has it, `Europe/Berlin`. The database is the one
/// in this program, so that every machine reads a file alike.
pub fn timezone(text: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(text).map_err(|_| format!("unknown time zone {text:?}"))
}

/// The names of the time zones, for suggestions.
pub fn timezones() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect());
    &NAMES
}

/// Checks a repository on GitHub, `owner/name`: exactly these two parts. The characters are those that
/// GitHub allows for accounts and repositories.
pub fn repository(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{text:?} is no repository on GitHub: {why}"));
    let Some((owner, name)) = text.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        return wrong("it is written owner/name");
    };
    let plain = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !plain(owner, b"-_") || owner.len() > 100 {
        return wrong("an owner has letters, digits and hyphens");
    }
    if !plain(name, b"-_.") || name.len() > 100 || matches!(name, "." | "..") {
        return wrong("a name has letters, digits, hyphens, dots and underscores");
    }
    match name.strip_suffix(".git") {
        Some(_) => wrong("its name is written without .git"),
        None => Ok(()),
    }
}

/// Checks the name of a branch, by what Git's check-ref-format(1) refuses.
pub fn branch(text: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let wrong = text.contains(bad)
        || text.contains("..")
        || text.contains("@{")
        || text == "@"
        || text.starts_with('-')
        || text.ends_with('.')
        || text.len() > 255
        || !text.split('/').all(part);
    match wrong {
        true => Err(format!("{text:?} cannot be the name of a branch")),
        false if text.starts_with("refs/") => {
            Err(format!("{text:?} is a whole ref; write the branch's name alone"))
        }
        false => Ok(()),
    }
}

/// Reads `85` or `85.5`, per cent with at most two decimals, as hundredths of a per cent.
pub fn per_cent(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no number from 0 to 100 with at most two decimals");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let part: u32 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
    let hundredths = whole.checked_mul(100).and_then(|whole| whole.checked_add(part));
    hundredths.filter(|hundredths| *hundredths <= 10_000).ok_or_else(wrong)
}

/// Checks a name that somebody acts under: letters, digits and `. _ - @ +`, at most 100 bytes. A colon would
/// make it look like a policy.
pub fn person(text: &str) -> Result<(), String> {
    let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+'));
    match plain && (1..=100).contains(&text.len()) {
        true => Ok(()),
        false => Err(format!("{text:?} is no name of a person: letters, digits and . _ - @ +")),
    }
}

/// Checks a login on GitHub: letters, digits and hyphens, of managed users underscores too, of apps `[bot]`.
pub fn login(text: &str) -> Result<(), String> {
    let name = text.strip_suffix("[bot]").unwrap_or(text);
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    match plain && (1..=100).contains(&name.len()) {
        true => Ok(()),
        false => Err(format!("{text:?} is no login on GitHub: letters, digits and hyphens")),
    }
}

/// Checks an address that commits are made with.
pub fn email(text: &str) -> Result<(), String> {
    let parts = text.split_once('@').filter(|(user, host)| !user.is_empty() && !host.is_empty());
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>'));
    match parts.is_some_and(|(_, host)| !host.contains('@')) && plain && text.len() <= 254 {
        true => Ok(()),
        false => Err(format!("{text:?} is no email address")),
    }
}

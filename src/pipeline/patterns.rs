//! Patterns of branches, tags and paths, as GitHub's workflows have them, matched with `globset`.
//!
//! Their order matters: a pattern allows, and one with `!` in front takes back what those before it
//! allowed. `*` stands for anything but `/`, `**` for anything, `?` for one character of ASCII, `[a-z]` for one of
//! these, and a backslash takes the meaning from the character behind it. Deliberately absent: GitHub's `+`
//! and its `?` that repeat the character before them; a `+` is refused, so that nobody waits for a match.

use globset::{GlobBuilder, GlobMatcher};

use super::model::{Patterns, PullRequest, Push};
use super::text;

#[cfg(test)]
mod tests;

/// Longest pattern, in bytes: as long as a name that Git takes, and short enough to be compiled at once.
const LIMIT: usize = 255;

/// Checks one pattern.
pub fn check(text: &str) -> Result<(), String> {
    let pattern = text.strip_prefix('!').unwrap_or(text);
    if pattern.is_empty() {
        return Err("a pattern cannot be empty".to_owned());
    }
    if text.len() > LIMIT {
        return Err(format!("a pattern has at most {LIMIT} bytes, this one {}", text.len()));
    }
    if pattern.chars().any(char::is_control) {
        return Err(format!("{text:?} has a character that patterns cannot have"));
    }
    let glob = glob(pattern).map_err(|unclear| match unclear {
        Unclear::Plus => format!(
            "{text:?} has a `+`, which repeats nothing here; write `*`, or `\\+` for the character itself"
        ),
        Unclear::Class(c) => format!(
            "{text:?} has {c:?} in brackets, where only characters of ASCII can stand; write `*`, or a pattern for each"
        ),
    })?;
    match GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{text:?} is no pattern: {}", error.kind())),
    }
}

/// Checks a pattern of paths that lie below a directory.
pub fn check_path(text: &str) -> Result<(), String> {
    check(text)?;
    let pattern = text.strip_prefix('!').unwrap_or(text);
    // Escapes and the rest of the pattern's language are no concern of a path's parts.
    text::path(&pattern.replace('\\', "")).map_err(|_| {
        format!("{text:?} matches no path: they are relative, without `..` and without `~` in front")
    })?;
    match pattern.starts_with("./")
        || pattern.contains("/./")
        || pattern.contains("//")
        || pattern.ends_with('/')
    {
        true => Err(format!(
            "{text:?} matches no path: they have no `./`, no `//` and no `/` at the end; all below a directory is dir/**"
        )),
        false => Ok(()),
    }
}

/// What would match something else than it says.
enum Unclear {
    /// It would have a meaning elsewhere.
    Plus,
    /// A character of several bytes between brackets, which stand for one byte.
    Class(char),
}

/// A pattern in the language of `globset`. There `**` means anything only between slashes; anywhere else it
/// is here an alternative of "within one part" and "across parts". Braces are characters.
fn glob(pattern: &str) -> Result<String, Unclear> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut before = None;
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            ']' => {
                class = false;
                out.push(c);
            }
            _ if class && !c.is_ascii() => return Err(Unclear::Class(c)),
            _ if class => out.push(c),
            '[' => {
                class = true;
                out.push(c);
                // A `]` that comes first, or after a `!`, is one of the characters.
                if let Some(not) = chars.next_if(|c| matches!(c, '!' | '^')) {
                    out.push(not);
                }
                out.extend(chars.next_if_eq(&']'));
            }
            '{' | '}' | ',' => out.extend(['\\', c]),
            '+' => return Err(Unclear::Plus),
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                let whole = before.is_none_or(|c| c == '/') && chars.peek().is_none_or(|c| *c == '/');
                out.push_str(match (stars, whole) {
                    (1, _) => "*",
                    (_, true) => "**",
                    (_, false) => "{*,*/**/*}",
                });
            }
            _ => out.push(c),
        }
        before = Some(c);
    }
    Ok(out)
}

/// Patterns that are ready for many texts.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Whether the pattern allows or takes back, and what it matches.
    rules: Vec<(bool, GlobMatcher)>,
}

impl Matcher {
    /// Whether the last pattern that matches `text` allows it.
    pub fn admits(&self, text: &str) -> bool {
        let found = self.rules.iter().rev().find(|(_, glob)| glob.is_match(text));
        found.is_some_and(|(allows, _)| *allows)
    }
}

impl Patterns {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes them ready, for many texts. What is no pattern matches nothing; reading a pipeline refuses it.
    pub fn matcher(&self) -> Matcher {
        let rule = |text: &String| {
            let (allows, pattern) = match text.strip_prefix('!') {
                Some(pattern) => (false, pattern),
                None => (true, text.as_str()),
            };
            let glob = glob(pattern).ok()?;
            let glob = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build().ok()?;
            Some((allows, glob.compile_matcher()))
        };
        Matcher { rules: self.0.iter().filter_map(rule).collect() }
    }

    /// Whether they allow `text`. Of no patterns nothing is allowed: what their absence means is said where
    /// they stand.
    pub fn admits(&self, text: &str) -> bool {
        self.matcher().admits(text)
    }

    fn admit_any<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let matcher = self.matcher();
        self.is_empty() || texts.into_iter().any(|text| matcher.admits(text))
    }
}

impl Push {
    /// Whether a push to this branch starts a run, by its name.
    pub fn takes_branch(&self, branch: &str) -> bool {
        match self.branches.is_empty() {
            true => self.tags.is_empty(),
            false => self.branches.admits(branch),
        }
    }

    /// Whether a push of this tag starts a run.
    pub fn takes_tag(&self, tag: &str) -> bool {
        self.tags.admits(tag)
    }

    /// Whether a push that changed these files starts a run.
    pub fn takes_paths<'a>(&self, changed: impl IntoIterator<Item = &'a str>) -> bool {
        self.paths.admit_any(changed)
    }
}

impl PullRequest {
    /// Whether a pull request that is to be merged into this branch starts a run, by the branch's name.
    pub fn takes_branch(&self, base: &str) -> bool {
        self.branches.admit_any([base])
    }

    /// Whether a pull request that changes these files starts a run.
    pub fn takes_paths<'a>(&self, changed: impl IntoIterator<Item = &'a str>) -> bool {
        self.paths.admit_any(changed)
    }
}

//! Patterns of branches and paths: what is accepted can be matched, and matches what a plain reading of it
//! says.

use windlass::pipeline::model::Patterns;
use windlass::pipeline::patterns::{check, check_path};

use super::{parts, text};

pub const WORDS: &[&str] = &[
    "*", "**", "?", "[a-z]", "[!a-z]", "[^a]", "[]", "[]a]", "[é-ü]", "[", "]", "{", "}", "{a,b}", ",", "\\",
    "\\*", "\\\\", "!", "/", "/**", "**/", "/**/", "main", "release/", "é", "😀", "+", "-", "a", ".", "..",
    "\0", "***", "****",
];

/// A pattern, then a name, between NULs.
pub fn target(data: &[u8]) {
    let [pattern, name] = parts(data);
    let (pattern, name) = (text(pattern), text(name));
    if check_path(pattern).is_ok() {
        assert!(check(pattern).is_ok(), "{pattern:?} is no pattern, but one of paths");
    }
    if check(pattern).is_err() {
        return;
    }
    let only = Patterns(vec![pattern.to_owned()]);
    let matcher = only.matcher();
    assert_eq!(matcher.admits(name), only.admits(name));
    match pattern.strip_prefix('!') {
        Some(_) => assert!(!matcher.admits(name), "it allows what it is to take back"),
        None => {
            let all = Patterns(vec!["**".to_owned(), format!("!{pattern}")]);
            if Patterns(vec!["**".to_owned()]).admits(name) {
                assert_ne!(matcher.admits(name), all.admits(name), "what it matches, it takes back too");
            }
            if pattern.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '-' | '.' | '_')) {
                assert_eq!(
                    matcher.admits(name),
                    name == pattern,
                    "{pattern:?} is a name, and {name:?} another"
                );
            }
            if name.len() <= 60
                && name.is_ascii()
                && let Some(tokens) = tokens(pattern)
            {
                let expected = plain(&tokens, &name.chars().collect::<Vec<_>>());
                assert_eq!(matcher.admits(name), expected, "{pattern:?} and {name:?}");
            }
        }
    }
}

enum Token {
    One(char),
    /// Anything but a slash.
    Any,
    /// One of these, or none of them.
    Class(Vec<(char, char)>, bool),
    Star,
}

/// The pattern taken apart; nothing of one with `**`, of which other tests speak, or with a class in which
/// something stands that may be read in two ways.
fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '\\' => Token::One(rest.next()?),
            '?' => Token::Any,
            '*' if rest.peek() == Some(&'*') => return None,
            '*' => Token::Star,
            '[' => {
                let not = rest.next_if(|c| matches!(c, '!' | '^')).is_some();
                let inside: Vec<char> = rest.by_ref().take_while(|c| *c != ']').collect();
                if inside.is_empty() || inside.iter().any(|c| !c.is_alphanumeric() && *c != '-') {
                    return None;
                }
                let mut ranges = Vec::new();
                let mut at = 0;
                while let Some(from) = inside.get(at) {
                    match (inside.get(at + 1), inside.get(at + 2)) {
                        _ if *from == '-' => return None,
                        (Some('-'), Some(to)) if *to != '-' => {
                            ranges.push((*from, *to));
                            at += 3;
                        }
                        _ => {
                            ranges.push((*from, *from));
                            at += 1;
                        }
                    }
                }
                Token::Class(ranges, not)
            }
            c => Token::One(c),
        });
    }
    Some(tokens)
}

fn plain(tokens: &[Token], name: &[char]) -> bool {
    // Which beginnings of the name the tokens so far match.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let c = at.checked_sub(1).map(|before| name[before]);
            let takes = c.is_some_and(|c| match token {
                Token::One(one) => c == *one,
                Token::Any | Token::Star => c != '/',
                Token::Class(ranges, not) => {
                    c != '/' && ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *not
                }
            });
            next[at] = match token {
                Token::Star => ends[at] || (takes && next[at - 1]),
                _ => takes && ends[at - 1],
            };
        }
        ends = next;
    }
    ends[name.len()]
}

//! Addresses of repositories: what is accepted reads back as itself, holds no password, and is for git and
//! ssh neither an option nor a helper that runs commands.

use std::path::Path;

use windlass::source::Address;

use super::text;

pub const WORDS: &[&str] = &[
    "https://",
    "http://",
    "ssh://",
    "file://",
    "git://",
    "ext::",
    "fd::",
    "::",
    "://",
    "git@",
    "@",
    ":",
    "/",
    "//",
    "-",
    "--upload-pack=",
    "-oProxyCommand=",
    "[::1]",
    "[",
    "]",
    "localhost",
    "127.0.0.1",
    "hunter2",
    ":hunter2@",
    "..",
    "./",
    "%2d",
    "%00",
    "%0a",
    "%3a",
    "#",
    "?",
    "\\",
    " ",
    ".git",
    ":22",
    "example.com",
];

pub fn target(data: &[u8]) {
    let text = text(data);
    let address = match Address::parse(text, Path::new("/no/where")) {
        Ok(address) => address,
        Err(error) => {
            // A password stands between a colon and the last `@` in front of the path.
            let secret = text.split_once("://").and_then(|(_, rest)| Some(rest.split_once('/')?.0));
            if let Some((user, _)) = secret.and_then(|authority| authority.rsplit_once('@'))
                && let Some((_, password)) = user.split_once(':')
                && (6..2_000).contains(&password.len())
                && !password.contains(|c: char| c.is_whitespace() || matches!(c, '\'' | '"'))
                && text.matches(password).count() == 1
            {
                let said = error.to_string();
                assert!(!said.contains(password), "the message tells the password: {said}");
            }
            return;
        }
    };
    let shown = address.to_string();
    assert!(!shown.starts_with('-'), "git takes it for an option: {shown:?}");
    assert!(!shown.chars().any(char::is_control), "it has control characters: {shown:?}");
    let again = Address::parse(&shown, Path::new("/some/where/else")).map(|again| again == address);
    assert!(matches!(again, Ok(true)), "{shown:?} does not read back as itself");
    match address.path() {
        Some(path) => assert!(path.is_absolute(), "{shown:?} depends on where it is read"),
        None => url(&shown),
    }
}

/// As git and ssh take it apart.
fn url(shown: &str) {
    let (scheme, rest) = match shown.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // In scp's way the host ends at the first colon that is not in brackets.
        None => {
            let from = shown.find("@[").and_then(|at| Some(at + shown[at..].find(']')?)).unwrap_or(0);
            let end = shown[from..].find(':').map_or(shown.len(), |at| from + at);
            ("ssh".to_owned(), &shown[..end])
        }
    };
    assert!(matches!(scheme.as_str(), "https" | "http" | "ssh"), "{shown:?}");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    assert!(scheme == "ssh" || user.is_empty(), "it holds a credential: {shown:?}");
    assert!(!user.contains(':'), "it holds a password: {shown:?}");
    assert!(!user.starts_with('-') && !host.starts_with('-'), "ssh takes it for an option: {shown:?}");
    let bare = host.trim_start_matches('[');
    assert!(!bare.starts_with('-'), "ssh takes it for an option: {shown:?}");
    if scheme == "http" {
        let name = match bare.len() < host.len() {
            true => bare.split_once(']').map_or(bare, |(name, rest)| {
                assert!(rest.is_empty() || rest.starts_with(':'), "{shown:?}");
                name
            }),
            false => host.split(':').next().unwrap_or_default(),
        };
        let here = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
        assert!(here, "it goes over the network unencrypted: {shown:?}");
    }
}

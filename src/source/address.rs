//! Addresses of repositories: which are accepted, and why others are not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Error;

/// Where commits are fetched from. Never holds a credential, so it may be shown and stored. Its
/// text reads back as the same address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// Absolute.
    Path(PathBuf),
    /// With the one protocol that git may use for it.
    Url { text: String, protocol: &'static str },
}

impl Address {
    /// Reads a path (relative to `relative_to`), `file://…`, `https://…`, `ssh://…` or
    /// `user@host:path`; `http://…` for loopback only.
    pub fn parse(text: &str, relative_to: &Path) -> Result<Self, Error> {
        let refused =
            |reason: &str| Error::Refused { address: hide_credentials(text), reason: reason.to_owned() };
        if text.is_empty() {
            return Err(refused("it is empty"));
        }
        if text.starts_with('-') {
            return Err(refused("it starts with a hyphen, like an option; write ./ before a path"));
        }
        if text.chars().any(char::is_control) {
            return Err(refused("it has control characters"));
        }
        let transport = text.find("::").filter(|end| {
            *end > 0 && text.bytes().take(*end).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+'))
        });
        if transport.is_some() {
            return Err(refused("helpers such as ext:: run commands; use https:// or ssh://"));
        }
        // What begins as a path is one, whatever else stands in it.
        let plain = text.starts_with(['/', '.']);
        if let Some((scheme, rest)) = text.split_once("://").filter(|_| !plain) {
            return url(text, &scheme.to_ascii_lowercase(), rest).map_err(|reason| refused(&reason));
        }
        if let Some((host, path)) = scp(text).filter(|_| !plain) {
            return match host.rsplit_once('@') {
                Some((user, host)) if user.contains(':') || bad_host(host) || bad_user(user) => {
                    Err(refused("that is no user and host"))
                }
                _ if path.is_empty() => Err(refused("it names no repository after the colon")),
                _ => Ok(Self(Kind::Url { text: text.to_owned(), protocol: "ssh" })),
            };
        }
        let path = std::path::absolute(relative_to.join(text))
            .map_err(|error| refused(&format!("its absolute path cannot be told: {error}")))?;
        // One directory, one cache, however it is written. What does not exist is reported when it
        // is read, and better there.
        Ok(Self(Kind::Path(path.canonicalize().unwrap_or(path))))
    }

    /// The directory, for a source on this machine.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Path(path) => Some(path),
            Kind::Url { .. } => None,
        }
    }

    /// The protocol that git may use, as in `GIT_ALLOW_PROTOCOL`.
    pub(super) fn protocol(&self) -> &'static str {
        match &self.0 {
            Kind::Path(_) => "file",
            Kind::Url { protocol, .. } => protocol,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Path(path) => f.pad(&path.to_string_lossy()),
            Kind::Url { text, .. } => f.pad(text),
        }
    }
}

fn url(text: &str, scheme: &str, rest: &str) -> Result<Address, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if scheme == "file" {
        if !matches!(authority, "" | "localhost") {
            return Err("a file:// address has three slashes: file:///srv/shop.git".to_owned());
        }
        let path = decode(&format!("/{path}"))?;
        if path.chars().any(char::is_control) {
            return Err("it has control characters".to_owned());
        }
        // Written in one way, as every other path.
        let path: PathBuf = Path::new(&path).components().collect();
        return Ok(Address(Kind::Path(path.canonicalize().unwrap_or(path))));
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), without_port(host)),
        None => (None, without_port(authority)),
    };
    let protocol = match scheme {
        "https" => "https",
        "ssh" => "ssh",
        "http" if loopback(host) => "http",
        "http" => return Err("http:// is not encrypted and only taken for this machine".to_owned()),
        other => return Err(format!("{other}:// is not taken; use a path, https:// or ssh://")),
    };
    match (protocol, user) {
        ("ssh", Some(user)) if user.contains(':') => {
            return Err("a password in an address ends up in logs and journals; use a key".to_owned());
        }
        ("https" | "http", Some(_)) => {
            return Err("a name or password in an address ends up in logs and journals; \
                        put it into ~/.netrc, or use ssh://"
                .to_owned());
        }
        (_, Some(user)) if bad_user(user) => return Err("that is no user".to_owned()),
        _ => {}
    }
    if bad_host(host) {
        return Err("it names no host".to_owned());
    }
    if path.is_empty() {
        return Err("it names no repository after the host".to_owned());
    }
    Ok(Address(Kind::Url { text: text.to_owned(), protocol }))
}

/// `user@host` and `path` of an address in scp's way. A path with a slash before the colon is a path.
fn scp(text: &str) -> Option<(&str, &str)> {
    let (host, path) = match text.find("@[") {
        // An address of IPv6 has colons itself.
        Some(at) if !text[..at].contains(['/', ':']) => {
            let end = at + text[at..].find("]:")? + 1;
            (&text[..end], &text[end + 1..])
        }
        _ => text.split_once(':')?,
    };
    (host.contains('@') && !host.contains('/')).then_some((host, path))
}

/// The host of an authority that has no user any more.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether it is neither a name nor an address, which is in brackets where it is one of IPv6. A leading
/// hyphen would be an option of ssh; the marks end a host for one program and not for another.
fn bad_host(host: &str) -> bool {
    let mark = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | ':' | '@' | '?' | '#' | '\\');
    match host.strip_prefix('[') {
        Some(rest) => !rest.strip_suffix(']').is_some_and(is_ipv6),
        None => host.is_empty() || host.starts_with('-') || host.contains(mark),
    }
}

/// An address of IPv6, perhaps with a zone (RFC 6874).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let plain = zone.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    address.parse::<std::net::Ipv6Addr>().is_ok() && plain && !zone.is_empty()
}

fn bad_user(user: &str) -> bool {
    user.is_empty() || user.starts_with('-') || user.chars().any(char::is_whitespace)
}

fn loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) if (high, low) != (0, 0) => bytes.push((high * 16 + low) as u8),
            _ => return Err("a % is followed by two hexadecimal digits".to_owned()),
        }
    }
    String::from_utf8(bytes).map_err(|_| "its path is not UTF-8".to_owned())
}

/// How far an `@` is looked for, in bytes: no password is longer, and a text full of addresses is looked
/// through once.
const LONGEST: usize = 4096;

/// The text with whatever stands before an `@` in a URL left out.
pub(super) fn hide_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    // Where the next `@` stands.
    let mut sign = 0;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        rest = after;
        let base = text.len() - after.len();
        if sign < base {
            sign = after.find('@').map_or(usize::MAX, |at| base + at);
        }
        if sign.saturating_sub(base) > LONGEST {
            continue;
        }
        let ends = |c: char| c.is_whitespace() || c == '\'' || c == '"';
        let near = &after[..after.floor_char_boundary(LONGEST.min(after.len()))];
        let whole = near.split(ends).next().unwrap_or_default();
        let authority = match whole.split('/').next().unwrap_or_default() {
            // Behind a colon stands a port, or a password that has a slash in it.
            part if without_port(part).contains(':') && !part.starts_with('[') => whole,
            part => part,
        };
        if let Some(at) = authority.rfind('@') {
            shown.push_str("…@");
            rest = after.get(at + 1..).unwrap_or_default();
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Address::parse(text, Path::new("/no/where")).map(|a| a.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_reads_back_as_itself() {
        for (text, shown) in [
            ("../shop", "/no/where/../shop"),
            ("/srv/shop.git", "/srv/shop.git"),
            ("./a:b", "/no/where/a:b"),
            ("file:///srv/a%20b.git", "/srv/a b.git"),
            ("https://example.com/acme/shop.git", "https://example.com/acme/shop.git"),
            ("http://127.0.0.1:8080/shop", "http://127.0.0.1:8080/shop"),
            ("http://[::1]:8080/shop", "http://[::1]:8080/shop"),
            ("ssh://git@example.com:22/shop", "ssh://git@example.com:22/shop"),
            ("git@example.com:acme/shop.git", "git@example.com:acme/shop.git"),
            ("git@[::1]:acme/shop.git", "git@[::1]:acme/shop.git"),
            ("ssh://git@[fe80::1%25eth0]:22/shop", "ssh://git@[fe80::1%25eth0]:22/shop"),
            ("file:///srv/git@a:b://c", "/srv/git@a:b:/c"),
        ] {
            let address = parse(text).unwrap();
            assert_eq!(address, shown);
            assert_eq!(parse(&address).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, why) in [
            ("", "empty"),
            ("--upload-pack=touch /tmp/x", "hyphen"),
            ("ext::sh -c id", "run commands"),
            ("fd::17/foo", "run commands"),
            ("git://example.com/shop", "git:// is not taken"),
            ("http://example.com/shop", "not encrypted"),
            ("http://localhost.example.com/shop", "not encrypted"),
            ("https://me:hunter2@example.com/shop", "~/.netrc"),
            ("https://hunter2@example.com/shop", "~/.netrc"),
            ("ssh://git:hunter2@example.com/shop", "use a key"),
            ("ssh://-oProxyCommand=id/shop", "no host"),
            ("ssh://-l@example.com/shop", "no user"),
            ("git@-oProxyCommand=id:shop", "no user and host"),
            ("git@example.com:", "no repository"),
            ("https://example.com", "no repository"),
            ("https://me:hun/hunter2@example.com/shop", "no host"),
            ("https://example.com#/shop", "no host"),
            ("https://example.com:22x/shop", "no host"),
            ("http://[::1]example.com/shop", "not encrypted"),
            ("git@[-oProxyCommand=id]:shop", "no user and host"),
            ("file:///a%0ab", "control"),
            ("file://server/shop", "three slashes"),
            ("file:///a%zz", "two hexadecimal digits"),
            ("a\nb", "control"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

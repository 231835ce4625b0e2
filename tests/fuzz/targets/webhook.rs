//! Webhooks: only what is signed over exactly these bytes passes, and what is understood names a repository,
//! a ref and a commit that git cannot take for anything else.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use windlass::github::{Notice, json, repository_of, told, verify};
use windlass::secret::Secret;

use super::{assert_plain, parts, text};

pub const WORDS: &[&str] = &[
    "push",
    "pull_request",
    "ping",
    "\0",
    "\"ref\":",
    "refs/heads/",
    "refs/tags/",
    "refs/heads/-u",
    "..",
    "\"before\":",
    "\"after\":",
    "\"deleted\":true",
    "\"forced\":true",
    "\"head_commit\":null",
    "\"repository\":",
    "\"full_name\":",
    "acme/storefront",
    "acme/../x",
    "\"id\":\"",
    "0000000000000000000000000000000000000000",
    "\"message\":\"[skip ci]\"",
    "\"pull_request\":",
    "\"number\":",
    "\"head\":",
    "\"base\":",
    "\"sha\":",
    "\"repo\":null",
    "\"action\":\"opened\"",
    "\"sender\":",
    "\"login\":",
    "{",
    "}",
    "[[[[[[[[",
    "null",
    "payload=",
    "%7B",
    "&",
    "application/x-www-form-urlencoded",
    "application/json",
    "\\u0000",
    "\\u202e",
    "-",
];

/// The event, the content type, and the body, between NULs.
pub fn target(data: &[u8]) {
    let [event, kind, body] = parts(data);
    signed(body);
    let kind = std::str::from_utf8(kind).ok().filter(|kind| !kind.is_empty());
    let Ok(payload) = json(kind, body) else { return };
    let is_json = std::str::from_utf8(&payload)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    let told = told(text(event), &payload);
    assert_eq!(told.is_ok(), is_json, "only what is JSON tells something, and all of that does");
    let Ok(told) = told else { return };
    match told {
        Notice::Ignored { reason } => {
            assert!(!reason.is_empty());
            assert_plain("the reason", &reason);
        }
        Notice::Push(push) => {
            repository(&push.repository);
            assert!(push.branch().is_some() != push.tag().is_some());
            reference(push.branch().or(push.tag()).unwrap_or_default());
            commit(push.commit.as_str());
            push.default_branch.as_deref().map(reference);
        }
        Notice::PullRequest(request) => {
            repository(&request.repository);
            reference(&request.branch);
            reference(&request.base);
            commit(request.commit.as_str());
        }
    }
    if let Some(repository) = repository_of(text(body)) {
        self::repository(repository);
    }
}

fn signed(body: &[u8]) {
    let secrets = [Secret::new("an old secret".to_owned()), Secret::new("a new secret".to_owned())];
    let mut mac = Hmac::<Sha256>::new_from_slice(b"a new secret").unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut signature = format!("sha256={digits}").into_bytes();
    assert!(verify(&secrets, Some(&signature), body).is_ok());
    assert!(verify(&secrets[..1], Some(&signature), body).is_err(), "another secret signed it");
    assert!(verify(&secrets, Some(&signature), &[body, b" "].concat()).is_err(), "the body was changed");
    assert!(verify(&secrets, Some(body), body).is_err() || body.is_empty());
    let at = 7 + body.len() % 64;
    signature[at] = if signature[at] == b'0' { b'1' } else { b'0' };
    assert!(verify(&secrets, Some(&signature), body).is_err(), "the signature was changed");
}

fn repository(name: &str) {
    let (owner, name) = name.split_once('/').expect("owner/name");
    for part in [owner, name] {
        assert!(
            !part.is_empty() && !part.contains(['/', '\\', '\0']) && !matches!(part, "." | ".."),
            "{part:?}"
        );
    }
}

fn reference(name: &str) {
    assert!(!name.is_empty() && !name.starts_with(['-', '/']) && !name.ends_with('/'), "{name:?}");
    assert!(
        !name.contains("..") && !name.chars().any(|c| c.is_control() || c.is_ascii_whitespace()),
        "{name:?}"
    );
}

fn commit(sha: &str) {
    assert!(matches!(sha.len(), 40 | 64) && sha.bytes().all(|b| b.is_ascii_hexdigit()), "{sha:?}");
    assert!(sha.bytes().any(|b| b != b'0'), "it is no commit");
}

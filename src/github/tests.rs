use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::secret::Secret;

const PUSH: &str = include_str!("tests/push.json");
const TAG: &str = include_str!("tests/push_tag.json");
const PULL_REQUEST: &str = include_str!("tests/pull_request.json");

fn signature(secret: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}").into_bytes()
}

fn secrets(values: &[&str]) -> Vec<Secret> {
    values.iter().map(|value| Secret::new((*value).to_owned())).collect()
}

/// A payload with a piece of it replaced, which has to be there.
#[track_caller]
fn with(payload: &str, old: &str, new: &str) -> String {
    assert!(payload.contains(old), "{old}");
    payload.replace(old, new)
}

#[track_caller]
fn ignored(event: &str, body: &str) -> String {
    match understand(event, body.as_bytes()) {
        Notice::Ignored { reason } => reason,
        notice => panic!("not ignored: {notice:?}"),
    }
}

#[track_caller]
fn pushed(body: &str) -> Push {
    match understand("push", body.as_bytes()) {
        Notice::Push(push) => push,
        notice => panic!("no push: {notice:?}"),
    }
}

#[test]
fn the_example_of_githubs_documentation_is_signed() {
    let signature = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let secrets = secrets(&["It's a Secret to Everybody"]);
    assert_eq!(verify(&secrets, Some(signature), b"Hello, World!"), Ok(()));
    assert_eq!(verify(&secrets, Some(signature), b"Hello, World"), Err(Unsigned::Wrong));
}

#[test]
fn either_of_two_secrets_signs() {
    let both = secrets(&["the old one", "the new one"]);
    for (secret, expected) in
        [("the old one", Ok(())), ("the new one", Ok(())), ("another", Err(Unsigned::Wrong))]
    {
        assert_eq!(verify(&both, Some(&signature(secret, b"{}")), b"{}"), expected, "{secret}");
    }
    assert_eq!(verify(&[], Some(&signature("", b"{}")), b"{}"), Err(Unsigned::Wrong), "no secret, no entry");
}

#[test]
fn what_is_no_signature_is_told_apart() {
    let secrets = secrets(&["secret"]);
    assert_eq!(verify(&secrets, None, b"{}"), Err(Unsigned::Missing));
    let right = signature("secret", b"{}");
    let cut = &right[..right.len() - 1];
    let sha1 = b"sha1=d3413345b0b5b5a6bb6f6b6b6f0e2a3b5b5a6bb6";
    let strange = [b"sha256=".as_slice(), &[0xff; 64]].concat();
    for bad in [b"".as_slice(), b"sha256=", cut, sha1, &strange, &right[7..]] {
        assert_eq!(verify(&secrets, Some(bad), b"{}"), Err(Unsigned::Malformed));
    }
    let upper = right.to_ascii_uppercase();
    assert_eq!(verify(&secrets, Some(&[b"sha256=", &upper[7..]].concat()), b"{}"), Ok(()));
}

#[test]
fn both_content_types_are_taken() {
    let body = br#"{"a":"b c+d"}"#;
    assert_eq!(json(Some("application/json; charset=utf-8"), body), Ok(Cow::Borrowed(body.as_slice())));
    assert_eq!(json(None, body), Ok(Cow::Borrowed(body.as_slice())));
    let form = b"x=1&payload=%7B%22a%22%3A%22b+c%2Bd%22%7D";
    assert_eq!(json(Some("application/x-www-form-urlencoded"), form), Ok(Cow::Owned(body.to_vec())));
    let form = |form: &'static [u8]| json(Some("application/x-www-form-urlencoded"), form);
    assert_eq!(form(b"y=1"), Err(BodyError::NoPayload));
    assert_eq!(form(b"payload=%7B"), Ok(Cow::Owned(b"{".to_vec())));
    assert!(matches!(json(Some("text/plain"), body), Err(BodyError::Kind(_))));
}

#[test]
fn what_is_told_is_json() {
    assert!(matches!(told("push", PUSH.as_bytes()), Ok(Notice::Push(_))));
    assert!(matches!(told("push", b"{}"), Ok(Notice::Ignored { .. })), "of another form, but JSON");
    let cut = &PUSH.trim_end()[..PUSH.trim_end().len() - 1];
    let long = format!("{PUSH} {{");
    let deep = "[".repeat(10_000);
    for bad in [b"{".as_slice(), b"{\"\xff\":1}", deep.as_bytes(), cut.as_bytes(), long.as_bytes()] {
        for event in ["push", "pull_request", "ping"] {
            assert!(matches!(told(event, bad), Err(BodyError::NotJson(_))), "{event}");
        }
    }
}

#[test]
fn a_push_to_a_branch_is_understood() {
    let push = pushed(PUSH);
    let expected = Push {
        repository: "acme/storefront".to_owned(),
        reference: "refs/heads/main".to_owned(),
        commit: "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b".parse().unwrap(),
        described: Some(Described {
            author: "Grace <grace@example.com>".to_owned(),
            message: "Count the visitors".to_owned(),
        }),
        change: Change::Since("1111111111111111111111111111111111111111".parse().unwrap()),
        default_branch: Some("main".to_owned()),
        sender: Some("octocat".to_owned()),
    };
    assert_eq!(push, expected);
    assert_eq!((push.branch(), push.tag()), (Some("main"), None));
    let zero = "0".repeat(40);
    for (old, new) in [
        ("1111111111111111111111111111111111111111", zero.as_str()),
        ("\"forced\": false", "\"forced\": true"),
    ] {
        assert_eq!(pushed(&with(PUSH, old, new)), Push { change: Change::Anew, ..expected.clone() });
    }
    let half = with(PUSH, "\"name\": \"Grace\", ", "");
    assert_eq!(pushed(&half), Push { described: None, ..expected.clone() });
    let nobody = with(PUSH, "\"login\": \"octocat\"", "\"login\": null");
    assert_eq!(pushed(&nobody).sender.as_deref(), Some("octo-pusher"));
}

#[test]
fn a_tag_points_at_a_commit() {
    let push = pushed(TAG);
    assert_eq!((push.branch(), push.tag(), &push.change), (None, Some("v1.4"), &Change::Anew));
    assert_eq!(push.commit.short(), "9f3c2a1b", "the commit, and not the annotated tag");
}

#[test]
fn what_starts_nothing_says_why() {
    let skipping = |word: &str| with(PUSH, "Count the visitors", &format!("Count the visitors\\n\\n{word}"));
    for (event, body, why) in [
        ("push", with(PUSH, "\"deleted\": false", "\"deleted\": true"), "main was deleted"),
        ("push", skipping("[skip ci]"), "[skip ci]"),
        ("push", skipping("[CI Skip]"), "[ci skip]"),
        ("push", skipping("[skip windlass]"), "[skip windlass]"),
        ("push", with(PUSH, "refs/heads/main", "refs/notes/main"), "neither a branch nor a tag"),
        ("push", with(PUSH, "refs/heads/main", "refs/heads/a..b"), "no name of a branch"),
        ("push", with(PUSH, "refs/heads/main", "refs/heads/-u"), "no name of a branch"),
        ("push", with(PUSH, "refs/heads/main", "refs/heads/a b"), "no name of a branch"),
        ("push", with(PUSH, "9f3c2a1b9f3c2a1b", "main"), "no commit"),
        ("push", with(PUSH, "acme/storefront", "acme/../storefront"), "no name of a repository"),
        ("push", with(PUSH, "\"before\"", "\"earlier\""), "missing field `before`"),
        ("push", "[]".to_owned(), "not as GitHub sends it"),
        ("push", "null".to_owned(), "not as GitHub sends it"),
        ("ping", "{}".to_owned(), "is set up"),
        ("star", "{}".to_owned(), "star events start nothing"),
        ("\u{7}", "{}".to_owned(), "\u{fffd} events"),
        ("pull_request", with(PULL_REQUEST, "synchronize", "labeled"), "labeled"),
        (
            "pull_request",
            with(
                PULL_REQUEST,
                "\"full_name\": \"acme/storefront\", \"fork\"",
                "\"full_name\": \"eve/s\", \"fork\"",
            ),
            "comes from eve/s: pull requests of forks are refused",
        ),
    ] {
        let reason = ignored(event, &body);
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_fork_that_is_gone_is_a_fork() {
    let mut event: serde_json::Value = serde_json::from_str(PULL_REQUEST).unwrap();
    event["pull_request"]["head"]["repo"] = serde_json::Value::Null;
    assert!(ignored("pull_request", &event.to_string()).contains("a fork that is gone"));
}

#[test]
fn a_pull_request_is_understood() {
    for action in ["opened", "synchronize", "reopened"] {
        let body = with(PULL_REQUEST, "synchronize", action);
        let expected = PullRequest {
            repository: "acme/storefront".to_owned(),
            number: 12,
            commit: "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b".parse().unwrap(),
            branch: "count".to_owned(),
            base: "main".to_owned(),
            sender: Some("octocat".to_owned()),
        };
        assert_eq!(understand("pull_request", body.as_bytes()), Notice::PullRequest(expected));
    }
}

#[test]
fn addresses_at_github_name_their_repository() {
    for address in [
        "https://github.com/acme/shop",
        "https://github.com/acme/shop.git",
        "https://github.com/acme/shop/",
        "ssh://git@github.com/acme/shop.git",
        "git@github.com:acme/shop.git",
    ] {
        assert_eq!(repository_of(address), Some("acme/shop"), "{address}");
    }
    for address in ["https://github.com.evil.example/acme/shop", "https://github.com/acme", "../shop", ""] {
        assert_eq!(repository_of(address), None, "{address}");
    }
}

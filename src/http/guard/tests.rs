use axum::body::Body;

use super::*;
use crate::config::{Person, SecretError, SecretSource, Settings};
use crate::http::AccessError;

const ADA: &str = "0123456789abcdef-ada";

/// Settings with a name, and with a token for each person.
fn settings(tokens: &[(&str, &str)]) -> (Settings, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.server.hosts = vec!["windlass.example.com".to_owned()];
    for (name, token) in tokens {
        let path = directory.path().join(name);
        std::fs::write(&path, token).unwrap();
        let person = Person { token: Some(SecretSource::File(path)), ..Person::default() };
        settings.people.insert((*name).to_owned(), person);
    }
    (settings, directory)
}

fn guard(address: &str, tokens: &[(&str, &str)]) -> Guard {
    let (settings, _directory) = settings(tokens);
    Guard { address: address.parse().unwrap(), access: Access::new(&settings).unwrap() }
}

/// `METHOD PATH`, and headers as lines.
fn request(line: &str, headers: &str) -> Request {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for header in headers.lines().filter(|line| !line.is_empty()) {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(Body::empty()).unwrap()
}

/// The status of the refusal; 0 when it passes.
fn status(guard: &Guard, line: &str, headers: &str) -> u16 {
    match guard.admit(&request(line, headers)) {
        Ok(_) => 0,
        Err(refused) => refused.into_response().status().as_u16(),
    }
}

#[test]
fn a_request_is_for_a_name_that_is_ours() {
    let guard = guard("127.0.0.1:7430", &[]);
    for (host, expected) in [
        ("127.0.0.1:7430", 0),
        ("localhost:7430", 0),
        ("LOCALHOST:7430", 0),
        ("[::1]:7430", 0),
        ("windlass.example.com", 0),
        ("Windlass.Example.com:443", 0),
        ("localhost", 421),
        ("localhost:7431", 421),
        ("192.168.0.1:7430", 421),
        ("evil.com:7430", 421),
        ("127.0.0.1.evil.com:7430", 421),
        ("windlass.example.com.evil.com", 421),
        ("windlass.example.com@127.0.0.1:7430", 421),
        ("not a host", 400),
    ] {
        assert_eq!(status(&guard, "GET /api/v1/runs", &format!("host: {host}")), expected, "{host}");
    }
    let two = "host: 127.0.0.1:7430\nhost: 127.0.0.1:7430";
    assert_eq!(status(&guard, "GET /", two), 400);
    assert_eq!(status(&guard, "GET /", ""), 400);
    assert_eq!(status(&guard, "GET http://evil.com/", "host: 127.0.0.1:7430"), 421);
}

#[test]
fn where_all_addresses_are_listened_at_each_of_them_is_good_and_no_name() {
    let guard = guard("0.0.0.0:80", &[]);
    for (host, expected) in [("10.0.0.7", 0), ("10.0.0.7:80", 0), ("10.0.0.7:81", 421), ("evil.com", 421)] {
        assert_eq!(status(&guard, "GET /", &format!("host: {host}")), expected, "{host}");
    }
}

#[test]
fn what_changes_something_comes_from_our_own_pages() {
    let guard = guard("127.0.0.1:7430", &[]);
    for (headers, expected) in [
        ("", 0),
        ("origin: http://127.0.0.1:7430", 0),
        ("origin: http://127.0.0.1:7430\nsec-fetch-site: same-origin", 0),
        ("origin: null", 403),
        ("origin: http://evil.com", 403),
        ("origin: http://127.0.0.1:7431", 403),
        ("origin: http://localhost:7430", 403),
        ("origin: file://127.0.0.1:7430", 403),
        ("sec-fetch-site: cross-site", 403),
        ("sec-fetch-site: same-site", 403),
        ("sec-fetch-site: none", 403),
    ] {
        let headers = format!("host: 127.0.0.1:7430\ncontent-type: application/json\n{headers}");
        assert_eq!(status(&guard, "POST /api/v1/runs", &headers), expected, "{headers}");
        assert_eq!(status(&guard, "POST /runs/hello/1", &headers), expected, "{headers}");
        // A signature says more than an origin.
        assert_eq!(status(&guard, "POST /webhooks/github", &headers), 0, "{headers}");
        assert_eq!(status(&guard, "GET /api/v1/runs", &headers), 0, "{headers}");
    }
    let proxied = "host: windlass.example.com\norigin: https://windlass.example.com";
    assert_eq!(status(&guard, "POST /runs/hello/1", proxied), 0);
}

#[test]
fn the_api_takes_json_and_forms_go_to_pages() {
    let guard = guard("127.0.0.1:7430", &[]);
    for (kind, expected) in [
        ("application/json", 0),
        ("application/json; charset=utf-8", 0),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("multipart/form-data", 415),
    ] {
        let headers = format!("host: 127.0.0.1:7430\ncontent-type: {kind}");
        assert_eq!(status(&guard, "POST /api/v1/runs", &headers), expected, "{kind}");
        assert_eq!(status(&guard, "POST /runs/hello/1", &headers), 0, "{kind}");
    }
}

#[test]
fn where_somebody_has_a_token_every_request_needs_one() {
    let guard = guard("127.0.0.1:7430", &[("ada", ADA), ("bob", "fedcba9876543210-bob")]);
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let caller = |authorization: &str| {
        let headers = format!("host: 127.0.0.1:7430\nauthorization: {authorization}");
        guard.admit(&request("GET /api/v1/runs", &headers)).ok()
    };
    let ada = Some(Caller::Person("ada".to_owned()));
    assert_eq!(caller(&format!("Bearer {ADA}")), ada);
    assert_eq!(caller(&format!("bearer {ADA}")), ada);
    assert_eq!(caller(&basic(&format!("ada:{ADA}"))), ada);
    assert_eq!(caller("Bearer fedcba9876543210-bob"), Some(Caller::Person("bob".to_owned())));
    for wrong in [
        "Bearer ".to_owned(),
        format!("Bearer {ADA}x"),
        format!("Digest {ADA}"),
        ADA.to_owned(),
        basic(&format!("bob:{ADA}")),
        basic(&format!(":{ADA}")),
        basic("ada"),
        "Basic %%%".to_owned(),
    ] {
        assert_eq!(caller(&wrong), None, "{wrong}");
    }
    let nothing = "host: 127.0.0.1:7430";
    assert_eq!(status(&guard, "GET /", nothing), 401);
    for open in ["GET /healthz", "GET /readyz", "POST /webhooks/github"] {
        assert_eq!(status(&guard, open, nothing), 0, "{open}");
    }
    let refused = guard.admit(&request("GET /", nothing)).err().unwrap().into_response();
    let schemes: Vec<_> = refused.headers().get_all(header::WWW_AUTHENTICATE).iter().collect();
    assert_eq!(schemes.len(), 2);
    assert!(schemes[0].to_str().unwrap().starts_with("Basic "));
}

#[test]
fn who_has_a_credential_is_nobody_else() {
    let ada = Caller::Person("ada".to_owned());
    for said in [None, Some(""), Some("ada")] {
        assert_eq!(ada.actor(said).unwrap(), Actor { name: "ada".to_owned(), verified: true });
    }
    assert_eq!(ada.actor(Some("bob")).unwrap_err().status, 403);
    assert!(!Caller::Somebody.actor(Some("bob")).unwrap().verified);
    assert_eq!(Caller::Somebody.actor(None).unwrap_err().status, 400);
    assert_eq!(Caller::Somebody.actor(Some("policy:command-line")).unwrap_err().status, 400);
}

#[test]
fn tokens_that_prove_nothing_are_refused() {
    let refusal = |tokens: &[(&str, &str)]| {
        let (settings, _directory) = settings(tokens);
        Access::new(&settings).err().unwrap()
    };
    assert!(matches!(refusal(&[("ada", "short")]), AccessError::Secret(SecretError::TooFew { .. })));
    assert!(matches!(
        refusal(&[("ada", ADA), ("bob", ADA)]),
        AccessError::Secret(SecretError::Shared { .. })
    ));
    assert!(matches!(refusal(&[("ada", "")]), AccessError::Secret(SecretError::Empty(_))));
}

#[test]
fn settings_that_are_read_again_hold_at_once_and_never_open_the_door() {
    let (first, _first) = settings(&[("ada", ADA)]);
    let access = Access::new(&first).unwrap();
    let (none, _none) = settings(&[]);
    assert!(matches!(access.replace(&none), Err(AccessError::Open)));
    assert_eq!(access.person(&Proof::Bearer(ADA)).as_deref(), Some("ada"));
    let (second, _second) = settings(&[("bob", "fedcba9876543210-bob")]);
    access.replace(&second).unwrap();
    assert_eq!(access.person(&Proof::Bearer(ADA)), None);
    assert_eq!(access.person(&Proof::Bearer("fedcba9876543210-bob")).as_deref(), Some("bob"));
}

use super::*;
use crate::rollout::Rolling;
use std::path::Path;

const SETTINGS: &str = r#"
environments:
  staging:
    group: qa
    fleets:
      storefront: { cloud: local, size: 1, port: 7431, health: { path: /healthz, interval: 500ms, healthy: 3, unhealthy: 4 }, drain: 5s }
  production:
    group: production
    promotion: manual
    approvals: { count: 2, roles: [release-manager, owner], author: false }
    freeze:
      - { from: "Fri 16:00", to: "Mon 07:00", timezone: Europe/Berlin, reason: weekend }
      - { from: "2026-12-20 00:00", to: "2027-01-02 00:00", timezone: UTC, reason: holidays }
    fleets:
      storefront:
        { cloud: local, size: 3, port: 7432, health: { path: /healthz }, strategy: { rolling: { batch: 50%, surge: 1, floor: 50% } }, env: { SHOP_DB: "postgres://x", ON: yes, V: 1.10 } }
  edge: { group: edge }
secrets: { NPM_TOKEN: { env: NPM_TOKEN }, SIGNING_KEY: { file: keys/signing } }
people:
  octocat: { roles: [release-manager], emails: [Octocat@Example.com], github: octocat, token: { file: keys/octocat } }
  mona: { roles: owner, emails: mona@example.com }
  hubot: {}
github:
  webhook_secrets: [{ env: WINDLASS_TEST_HOOK }, { file: hook }]
  repositories: { acme/storefront: { url: ../storefront } }
runner: { slots: 4, pass: [CARGO_HOME, RUSTUP_HOME], log_limit: 64MiB }
"#;

fn settings() -> Settings {
    Settings::parse(SETTINGS, "windlass.yaml", Path::new("/etc/windlass/windlass.yaml"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn settings_are_read_with_their_defaults() {
    let settings = settings();
    let (staging, production) = ("staging".parse().unwrap(), "production".parse().unwrap());
    let service = "storefront".parse().unwrap();
    let fleet = settings.fleet(&staging, &service).unwrap();
    assert_eq!((fleet.size, fleet.port), (1, 7431));
    assert_eq!(
        fleet.health,
        HealthCheck {
            path: "/healthz".into(),
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(2),
            healthy: 3,
            unhealthy: 4,
        }
    );
    assert_eq!(fleet.strategy, Strategy::Rolling(Rolling { batch: 1, surge: 1, floor: 1 }));
    assert_eq!((fleet.drain, fleet.patience), (Duration::from_secs(5), Duration::from_secs(60)));
    let fleet = settings.fleet(&production, &service).unwrap();
    assert_eq!(fleet.strategy, Strategy::Rolling(Rolling { batch: 2, surge: 1, floor: 2 }));
    assert_eq!(fleet.health.interval, Duration::from_secs(1));
    // Values are the text that was written.
    let env: Vec<_> = fleet.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["ON=yes", "SHOP_DB=postgres://x", "V=1.10"]);
    assert_eq!(settings.environments[&production].promotion, Promotion::Manual);
    assert_eq!(settings.environments["edge"].group, Group::Other("edge".into()));
    assert_eq!((settings.runner.slots, settings.runner.log_limit), (4, 64 * 1024 * 1024));
    assert_eq!(settings.runner.pass, ["CARGO_HOME", "RUSTUP_HOME"]);
    assert_eq!(settings.secrets["SIGNING_KEY"], SecretSource::File("/etc/windlass/keys/signing".into()));
}

#[test]
fn people_approvals_freezes_and_github_are_read() {
    let settings = settings();
    let octocat = &settings.people["octocat"];
    assert_eq!(octocat.roles, ["release-manager".to_owned()].into());
    assert_eq!(octocat.emails, ["octocat@example.com".to_owned()].into());
    assert_eq!(octocat.github.as_deref(), Some("octocat"));
    assert_eq!(octocat.token, Some(SecretSource::File("/etc/windlass/keys/octocat".into())));
    assert_eq!(settings.people["mona"].roles, ["owner".to_owned()].into());
    assert_eq!(settings.people["hubot"], Person::default());
    let production = &settings.environments["production"];
    let roles = ["owner".to_owned(), "release-manager".to_owned()].into();
    // Who may not approve their own may not have the command line do it.
    assert_eq!(production.approvals, Approvals { count: 2, roles, author: false, automation: false });
    assert_eq!(settings.environments["staging"].approvals, Approvals::default());
    let spans: Vec<_> = production.freezes.iter().map(|freeze| freeze.span.to_string()).collect();
    assert_eq!(
        spans,
        ["every week from Fri 16:00 to Mon 07:00", "from 2026-12-20 00:00 to 2027-01-02 00:00"]
    );
    assert_eq!(
        settings.github.webhook_secrets,
        [SecretSource::Env("WINDLASS_TEST_HOOK".into()), SecretSource::File("/etc/windlass/hook".into())]
    );
    let url = Some("../storefront".to_owned());
    assert_eq!(settings.github.repositories["acme/storefront"], Repository { url });
    assert_eq!(settings.github.url("Acme/Storefront"), Some("../storefront"));
    assert_eq!(settings.github.url("acme/other"), None);
}

#[test]
fn what_lets_somebody_in_is_long_enough_and_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &str| std::fs::write(directory.path().join(name), value).unwrap();
    write("a", "0123456789abcdef\n");
    write("b", "0123456789abcdef");
    write("c", "fedcba9876543210");
    write("short", "0123456789abcde\n");
    write("tiny", "1234567\n");
    let read = |text: &str| Settings::parse(text, "w", &directory.path().join("w.yaml")).unwrap();
    let tokens = |text: &str| read(text).tokens();
    let good =
        tokens("people: { ada: { token: { file: a } }, bob: { token: { file: c } }, eve: {} }").unwrap();
    let good: Vec<_> = good.iter().map(|(name, token)| (name.as_str(), token.expose())).collect();
    assert_eq!(good, [("ada", "0123456789abcdef"), ("bob", "fedcba9876543210")]);
    let same = tokens("people: { ada: { token: { file: a } }, bob: { token: { file: b } } }");
    assert!(
        matches!(same, Err(SecretError::Shared { person, other }) if (person.as_str(), other.as_str()) == ("bob", "ada"))
    );
    let short = tokens("people: { ada: { token: { file: short } } }").unwrap_err();
    assert!(short.to_string().starts_with("the token of ada has fewer than 16 bytes"), "{short}");
    let gone = tokens("people: { ada: { token: { env: WINDLASS_TEST_NEVER_SET } } }").unwrap_err();
    assert!(matches!(gone, SecretError::NotSet { .. }), "{gone}");
    let hooks = |text: &str| read(text).webhook_secrets();
    assert_eq!(hooks("github: { webhook_secrets: [{ file: short }, { file: a }] }").unwrap().len(), 2);
    assert!(hooks("runner: { slots: 1 }").unwrap().is_empty());
    let tiny = hooks("github: { webhook_secrets: [{ file: a }, { file: tiny }] }").unwrap_err();
    assert!(matches!(&tiny, SecretError::TooFew { least: 8, .. }), "{tiny}");
    assert!(tiny.to_string().contains("second of github.webhook_secrets"), "{tiny}");
}

#[test]
fn pipelines_see_places_and_names_only() {
    let seen = settings().surroundings();
    assert_eq!(seen.settings, "windlass.yaml");
    assert!(seen.environments["production"].certified_only);
    assert!(!seen.environments["staging"].certified_only);
    assert!(seen.environments["edge"].services.is_empty());
    assert!(seen.secrets.contains("NPM_TOKEN"));
}

#[test]
fn a_secret_is_looked_up_late_and_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("good"), "hunter2\n").unwrap();
    std::fs::write(directory.path().join("lines"), "a\nb\n\n").unwrap();
    std::fs::write(directory.path().join("empty"), "\n").unwrap();
    std::fs::write(directory.path().join("binary"), [0xff, 0xfe]).unwrap();
    std::fs::write(directory.path().join("nul"), "a\0b").unwrap();
    let text = "secrets:\n  GOOD: { file: good }\n  LINES: { file: lines }\n  EMPTY: { file: empty }\n  BINARY: { file: binary }\n  NUL: { file: nul }\n  GONE: { file: gone }\n  UNSET: { env: WINDLASS_TEST_NEVER_SET }\n";
    let settings = Settings::parse(text, "w", &directory.path().join("w.yaml")).unwrap();
    let value = |name: &str| settings.secret(name).map(|secret| secret.expose().to_owned());
    assert_eq!(value("GOOD").unwrap(), "hunter2");
    assert_eq!(value("LINES").unwrap(), "a\nb\n");
    assert!(matches!(value("EMPTY"), Err(SecretError::Empty(_))));
    assert!(matches!(value("BINARY"), Err(SecretError::NotText(_))));
    assert!(matches!(value("NUL"), Err(SecretError::NotText(_))));
    assert!(matches!(value("GONE"), Err(SecretError::Unreadable { .. })));
    assert!(matches!(value("NONE"), Err(SecretError::Unknown(_))));
    assert!(value("UNSET").unwrap_err().to_string().contains("WINDLASS_TEST_NEVER_SET, which is not set"));
}

#[test]
fn settings_that_cannot_be_read_are_a_problem() {
    let problems = Settings::read(Path::new("/nowhere/windlass.yaml")).unwrap_err();
    assert!(
        problems.to_string().starts_with("/nowhere/windlass.yaml:1:1: error: the settings cannot be read:")
    );
}

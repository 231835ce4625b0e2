//! What is allowed, what is asked and what is missing: three views of the same requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use windlass::cloud::aws::doctor::{Demand, Plan};
use windlass::cloud::aws::operations::{self, Operation};
use windlass::cloud::aws::policy::{Document, FleetUse, Uses, documents};
use windlass::cloud::aws::{Accounts, limiter::Count};
use windlass::cloud::finding::{Finding, Found};
use windlass::cloud::hearing::{Call, Hearer, heard};
use windlass::cloud::setup::{self, Fleet, Instances};
use windlass::cloud::{Base, Error};
use windlass::ids::FleetId;

use crate::emulator::Emulator;

fn id(environment: &str) -> FleetId {
    FleetId::new("storefront".parse().unwrap(), environment.parse().unwrap())
}

fn plan(emulator: &Emulator, environments: &[&str]) -> Plan {
    let demand = Demand { size: 2, more: 1, batch: 1, blue_green: false };
    Plan {
        service: Some("storefront".parse().unwrap()),
        bases: vec![Base::Id(emulator.world.base.ami.clone())],
        fleets: environments.iter().map(|environment| (id(environment), demand)).collect(),
    }
}

fn setup(emulator: &Emulator, fleets: &[(&str, Fleet)]) -> Arc<setup::Aws> {
    Arc::new(setup::Aws {
        account: emulator.account(),
        builder: Some(emulator.builder()),
        fleets: fleets.iter().map(|(name, fleet)| (id(name), fleet.clone())).collect(),
    })
}

fn found(findings: &[Finding], found: Found) -> Vec<String> {
    let some = findings.iter().filter(|finding| finding.found == found);
    some.map(|finding| format!("{}: {}", finding.about, finding.says)).collect()
}

fn both(emulator: &Emulator) -> [(&'static str, Fleet); 2] {
    [("staging", emulator.fleet("staging")), ("production", emulator.group_fleet())]
}

/// All that these fleets may do, with one set of credentials.
fn allowed(setup: &setup::Aws) -> Vec<Document> {
    let fleets = setup.fleets.iter();
    let fleets = fleets.map(|(id, fleet)| FleetUse { id: id.clone(), fleet: fleet.clone() }).collect();
    let services = BTreeSet::from(["storefront".parse().unwrap()]);
    let (account, builder) = (setup.account.clone(), setup.builder.clone());
    documents(&Uses { account, objects: true, builder, fleets, services })
}

/// The requests that the policy does not allow.
fn beyond(emulator: &Emulator, documents: &[Document]) -> Vec<String> {
    let actions = (documents.iter())
        .flat_map(|document| &document.policy.statement)
        .flat_map(|statement| statement.action.iter().copied());
    not_among(emulator, &actions.collect())
}

/// The requests that take other actions than these.
pub fn not_among(emulator: &Emulator, actions: &BTreeSet<&str>) -> Vec<String> {
    let calls = emulator.calls();
    assert!(!calls.is_empty());
    let names: BTreeSet<(String, String)> =
        calls.into_iter().map(|call| (call.service, call.operation)).collect();
    let known: BTreeMap<(&str, &str), &Operation> =
        operations::all().map(|operation| ((operation.service, operation.name), operation)).collect();
    let mut beyond = Vec::new();
    for (service, name) in &names {
        match known.get(&(service.as_str(), name.as_str())) {
            None => beyond.push(format!("{service}:{name} is not in the table")),
            Some(operation) => {
                let refused = operation.grants.iter().filter(|grant| grant.on != operations::On::Everybody);
                // What is launched without a profile passes none.
                let refused = refused.filter(|grant| !grant.action.starts_with("iam:"));
                let refused = refused.filter(|grant| !actions.contains(grant.action));
                beyond.extend(refused.map(|grant| format!("{service}:{name} takes {}", grant.action)));
            }
        }
    }
    beyond
}

#[tokio::test]
async fn where_all_is_there_nothing_is_missing_and_all_that_was_asked_is_allowed() {
    let emulator = Emulator::start(json!({}));
    let setup = setup(&emulator, &both(&emulator));
    let accounts = Accounts::with(emulator.config());
    let plan = plan(&emulator, &["staging", "production"]);
    let findings = accounts.examine(&setup, &plan).await.unwrap();
    assert_eq!(found(&findings, Found::Missing), [""; 0], "{findings:#?}");
    let ok = found(&findings, Found::Ok).join("\n");
    for about in [
        "credentials: arn:",
        "bucket ",
        "builder: launching: allowed",
        "storefront-staging: launching: allowed",
    ] {
        assert!(ok.contains(about), "{about}: {findings:#?}");
    }
    assert_eq!(beyond(&emulator, &allowed(&setup)), [""; 0]);
    let state = emulator.state();
    assert_eq!(state["instances"], json!([]), "a dry run launches nothing");
    assert_eq!(state["uploads"], json!([]), "the probe is given up");
}

#[tokio::test]
async fn whatever_is_missing_is_named_with_what_to_do() {
    let emulator = Emulator::start(json!({}));
    let mut staging = emulator.fleet("staging");
    staging.target_groups[0].push_str("0000");
    let mut production = emulator.group_fleet();
    production.instances = Instances::Group("nobody".to_owned());
    let mut setup = (*setup(&emulator, &[("staging", staging), ("production", production)])).clone();
    setup.account.bucket = "nobody-has-this".to_owned();
    setup.builder.as_mut().unwrap().subnet = "subnet-0123456789abcdef0".to_owned();
    let accounts = Accounts::with(emulator.config());
    let plan = plan(&emulator, &["staging", "production"]);
    let findings = accounts.examine(&Arc::new(setup), &plan).await.unwrap();
    let missing = found(&findings, Found::Missing).join("\n");
    for what in [
        "bucket nobody-has-this: there is no such bucket",
        "builder: there is no subnet-0123456789abcdef0",
        "storefront-production: group nobody: there is no such Auto Scaling group",
        "storefront-staging: target group staging: there is none",
    ] {
        assert!(missing.contains(what), "{what}: {missing}");
    }
    let told = findings.iter().filter(|finding| finding.found != Found::Ok);
    assert!(told.clone().count() > 0 && told.clone().all(|finding| finding.next.is_some()), "{findings:#?}");
}

#[derive(Default)]
struct Calls(Mutex<Vec<(String, Option<String>)>>);

impl Hearer for Calls {
    fn say(&self, _: &str) {}
    fn called(&self, call: &Call<'_>) {
        let name = format!("{}:{}", call.service, call.operation);
        self.0.lock().unwrap().push((name, call.error.map(str::to_owned)));
    }
}

#[tokio::test]
async fn throttling_is_waited_out_and_every_request_is_heard_and_counted() {
    let emulator = Emulator::start(json!({}));
    emulator.rule(json!({ "operations": ["ec2:*"], "every": 3, "fault": "throttle" }));
    let setup = setup(&emulator, &both(&emulator)[..1]);
    let accounts = Accounts::with(emulator.config());
    let calls = Arc::new(Calls::default());
    let plan = plan(&emulator, &["staging"]);
    let findings = heard(calls.clone(), accounts.examine(&setup, &plan)).await.unwrap();
    assert_eq!(found(&findings, Found::Missing), [""; 0], "{findings:#?}");
    let heard = calls.0.lock().unwrap().clone();
    let counts = accounts.requests();
    let total = |of: fn(&Count) -> u64| counts.values().map(of).sum::<u64>();
    assert_eq!(total(|count| count.requests), heard.len() as u64);
    assert_eq!(total(|count| count.requests), emulator.calls().len() as u64);
    let throttled = emulator.calls().iter().filter(|call| call.fault.is_some()).count() as u64;
    assert!(throttled > 0, "{counts:?}");
    assert_eq!(total(|count| count.throttled), throttled, "{heard:?}");
}

#[tokio::test]
async fn one_limiter_is_for_all_who_send_to_the_account() {
    let emulator = Emulator::start(json!({}));
    let mut first = (*setup(&emulator, &both(&emulator)[..1])).clone();
    first.account.rate = 8;
    // Another service is another setup of the same account.
    let mut second = first.clone();
    second.fleets.clear();
    let accounts = Accounts::with(emulator.config());
    let plan = plan(&emulator, &["staging"]);
    let began = Instant::now();
    let (first, second) = (Arc::new(first), Arc::new(second));
    let (one, two) = tokio::join!(accounts.examine(&first, &plan), accounts.examine(&second, &plan));
    one.unwrap();
    two.unwrap();
    let sent = emulator.calls().len() as u32;
    assert!(sent > 12, "{sent}");
    // A second's worth at once, and then so many a second.
    assert!(
        began.elapsed() >= Duration::from_secs(1) * (sent - 8) / 8 * 9 / 10,
        "{sent} in {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_aws_that_does_not_answer_is_not_called_missing() {
    let emulator = Emulator::start(json!({}));
    let setup = setup(&emulator, &[]);
    let config = emulator.config();
    drop(emulator);
    let plan = Plan::default();
    let error = Accounts::with(config).examine(&setup, &plan).await.unwrap_err();
    assert!(matches!(error, Error::Ambiguous(_)), "{error:?}");
}

/// Without credentials, on a machine whose metadata service takes connections and never answers.
#[test]
fn without_credentials_it_says_what_to_set_and_does_not_hang() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("windlass.yaml");
    let text = "clouds: { aws: { region: eu-central-1, bucket: acme } }\nenvironments: {}\n";
    std::fs::write(&settings, text).unwrap();
    let began = Instant::now();
    let said = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["doctor", "--config"])
        .arg(&settings)
        .env_clear()
        .env("HOME", directory.path())
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address)
        .env("AWS_ENDPOINT_URL", &address)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(2), "{text} {}", String::from_utf8_lossy(&said.stderr));
    assert!(text.contains("there are no credentials for AWS"), "{text}");
    assert!(text.contains("AWS_ACCESS_KEY_ID") && text.contains("AWS_PROFILE"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn every_request_of_the_table_is_sent_somewhere() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cloud/aws");
    let table = std::fs::read_to_string(source.join("operations.rs")).unwrap();
    let constant = |line: &str| {
        let (name, rest) = line.trim().split_once(" = \"")?;
        let upper = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        (upper && rest.contains('[')).then(|| name.to_owned())
    };
    let mut unused: BTreeSet<String> = table.lines().filter_map(constant).collect();
    assert_eq!(unused.len(), operations::all().count(), "{unused:?}");
    for entry in walkdir::WalkDir::new(&source).into_iter().filter_map(Result::ok) {
        let path = entry.path();
        if path.ends_with("operations.rs") || path.extension().is_none_or(|kind| kind != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        unused.retain(|name| !words.contains(name.as_str()));
    }
    assert!(unused.is_empty(), "nobody sends {unused:?}");
}

#[test]
fn a_policy_allows_nothing_that_is_never_sent() {
    let emulator = Emulator::start(json!({}));
    let mut fleet = emulator.fleet("production");
    fleet.standby_target_groups = vec![emulator.world.target_groups["standby"].clone()];
    let fleets = [("staging", fleet), ("production", emulator.group_fleet())];
    let sent: BTreeSet<&str> =
        operations::all().flat_map(|operation| operation.grants).map(|grant| grant.action).collect();
    for document in allowed(&setup(&emulator, &fleets)) {
        for statement in document.policy.statement {
            assert!(statement.action.is_subset(&sent), "{statement:?}");
        }
    }
}

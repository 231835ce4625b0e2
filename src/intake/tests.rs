use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use super::*;
use crate::clock::ManualClock;
use crate::engine::{Parts as EngineParts, Slots, Surveyor};
use crate::ids::{CommitSha, PipelineName};
use crate::run::event::{Actor, Origin, RunEvent, Shipment, Trigger};
use crate::store::memory::Memory;
use crate::store::{DeliveryKey, Event, Inbox, NewDelivery, Receipt, RunFilter, Store};

const SECRET: &str = "a secret for tests";

struct NoGit;

#[async_trait]
impl Surveyor for NoGit {
    async fn survey(&self, _: &Origin, _: &CommitSha) -> Result<Shipment, String> {
        Err("nothing is surveyed here".to_owned())
    }
}

/// A data directory with a repository, pipelines, and whoever takes in what starts their runs.
struct World {
    root: tempfile::TempDir,
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    repository: git2::Repository,
    intake: Option<Intake>,
}

const PIPELINE: &str = "\
name: shop
source: { github: acme/shop }
on: { push: { branches: [main, 'release/**'], tags: ['v*'], paths: ['**', '!docs/**'] } }
stages: { say: { steps: [{ run: say }] } }
";

impl World {
    async fn new(pipeline: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["data", "pipelines", "source"] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("secret"), SECRET).unwrap();
        let settings = "github:\n  webhook_secrets: [{ file: secret }]\n  \
                        repositories: { acme/shop: { url: source } }\n";
        std::fs::write(root.path().join("windlass.yaml"), settings).unwrap();
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let repository = git2::Repository::init_opts(root.path().join("source"), &options).unwrap();
        let clock = Arc::new(ManualClock::at("2026-11-22T05:00:30Z".parse().unwrap()));
        let mut world = Self { root, store: Arc::new(Memory::new()), clock, repository, intake: None };
        world.write("shop.yaml", pipeline);
        world.start().await;
        world
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.root.path().join("pipelines").join(name), text).unwrap();
    }

    /// Starts it, or starts it again.
    async fn start(&mut self) {
        if let Some(before) = self.intake.take() {
            before.stop().await;
        }
        let data = self.root.path().join("data");
        let engine = Engine::new(EngineParts {
            data: data.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            stages: BTreeMap::new(),
            surveyor: Arc::new(NoGit),
            clouds: crate::app::clouds(&data).unwrap().0,
            slots: Slots::new(4),
        });
        let parts = Parts {
            engine,
            sources: Arc::new(Sources::new(&data)),
            clock: self.clock.clone(),
            settings: Arc::new(Settings::read(&self.root.path().join("windlass.yaml")).unwrap()),
            pipelines: Some(self.root.path().join("pipelines")),
        };
        self.intake = Some(Intake::start(parts).await.unwrap());
    }

    fn intake(&self) -> &Intake {
        self.intake.as_ref().unwrap()
    }

    /// Commits a file to a branch, and answers the hash.
    fn commit(&self, branch: &str, path: &str, message: &str) -> String {
        let file = self.root.path().join("source").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, message).unwrap();
        let mut index = self.repository.index().unwrap();
        index.add_path(Path::new(path)).unwrap();
        let tree = self.repository.find_tree(index.write_tree().unwrap()).unwrap();
        let author = git2::Signature::now("Grace", "grace@example.com").unwrap();
        let reference = format!("refs/heads/{branch}");
        let parent =
            self.repository.refname_to_id(&reference).or(self.repository.refname_to_id("refs/heads/main"));
        let parent = parent.ok().map(|id| self.repository.find_commit(id).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let id = self.repository.commit(None, &author, &author, message, &tree, &parents).unwrap();
        self.repository.reference(&reference, id, true, "commit").unwrap();
        id.to_string()
    }

    async fn send(&self, id: &str, event: &str, payload: &serde_json::Value) -> Result<Receipt, Refused> {
        let body = payload.to_string().into_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&body);
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let hook = Hook {
            id: Some(id.to_owned()),
            event: Some(event.to_owned()),
            signature: Some(format!("sha256={digits}").into_bytes()),
            content_type: Some("application/json".to_owned()),
            body,
        };
        self.intake().receive(hook).await.map(|(_, receipt)| receipt)
    }

    /// Sends a webhook, and waits for what comes of it.
    async fn told(&self, id: &str, event: &str, payload: &serde_json::Value) -> DeliveryView {
        assert_eq!(self.send(id, event, payload).await.unwrap(), Receipt::New);
        self.settled(id).await
    }

    /// Waits until somebody has looked at the delivery.
    async fn settled(&self, id: &str) -> DeliveryView {
        let mut changes = self.intake().0.shared.settled.subscribe();
        loop {
            let found = self.store.as_ref().delivery(id).await.unwrap();
            let settled = found.filter(|found| {
                found.settlement.status != DeliveryStatus::Pending || found.settlement.reason.is_some()
            });
            match settled {
                Some(found) => return found.into(),
                None => changes.changed().await.unwrap(),
            }
        }
    }

    async fn runs(&self) -> usize {
        self.store.runs(&RunFilter::default()).await.unwrap().len()
    }

    async fn origin(&self, view: &DeliveryView) -> Origin {
        let stream = crate::ids::StreamId::Run(view.runs[0].clone());
        let journal = self.store.read(&stream, 0).await.unwrap();
        match &journal[0].event {
            Event::Run(RunEvent::Created { origin, .. }) => (**origin).clone(),
            other => panic!("not created: {other:?}"),
        }
    }

    /// Waits until the pipelines look like that.
    async fn until(&self, looks: impl Fn(&Catalog) -> bool) {
        let mut changes = self.intake().catalog_changes();
        let catalog = changes.wait_for(|catalog| looks(catalog));
        drop(tokio::time::timeout(Duration::from_secs(60), catalog).await.unwrap().unwrap());
    }
}

fn push(before: &str, after: &str, reference: &str) -> serde_json::Value {
    json!({
        "ref": reference, "before": before, "after": after, "deleted": false, "forced": false,
        "head_commit": { "id": after, "message": "a message" },
        "repository": { "full_name": "acme/shop", "default_branch": "main",
                        "clone_url": "file:///nowhere" },
        "sender": { "login": "octocat" },
    })
}

const ZERO: &str = "0000000000000000000000000000000000000000";

#[tokio::test]
async fn a_push_starts_one_run_however_often_it_comes() {
    let mut world = World::new(PIPELINE).await;
    let first = world.commit("main", "src/a", "Open the shop");
    let payload = push(ZERO, &first, "refs/heads/main");
    let view = world.told("d1", "push", &payload).await;
    assert_eq!((view.status, view.reason.clone()), (DeliveryStatus::Handled, None));
    assert_eq!(view.runs, ["shop/1".parse().unwrap()]);
    for _ in 0..2 {
        assert_eq!(world.send("d1", "push", &payload).await.unwrap(), Receipt::Known);
    }
    let origin = world.origin(&view).await;
    assert_eq!(origin.trigger, Trigger::Push { delivery: "d1".to_owned() });
    assert_eq!(origin.actor, Actor { name: "octocat".to_owned(), verified: true });
    assert_eq!(origin.reference.as_deref(), Some("refs/heads/main"));
    let commit = origin.commit.unwrap();
    assert_eq!((commit.sha.as_str(), commit.branch.as_str()), (first.as_str(), "main"));
    assert_eq!(commit.author, "Grace <grace@example.com>");
    assert!(origin.source.unwrap().ends_with("/source"), "the settings say where it is");

    // Also by somebody who asks for it, and by a server that was killed before it settled it.
    let again = world.intake().again("d1").await.unwrap();
    assert_eq!((again.settlement.status, again.settlement.runs), (DeliveryStatus::Handled, view.runs));
    let key = DeliveryKey { source: GITHUB.to_owned(), id: "d1".to_owned() };
    let pending = Settlement { status: DeliveryStatus::Pending, reason: None, runs: Vec::new() };
    world.store.settle_delivery(&key, pending).await.unwrap();
    world.start().await;
    assert_eq!(world.settled("d1").await.runs, ["shop/1".parse().unwrap()]);
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn what_is_pending_is_handled_at_the_next_start() {
    let mut world = World::new(PIPELINE).await;
    let first = world.commit("main", "src/a", "Open the shop");
    world.intake().stop().await;
    assert_eq!(world.send("d1", "push", &push(ZERO, &first, "refs/heads/main")).await.unwrap(), Receipt::New);
    assert_eq!(world.runs().await, 0);
    world.start().await;
    assert_eq!(world.settled("d1").await.runs, ["shop/1".parse().unwrap()]);
}

#[tokio::test]
async fn refs_and_paths_decide() {
    let world = World::new(PIPELINE).await;
    let first = world.commit("main", "src/a", "one");
    let second = world.commit("main", "docs/b", "two");
    let third = world.commit("main", "src/c", "three");
    let release = world.commit("release/1", "docs/e", "five");
    let other = world.commit("other", "src/d", "four");
    let fixed = world.commit("release/2", "src/f", "six");
    let (handled, ignored) = (DeliveryStatus::Handled, DeliveryStatus::Ignored);
    let forced = |mut payload: serde_json::Value| {
        payload["forced"] = json!(true);
        payload
    };
    for (id, payload, status, why) in [
        ("all-is-new", push(ZERO, &first, "refs/heads/main"), handled, ""),
        ("docs-only", push(&first, &second, "refs/heads/main"), ignored, "the file that changed does not"),
        ("docs-and-more", push(&first, &third, "refs/heads/main"), handled, ""),
        (
            "another-branch",
            push(ZERO, &other, "refs/heads/other"),
            ignored,
            "pushes to refs/heads/other do not",
        ),
        ("new-branch", push(ZERO, &fixed, "refs/heads/release/2"), handled, ""),
        ("new-docs-branch", push(ZERO, &release, "refs/heads/release/1"), ignored, "does not start it"),
        ("forced", forced(push(&other, &release, "refs/heads/release/1")), ignored, "does not start it"),
        ("tag", push(ZERO, &second, "refs/tags/v1"), handled, ""),
        ("another-tag", push(ZERO, &second, "refs/tags/x"), ignored, "pushes to refs/tags/x do not"),
        ("unknown-before", push(&"ab".repeat(20), &third, "refs/heads/main"), handled, "is not known"),
    ] {
        let view = world.told(id, "push", &payload).await;
        let reason = view.reason.unwrap_or_default();
        assert_eq!(
            (view.status, view.runs.len()),
            (status, usize::from(status == handled)),
            "{id}: {reason}"
        );
        assert!(reason.contains(why) && reason.is_empty() == why.is_empty(), "{id}: {reason}");
    }
}

#[tokio::test]
async fn what_starts_nothing_is_kept_with_the_reason() {
    let world = World::new(PIPELINE).await;
    let first = world.commit("main", "src/a", "one");
    let mut elsewhere = push(ZERO, &first, "refs/heads/main");
    elsewhere["repository"]["full_name"] = json!("acme/other");
    for (id, event, payload, why) in [
        ("star", "star", json!({}), "star events start nothing"),
        ("elsewhere", "push", elsewhere, "no pipeline has the source { github: acme/other }"),
        ("odd", "push", json!([1]), "not as GitHub sends it"),
    ] {
        let view = world.told(id, event, &payload).await;
        assert_eq!(view.status, DeliveryStatus::Ignored);
        assert!(view.reason.clone().unwrap().contains(why), "{view:?}");
    }
    let list = world.intake().deliveries(&DeliveryFilter::default()).await.unwrap();
    let ids: Vec<_> = list.deliveries.iter().map(|view| view.id.as_str()).collect();
    assert_eq!(ids, ["odd", "elsewhere", "star"]);
    assert!(matches!(world.intake().again("none").await, Err(AgainError::Unknown(_))));
}

#[tokio::test]
async fn a_pull_request_goes_as_far_as_it_may() {
    let on = "on: { pull_request: { branches: [main], until: [say] } }";
    let text = PIPELINE.lines().map(|line| if line.starts_with("on:") { on } else { line });
    let world = World::new(&text.collect::<Vec<_>>().join("\n")).await;
    world.commit("main", "src/a", "one");
    let skipped = world.commit("quiet", "src/b", "two [skip ci]");
    let wanted = world.commit("count", "src/c", "three");
    let request = |branch: &str, sha: &str, base: &str| {
        json!({
            "action": "opened", "number": 12, "sender": { "login": "octocat" },
            "repository": { "full_name": "acme/shop" },
            "pull_request": {
                "head": { "ref": branch, "sha": sha, "repo": { "full_name": "acme/shop" } },
                "base": { "ref": base, "sha": sha },
            },
        })
    };
    let view = world.told("p1", "pull_request", &request("quiet", &skipped, "main")).await;
    assert!(view.reason.unwrap().contains("[skip ci]"));
    let view = world.told("p2", "pull_request", &request("count", &wanted, "next")).await;
    assert!(view.reason.unwrap().contains("pull requests for next do not start it"));
    let view = world.told("p3", "pull_request", &request("count", &wanted, "main")).await;
    let origin = world.origin(&view).await;
    assert_eq!(origin.until, ["say".parse().unwrap()]);
    assert_eq!(origin.reference.as_deref(), Some("refs/pull/12/head"));
    assert_eq!(origin.commit.unwrap().branch, "count");
}

#[tokio::test]
async fn a_run_of_commands_alone_starts_from_what_the_webhook_says() {
    let world = World::new(&PIPELINE.replace(", paths: ['**', '!docs/**']", "")).await;
    // Nobody could fetch it: there is no such commit.
    let mut payload = push(ZERO, &"ab".repeat(20), "refs/heads/main");
    payload["head_commit"]["author"] = json!({ "name": "Grace", "email": "grace@example.com" });
    let view = world.told("d1", "push", &payload).await;
    assert_eq!((view.status, view.reason.clone()), (DeliveryStatus::Handled, None));
    let commit = world.origin(&view).await.commit.unwrap();
    assert_eq!((commit.sha.as_str(), commit.branch.as_str()), ("ab".repeat(20).as_str(), "main"));
    assert_eq!((commit.author.as_str(), commit.message.as_str()), ("Grace <grace@example.com>", "a message"));

    // Where something of the commit is needed, the source has to have it.
    let checkout = "stages:\n  source: { uses: checkout }\n  say: { needs: source, steps: [{ run: say }] }\n";
    let (head, _) = PIPELINE.split_once("stages:").unwrap();
    world.write("shop.yaml", &format!("{}{checkout}", head.replace(", paths: ['**', '!docs/**']", "")));
    world.until(|catalog| catalog.pipelines().all(|listed| listed.pipeline.stages.len() == 2)).await;
    world.commit("main", "src/a", "one");
    let view = world.told("d2", "push", &payload).await;
    assert_eq!(view.status, DeliveryStatus::Pending, "{view:?}");
}

#[tokio::test]
async fn a_source_that_is_away_holds_up_nobody_else() {
    let world = World::new(PIPELINE).await;
    let first = world.commit("main", "src/a", "one");
    let (source, away) = (world.root.path().join("source"), world.root.path().join("away"));
    std::fs::rename(source.join(".git/objects"), &away).unwrap();
    let view = world.told("d1", "push", &push(ZERO, &first, "refs/heads/main")).await;
    assert_eq!(view.status, DeliveryStatus::Pending);
    assert!(view.reason.unwrap().starts_with("shop: cannot "));
    // The next one of that branch waits behind it; what is of no branch does not.
    let second = push(&first, &first, "refs/heads/main");
    assert_eq!(world.send("d2", "push", &second).await.unwrap(), Receipt::New);
    assert_eq!(world.told("other", "star", &json!({})).await.status, DeliveryStatus::Ignored);

    std::fs::rename(&away, source.join(".git/objects")).unwrap();
    let again = world.intake().again("d1").await.unwrap();
    let mut now = DeliveryView::from(again);
    while now.status == DeliveryStatus::Pending {
        now = world.intake().again("d1").await.unwrap().into();
    }
    assert_eq!((now.status, now.runs.len()), (DeliveryStatus::Handled, 1));
    world.settled("d2").await;
}

#[tokio::test]
async fn a_param_without_a_default_fails_it() {
    let world = World::new(&format!("{PIPELINE}params: {{ flavour: {{}} }}\n")).await;
    let first = world.commit("main", "src/a", "one");
    let view = world.told("d1", "push", &push(ZERO, &first, "refs/heads/main")).await;
    assert_eq!(view.status, DeliveryStatus::Failed);
    assert!(view.reason.unwrap().contains("asks for the param flavour"));

    let shop: PipelineName = "shop".parse().unwrap();
    let ask = |params: &[(&str, &str)], reference: Option<&str>| Ask {
        pipeline: shop.clone(),
        reference: reference.map(ToOwned::to_owned),
        params: params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        actor: Actor::unverified("grace"),
        key: None,
    };
    let intake = world.intake();
    let sweet = [("flavour", "sweet")];
    assert_eq!(intake.trigger(ask(&sweet, None)).await.unwrap().to_string(), "shop/1");
    assert_eq!(intake.trigger(ask(&sweet, Some(&first[..10]))).await.unwrap().to_string(), "shop/2");
    for (refused, why) in [
        (ask(&[], None), "asks for the param flavour"),
        (ask(&[("flavour", "a"), ("color", "b")], None), "no param \"color\"; it has flavour"),
        (ask(&sweet, Some("none")), "has no commit \"none\""),
        (Ask { pipeline: "none".parse().unwrap(), ..ask(&[], None) }, "there are shop"),
    ] {
        let error = intake.trigger(refused).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_broken_edit_is_noticed_and_changes_nothing() {
    let world = World::new(PIPELINE).await;
    world.write("shop.yaml", "name: shop\nstages: [");
    world.until(|catalog| catalog.broken().count() == 1).await;
    let first = world.commit("main", "src/a", "one");
    let view = world.told("d1", "push", &push(ZERO, &first, "refs/heads/main")).await;
    assert_eq!(view.status, DeliveryStatus::Handled);
    assert_eq!(world.origin(&view).await.pipeline, PIPELINE);
    let listed = world.intake().pipelines();
    assert_eq!(listed.pipelines[0].pipeline.as_ref().map(PipelineName::as_str), Some("shop"));
    assert!(listed.pipelines[0].error.as_ref().unwrap().contains("shop.yaml:2:"));
    world.write("shop.yaml", &format!("{PIPELINE}# better\n"));
    world.until(|catalog| catalog.broken().count() == 0).await;
}

fn due(view: &DeliveryList) -> Vec<(String, &'static str)> {
    view.deliveries.iter().map(|view| (view.id.clone(), view.status.as_str())).collect()
}

#[tokio::test]
async fn a_schedule_fires_once_and_says_what_it_missed() {
    let on = "on: { schedule: [{ cron: '*/10 * * * *', timezone: UTC }] }";
    let text = PIPELINE.lines().map(|line| if line.starts_with("on:") { on } else { line });
    let mut world = World::new(&text.collect::<Vec<_>>().join("\n")).await;
    let first = world.commit("main", "src/a", "one");
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let shop: PipelineName = "shop".parse().unwrap();
    // Its schedule begins with the first look at it.
    while world.store.schedule_mark(&shop).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let fire = async |world: &World, now: &str, id: &str| {
        world.clock.set(at(now));
        while world.store.as_ref().delivery(id).await.unwrap().is_none() {
            world.intake().look();
            tokio::task::yield_now().await;
        }
        world.settled(id).await
    };
    let view = fire(&world, "2026-11-22T05:10:01Z", "shop@2026-11-22T05:10:00Z").await;
    assert_eq!((view.status, view.runs.len()), (DeliveryStatus::Handled, 1), "{view:?}");
    let origin = world.origin(&view).await;
    assert_eq!(origin.trigger, Trigger::Schedule { due: at("2026-11-22T05:10:00Z") });
    assert_eq!(origin.reference.as_deref(), Some("refs/heads/main"));
    assert_eq!(origin.commit.unwrap().sha.as_str(), first);

    // Too late, as after a sleep of the machine.
    let view = fire(&world, "2026-11-22T05:21:00Z", "shop@2026-11-22T05:20:00Z").await;
    assert_eq!(view.status, DeliveryStatus::Ignored);
    assert!(view.reason.unwrap().starts_with("missed: "));

    // While no server ran.
    world.intake.take().unwrap().stop().await;
    world.clock.set(at("2026-11-22T05:40:05Z"));
    world.start().await;
    let view = world.settled("shop@2026-11-22T05:40:00Z").await;
    assert!(view.reason.unwrap().contains("no server ran with this schedule at 2026-11-22T05:40:00Z"));
    let all = world.intake().deliveries(&DeliveryFilter::default()).await.unwrap();
    let expected = [("05:40", "ignored"), ("05:30", "ignored"), ("05:20", "ignored"), ("05:10", "handled")];
    let expected = expected.map(|(time, status)| (format!("shop@2026-11-22T{time}:00Z"), status));
    assert_eq!(due(&all), expected);
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn of_what_was_missed_the_last_hundred_are_recorded() {
    let on = "on: { schedule: { cron: '* * * * *', timezone: UTC } }";
    let text = PIPELINE.lines().map(|line| if line.starts_with("on:") { on } else { line });
    let text = text.collect::<Vec<_>>().join("\n");
    let mut world = World::new(&text).await;
    world.intake.take().unwrap().stop().await;
    let shop = "shop".parse().unwrap();
    world.store.mark_schedule(&shop, "2019-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    world.start().await;
    world.settled("shop@2026-11-22T05:00:00Z").await;
    let all = DeliveryFilter { limit: Some(1000), status: None };
    assert_eq!(world.intake().deliveries(&all).await.unwrap().deliveries.len(), 100);
}

#[tokio::test]
async fn a_body_that_was_dropped_cannot_be_handled_again() {
    let world = World::new(PIPELINE).await;
    world.told("old", "star", &json!({})).await;
    world.store.drop_bodies("2030-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    assert!(matches!(world.intake().again("old").await, Err(AgainError::Dropped(_))));
    let key = DeliveryKey { source: GITHUB.to_owned(), id: "old".to_owned() };
    let known =
        NewDelivery { key, event: "star".to_owned(), received_at: Timestamp::UNIX_EPOCH, body: Vec::new() };
    assert_eq!(world.store.deliver(known).await.unwrap(), Receipt::Known);
}

//! Many runs of one pipeline, driven by a real engine over a store in memory. Their stages do what the
//! test lets them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::*;
use crate::clock::ManualClock;
use crate::ids::{Digest, StageName};
use crate::pipeline::model::Kind;
use crate::run::event::{
    Artifact, Cause, Commit, Failure, FleetEvent, Image, Outcome, Promote, Release, RolloutEnd, Trigger,
};
use crate::run::view::{StageStatus, Status};
use crate::stage::{Attempt, Next, Work};
use crate::store::memory::Memory;

/// Whatever is waited for comes within milliseconds, or never.
const PATIENCE: Duration = Duration::from_secs(20);

const STAGES: &str = "
stages:
  build: { steps: [{ run: make }], artifacts: { app: dist/ } }
  upload: { uses: upload, needs: build, with: { artifact: app } }
  bake: { uses: bake, needs: upload, with: { start: ./shop } }
  staging: { uses: deploy, needs: bake, environment: staging }
  e2e: { needs: staging, environment: staging, steps: [{ run: e2e }] }
  certify: { uses: certify, needs: e2e }
  production: { uses: deploy, needs: certify, environment: production }
";

/// What stages do: those that are held wait, those that are broken fail.
#[derive(Debug, Clone, Default)]
struct Script {
    held: BTreeSet<(u64, &'static str)>,
    broken: BTreeSet<(u64, &'static str)>,
}

struct Scripted(watch::Receiver<Script>);

#[async_trait]
impl Stage for Scripted {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let is = |(run, stage): &(u64, &str)| *run == work.id.run.number && *stage == work.id.stage.as_str();
        if let Next::Do(step) = attempt.next::<()>("Work").await? {
            let mut script = self.0.clone();
            let free = async {
                let now = script.wait_for(|script| !script.held.iter().any(is)).await;
                let now = now.map_err(|_| Failure::infrastructure("no script"))?;
                match now.broken.iter().any(is) {
                    true => Err(Failure::task("it is broken")),
                    false => Ok(()),
                }
            };
            let done = attempt.unless_stopped(free).await;
            attempt.finish(*step, done).await?;
        }
        match &work.stage().kind {
            Kind::Deploy => deploy(attempt, &work).await,
            Kind::Bake(_) => Ok(Outcome { image: Some(image(&work)), ..Outcome::default() }),
            Kind::Certify => {
                let certified = work.image.as_ref().map(|image| image.id.clone());
                Ok(Outcome { certified, ..Outcome::default() })
            }
            Kind::Script(script) => {
                let artifact = |(name, path): (&crate::ids::ArtifactName, &String)| Artifact {
                    name: name.clone(),
                    path: path.clone(),
                    digest: Digest::of(b"artifact"),
                    bytes: 1,
                };
                Ok(Outcome {
                    artifacts: script.artifacts.iter().map(artifact).collect(),
                    ..Outcome::default()
                })
            }
            _ => Ok(Outcome::default()),
        }
    }

    fn stop_bound(&self, _: &Work) -> Duration {
        Duration::from_secs(10)
    }
}

fn image(work: &Work) -> Image {
    Image {
        id: format!("image-of-{}", work.id.run.number).parse().unwrap(),
        name: format!("shop-{}", work.version),
        key: Digest::of(work.version.as_bytes()),
        parent: None,
        commit: work.origin.commit.as_ref().map(|commit| commit.sha.clone()),
        run: work.id.run.clone(),
    }
}

async fn deploy(attempt: &mut Attempt, work: &Work) -> Result<Outcome, Failure> {
    let environment = work.stage().environment.clone().unwrap();
    let fleet = FleetId::new(work.id.run.pipeline.clone(), environment);
    let image = work.image.clone().unwrap();
    let (key, stage) = (work.id.key(), work.id.stage.clone());
    let started = FleetEvent::RolloutStarted {
        run: work.id.run.clone(),
        stage,
        attempt: work.id.attempt,
        key: key.clone(),
        release: Release { image: image.id.clone(), env: BTreeMap::new() },
        image: Box::new(image),
        size: 1,
        reference: work.origin.reference.clone(),
    };
    attempt.record_fleet(&fleet, started).await?;
    attempt.record_fleet(&fleet, FleetEvent::RolloutEnded { key, end: RolloutEnd::Completed }).await?;
    Ok(Outcome::default())
}

/// Commits are numbers here: one goes back where its number is lower.
struct Numbers;

#[async_trait]
impl Surveyor for Numbers {
    async fn survey(&self, origin: &Origin, running: &CommitSha) -> Result<Shipment, String> {
        let commit = &origin.commit.as_ref().unwrap().sha;
        match running.as_str().starts_with('f') {
            true => Err("there is no git here".to_owned()),
            false => Ok(Shipment { rollback: commit < running, ..Shipment::default() }),
        }
    }
}

struct World {
    directory: tempfile::TempDir,
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    engine: Engine,
    script: watch::Sender<Script>,
}

impl World {
    /// `queue` of the pipeline, and what the settings say besides of staging and of production.
    fn new(staging: &str, production: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let environment = |name: &str, group: &str, port: u16, more: &str| {
            let fleet = format!(
                "{{ shop: {{ cloud: local, size: 1, port: {port}, health: {{ path: / }}, drain: 1s }} }}"
            );
            format!("  {name}:\n    group: {group}\n    fleets: {fleet}\n{more}")
        };
        let settings = format!(
            "environments:\n{}{}people:\n  ada: {{ roles: [manager], emails: [ada@example.com] }}\n  \
             bob: {{ roles: [manager], emails: [bob@example.com] }}\n",
            environment("staging", "qa", 17431, staging),
            environment("production", "production", 17432, production),
        );
        std::fs::write(directory.path().join("windlass.yaml"), settings).unwrap();
        let store = Arc::new(Memory::new());
        let clock = Arc::new(ManualClock::at("2026-11-18T12:00:00Z".parse().unwrap()));
        let (script, scripts) = watch::channel(Script::default());
        let engine = engine(directory.path(), &store, &clock, &scripts);
        Self { directory, store, clock, engine, script }
    }

    fn with_manual_production() -> Self {
        Self::new("", "    promotion: manual\n")
    }

    /// Everything of the process is lost, and another one begins.
    fn restart(&mut self) {
        self.engine = engine(self.directory.path(), &self.store, &self.clock, &self.script.subscribe());
    }

    fn hold(&self, run: u64, stage: &'static str) {
        self.script.send_modify(|script| {
            script.held.insert((run, stage));
        });
    }

    fn release(&self, run: u64, stage: &'static str) {
        self.script.send_modify(|script| script.held.retain(|held| *held != (run, stage)));
    }

    fn origin(&self, queue: &str, commit: u64) -> Origin {
        let sha: CommitSha = format!("{commit:040}").parse().unwrap();
        let commit = Commit {
            sha,
            branch: "main".to_owned(),
            author: "Eve <eve@example.com>".to_owned(),
            message: "Work".to_owned(),
        };
        Origin {
            settings_path: Some(self.directory.path().join("windlass.yaml").display().to_string()),
            source: Some("/source".to_owned()),
            commit: Some(commit),
            reference: Some("refs/heads/main".to_owned()),
            trigger: Trigger::Push { delivery: "d".to_owned() },
            ..Origin::new(format!("name: shop\nqueue: {queue}\n{STAGES}"), "/shop.yaml", actor("octocat"))
        }
    }

    async fn create(&self, origin: Origin) -> RunId {
        self.engine.create("shop".parse().unwrap(), origin, None).await.unwrap()
    }

    async fn push(&self, queue: &str, commit: u64) -> RunId {
        let run = self.create(self.origin(queue, commit)).await;
        self.engine.drive(&run).await.unwrap();
        run
    }

    async fn until(&self, run: &RunId, what: &str, looks: impl Fn(&RunView) -> bool) -> RunView {
        let mut last = None;
        let come = async {
            loop {
                let Some(handle) = self.engine.handle(run) else {
                    let view = self.engine.view(run).await.unwrap();
                    if looks(&view) || view.status.is_final() {
                        break view;
                    }
                    tokio::task::yield_now().await;
                    continue;
                };
                let mut changes = handle.changes();
                loop {
                    changes.borrow_and_update();
                    let view = self.engine.view(run).await.unwrap();
                    if looks(&view) {
                        return view;
                    }
                    last = Some(view);
                    if changes.changed().await.is_err() {
                        break;
                    }
                }
            }
        };
        let view = tokio::time::timeout(PATIENCE, come).await;
        match view {
            Ok(view) if looks(&view) => view,
            Ok(view) => panic!("{run} never: {what}: {view:#?}"),
            Err(_) => panic!("{run} never: {what}: {last:#?}"),
        }
    }

    async fn until_waiting(&self, run: &RunId, text: &str) -> RunView {
        let says = |view: &RunView| {
            view.stages.iter().any(|stage| stage.waiting_for.as_ref().is_some_and(|why| why.contains(text)))
        };
        self.until(run, text, says).await
    }

    async fn until_ended(&self, run: &RunId) -> RunView {
        self.until(run, "it ends", |view| view.status.is_final()).await
    }

    async fn act(&self, run: &RunId, act: Act, by: &str) -> Result<(), Error> {
        self.engine.act(run, act, actor(by)).await
    }

    async fn promote(&self, run: &RunId, environment: &str, by: &str) -> Result<(), Error> {
        self.act(run, Act::Promote { environment: environment.parse().unwrap() }, by).await
    }

    async fn fleet(&self, environment: &str) -> crate::run::fleet::FleetState {
        load_fleet(self.store.as_ref(), &fleet(environment)).await.unwrap()
    }

    /// The numbers of the runs that were deployed there, in their order.
    async fn deployed(&self, environment: &str) -> Vec<u64> {
        let fleet = self.fleet(environment).await;
        fleet.history.iter().chain(&fleet.current).map(|deployed| deployed.run.number).collect()
    }
}

fn engine(
    data: &std::path::Path,
    store: &Arc<Memory>,
    clock: &Arc<ManualClock>,
    scripts: &watch::Receiver<Script>,
) -> Engine {
    let stages = ["script", "upload", "bake", "deploy", "certify"];
    let stage = |word| (word, Arc::new(Scripted(scripts.clone())) as Arc<dyn Stage>);
    Engine::new(Parts {
        data: data.to_owned(),
        store: store.clone(),
        clock: clock.clone(),
        stages: stages.into_iter().map(stage).collect(),
        surveyor: Arc::new(Numbers),
        cloud: crate::app::cloud(data).unwrap().0,
        slots: Slots::new(8),
    })
}

fn actor(name: &str) -> Actor {
    Actor::named(name).unwrap()
}

fn fleet(environment: &str) -> FleetId {
    FleetId::new("shop".parse().unwrap(), environment.parse().unwrap())
}

fn stage<'a>(view: &'a RunView, name: &str) -> &'a view::StageView {
    view.stages.iter().find(|stage| stage.name.as_str() == name).unwrap()
}

fn run(number: u64) -> RunId {
    RunId::new("shop".parse().unwrap(), number)
}

#[tokio::test]
async fn of_ten_pushes_while_production_waits_one_waits_and_the_others_say_who_came() {
    let world = World::with_manual_production();
    for number in 1..=10 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "waiting for somebody to promote it to production").await;
    }
    for number in 1..=9 {
        let view = world.until_ended(&run(number)).await;
        assert_eq!(view.status, Status::Superseded, "{view:#?}");
        let by = view.superseded_by.unwrap();
        assert!(by.number > number, "{number} by {by}");
        let production = view.stages.last().unwrap();
        assert_eq!(production.status, StageStatus::Skipped);
        assert_eq!(production.reason, Some(format!("{by} superseded it")));
    }
    world.promote(&run(10), "production", "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(10)).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [10]);
}

#[tokio::test]
async fn what_has_not_started_gives_way_and_what_is_under_way_does_not() {
    let world = World::with_manual_production();
    world.hold(1, "build");
    let working = world.push("newest", 1).await;
    world.until(&working, "it builds", |view| stage(view, "build").status == StageStatus::Running).await;
    let (second, third) =
        (world.create(world.origin("newest", 2)).await, world.create(world.origin("newest", 3)).await);
    world.engine.drive_all().await.unwrap();
    let superseded = world.until_ended(&second).await;
    assert_eq!((superseded.status, superseded.superseded_by), (Status::Superseded, Some(third.clone())));
    assert_eq!(superseded.stages.iter().map(|stage| stage.attempts).sum::<u32>(), 0);
    world.until_waiting(&third, "promote it to production").await;
    assert_eq!(world.engine.view(&working).await.unwrap().status, Status::Running);
    world.release(1, "build");
    // It comes to staging after the newer one, which runs there.
    let late = world.until_ended(&working).await;
    assert_eq!((late.status, late.superseded_by), (Status::Superseded, Some(third)));
    assert_eq!(world.deployed("staging").await, [3]);
}

#[tokio::test]
async fn a_promoted_run_is_not_superseded_by_one_that_nobody_decided_on() {
    let world = World::with_manual_production();
    let first = world.push("newest", 1).await;
    world.until_waiting(&first, "promote it to production").await;
    world.engine.lock(&"production".parse().unwrap(), &actor("ada"), "database move").await.unwrap();
    world.promote(&first, "production", "octocat").await.unwrap();
    let said = world.until_waiting(&first, "locked by ada").await.waiting_for.unwrap();
    assert!(said.starts_with("waiting for production: locked by ada at 2026-11-18T12:00:00Z"), "{said}");
    assert!(said.ends_with("(database move); windlass unlock production"), "{said}");
    let second = world.push("newest", 2).await;
    world.until_waiting(&second, "promote it to production").await;
    assert_eq!(world.engine.view(&first).await.unwrap().status, Status::Waiting);
    world.engine.unlock(&"production".parse().unwrap(), &actor("bob")).await.unwrap();
    assert_eq!(world.until_ended(&first).await.status, Status::Succeeded);
}

#[tokio::test]
async fn with_every_ten_runs_go_through_one_environment_in_order() {
    let world = World::with_manual_production();
    world.hold(1, "e2e");
    for number in 1..=10 {
        world.push("every", number).await;
    }
    world.until_waiting(&run(2), "waiting for shop-staging: shop/1").await;
    for number in 3..=10 {
        let why = "waiting for shop/2, which is ahead of it for staging";
        world.until_waiting(&run(number), why).await;
    }
    let production: Target = "production/shop".parse().unwrap();
    world.engine.lock(&production, &actor("ada"), "watching").await.unwrap();
    world.act(&run(4), Act::Cancel { reason: "not now".to_owned() }, "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(4)).await.status, Status::Cancelled);
    world.release(1, "e2e");
    for number in [1, 2, 3, 5, 6, 7, 8, 9, 10] {
        world.until_waiting(&run(number), "promote it to production").await;
    }
    let reject = Act::Reject { environment: "production".parse().unwrap(), reason: "no".to_owned() };
    world.act(&run(5), reject, "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(5)).await.status, Status::Failed);
    for number in [3, 1, 2, 6, 7, 8, 9, 10] {
        world.promote(&run(number), "production", "octocat").await.unwrap();
        world.until_waiting(&run(number), "locked by ada").await;
    }
    world.engine.unlock(&production, &actor("ada")).await.unwrap();
    for number in [1, 2, 3, 6, 7, 8, 9, 10] {
        assert_eq!(world.until_ended(&run(number)).await.status, Status::Succeeded);
    }
    assert_eq!(world.deployed("staging").await, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(world.deployed("production").await, [1, 2, 3, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn the_order_is_kept_after_everything_was_lost() {
    let mut world = World::with_manual_production();
    for number in 1..=6 {
        world.create(world.origin("every", number)).await;
    }
    world.hold(1, "build");
    world.engine.drive_all().await.unwrap();
    world.until_waiting(&run(6), "waiting for shop/1, which is ahead of it for staging").await;
    world.restart();
    world.engine.drive_all().await.unwrap();
    world.until_waiting(&run(2), "waiting for shop/1, which is ahead of it for staging").await;
    world.release(1, "build");
    for number in 1..=6 {
        world.until_waiting(&run(number), "promote it to production").await;
    }
    assert_eq!(world.deployed("staging").await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_failed_on_its_way_is_not_waited_for() {
    let world = World::with_manual_production();
    world.script.send_modify(|script| {
        script.broken.insert((1, "build"));
    });
    world.hold(1, "build");
    world.push("every", 1).await;
    let second = world.push("every", 2).await;
    world.until_waiting(&second, "waiting for shop/1, which is ahead of it").await;
    world.release(1, "build");
    assert_eq!(world.until_ended(&run(1)).await.status, Status::Failed);
    world.until_waiting(&second, "promote it to production").await;
}

#[tokio::test]
async fn what_is_older_than_what_runs_asks_a_person() {
    let world = World::new("", "");
    let newer = world.push("every", 7).await;
    assert_eq!(world.until_ended(&newer).await.status, Status::Succeeded);
    let older = world.push("every", 3).await;
    let view = world.until_waiting(&older, "promote it to staging").await;
    let gate = &view.gates[0];
    assert!(gate.ships.rollback, "{gate:#?}");
    let why = "its commit is older than what staging runs: promoting it takes staging back";
    assert_eq!(gate.ships.note.as_deref(), Some(why));
    world.promote(&older, "staging", "octocat").await.unwrap();
    world.until_waiting(&older, "promote it to production").await;
    assert_eq!(world.deployed("staging").await, [1, 2]);
    // The same by the word of whoever starts it.
    let mut beforehand = world.origin("every", 2);
    beforehand.promote = Promote::All;
    beforehand.reference = None;
    let beforehand = world.create(beforehand).await;
    world.engine.drive(&beforehand).await.unwrap();
    assert_eq!(world.until_ended(&beforehand).await.status, Status::Succeeded);
}

#[tokio::test]
async fn where_git_cannot_tell_a_person_is_asked() {
    let world = World::new("", "");
    let mut unknown = world.origin("every", 1);
    unknown.commit.as_mut().unwrap().sha = "f".repeat(40).parse().unwrap();
    let unknown = world.create(unknown).await;
    world.engine.drive(&unknown).await.unwrap();
    assert_eq!(world.until_ended(&unknown).await.status, Status::Succeeded);
    let next = world.push("every", 2).await;
    let view = world.until_waiting(&next, "promote it to staging").await;
    assert!(view.gates[0].ships.note.as_ref().unwrap().contains("there is no git here"), "{view:#?}");
}

#[tokio::test]
async fn a_rollback_goes_back_and_what_it_goes_back_from_is_refused_until_that_is_lifted() {
    let world = World::new("", "");
    for number in 1..=2 {
        let pushed = world.push("newest", number).await;
        assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
    }
    let back = world.engine.rollback(&fleet("production"), &actor("ada"), "it burns").await.unwrap();
    let twice = world.engine.rollback(&fleet("production"), &actor("bob"), "").await.unwrap_err();
    assert!(twice.to_string().contains("shop/3 rolls shop-production back already"), "{twice}");
    world.engine.drive(&back).await.unwrap();
    let view = world.until_ended(&back).await;
    assert_eq!((view.status, view.stages.len()), (Status::Succeeded, 1), "{view:#?}");
    let state = world.fleet("production").await;
    assert_eq!(state.current.as_ref().unwrap().image.id.as_str(), "image-of-1");
    let quarantine = state.quarantined.values().next().unwrap();
    assert_eq!(quarantine.reason, "shop/3 rolled back from it: it burns");

    let nothing = world.engine.rollback(&fleet("production"), &actor("ada"), "").await.unwrap_err();
    assert!(nothing.to_string().contains("has nothing to go back to"), "{nothing}");
    // Refused at the gate of an environment that never ran anything else.
    let policy = |view: &RunView| {
        let failed = view.stages.iter().find(|stage| stage.status == StageStatus::Failed).unwrap();
        (failed.cause, failed.reason.clone().unwrap())
    };
    let staging = world.engine.rollback(&fleet("staging"), &actor("ada"), "").await.unwrap();
    world.engine.drive(&staging).await.unwrap();
    assert_eq!(world.until_ended(&staging).await.status, Status::Succeeded);
    let name = quarantine.name.clone();
    world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), " ").await.unwrap_err();
    world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), "mended").await.unwrap();
    assert_eq!(world.fleet("production").await.quarantined.len(), 0);
    assert_eq!(world.fleet("staging").await.quarantined.len(), 0);
    let again = world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), "mended").await;
    assert!(again.unwrap_err().to_string().contains("is in quarantine"));

    // A run whose image somebody puts in quarantine while it waits is refused.
    world.engine.lock(&"production".parse().unwrap(), &actor("ada"), "wait").await.unwrap();
    let last = world.push("newest", 9).await;
    world.until_waiting(&last, "locked by ada").await;
    let quarantined = FleetEvent::Quarantined {
        image: format!("image-of-{}", last.number).parse().unwrap(),
        name: "shop-9".to_owned(),
        actor: actor("ada"),
        reason: "it burns".to_owned(),
    };
    let sequence = world.fleet("staging").await.sequence;
    let now = Timestamp::UNIX_EPOCH;
    let append = journal::fleet_append(&fleet("staging"), sequence, vec![(now, quarantined)]);
    world.store.append(vec![append]).await.unwrap();
    world.engine.unlock(&"production".parse().unwrap(), &actor("ada")).await.unwrap();
    let (cause, reason) = policy(&world.until_ended(&last).await);
    assert_eq!(cause, Some(Cause::Policy));
    assert!(reason.contains("windlass lift shop shop-9 --reason"), "{reason}");
}

#[tokio::test]
async fn a_rollback_goes_before_others_and_only_from_what_it_was_asked_for() {
    let world = World::with_manual_production();
    for number in 1..=3 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "promote it to production").await;
        if number < 3 {
            world.promote(&pushed, "production", "octocat").await.unwrap();
            assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
        }
    }
    let production: Target = "production".parse().unwrap();
    world.engine.lock(&production, &actor("ada"), "wait").await.unwrap();
    world.promote(&run(3), "production", "octocat").await.unwrap();
    world.until_waiting(&run(3), "locked by ada").await;
    let back = world.engine.rollback(&fleet("production"), &actor("bob"), "").await.unwrap();
    world.engine.drive(&back).await.unwrap();
    world.until_waiting(&back, "locked by ada").await;
    world.engine.unlock(&production, &actor("ada")).await.unwrap();
    assert_eq!(world.until_ended(&back).await.status, Status::Succeeded);
    assert_eq!(world.until_ended(&run(3)).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [1, 2, 4, 3]);
}

#[tokio::test]
async fn a_lock_belongs_to_whoever_set_it() {
    let world = World::with_manual_production();
    let staging: Target = "staging".parse().unwrap();
    world.engine.lock(&staging, &actor("ada"), "one").await.unwrap();
    world.engine.lock(&staging, &actor("ada"), "two").await.unwrap();
    let other = world.engine.lock(&staging, &actor("bob"), "mine").await.unwrap_err().to_string();
    assert!(other.contains("locked already, by ada") && other.contains("(two)"), "{other}");
    world.engine.unlock(&staging, &actor("bob")).await.unwrap();
    let open = world.engine.unlock(&staging, &actor("bob")).await.unwrap_err().to_string();
    assert!(open.contains("staging is not locked"), "{open}");
}

#[tokio::test]
async fn so_many_different_people_have_to_say_yes_and_no_author() {
    let approvals = "    promotion: manual\n    approvals: { count: 2, roles: [manager], author: false }\n";
    let world = World::new("", approvals);
    let mut origin = world.origin("newest", 1);
    origin.promote = Promote::All;
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    let view = world.until_waiting(&run, "waiting for 2 more of 2 people").await;
    assert!(view.waiting_for.as_ref().unwrap().contains("a command line's word does not count"), "{view:#?}");
    assert_eq!(
        (view.gates[0].approvals_needed, view.gates[0].roles.as_slice()),
        (2, &["manager".to_owned()][..])
    );
    let stranger = world.promote(&run, "production", "mallory").await.unwrap_err().to_string();
    assert!(stranger.contains("mallory may not promote to production"), "{stranger}");
    world.promote(&run, "production", "ada").await.unwrap();
    let twice = world.promote(&run, "production", "Ada").await.unwrap_err().to_string();
    assert!(twice.contains("has approved shop/1 for production already"), "{twice}");
    let view = world.until_waiting(&run, "waiting for 1 more of 2 people").await;
    assert_eq!(view.gates[0].approvals[0].actor, "ada");
    world.promote(&run, "production", "bob").await.unwrap();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
}

#[tokio::test]
async fn a_freeze_holds_also_what_was_promoted_and_lets_rollbacks_through() {
    let freeze = "    promotion: manual\n    freeze: [{ from: \"Fri 16:00\", to: \"Mon 07:00\", timezone: Europe/Berlin, reason: weekend }]\n";
    let world = World::new("", freeze);
    for number in 1..=2 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "promote it to production").await;
        world.promote(&pushed, "production", "octocat").await.unwrap();
        assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
    }
    world.clock.set("2026-11-20T18:00:00Z".parse().unwrap());
    let run = world.push("newest", 3).await;
    world.until_waiting(&run, "promote it to production").await;
    world.promote(&run, "production", "octocat").await.unwrap();
    let said = "production is frozen until Mon 2026-11-23 07:00 Europe/Berlin (weekend)";
    world.until_waiting(&run, said).await;
    let back = world.engine.rollback(&fleet("production"), &actor("ada"), "").await.unwrap();
    world.engine.drive(&back).await.unwrap();
    assert_eq!(world.until_ended(&back).await.status, Status::Succeeded);
    world.clock.set("2026-11-23T06:00:00Z".parse().unwrap());
    world.engine.0.lanes.wake_all();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [1, 2, 4, 3]);
}

#[tokio::test]
async fn a_pull_request_goes_as_far_as_it_should() {
    let world = World::with_manual_production();
    let mut origin = world.origin("newest", 1);
    origin.until = vec!["upload".parse::<StageName>().unwrap()];
    origin.trigger = Trigger::PullRequest { delivery: "d".to_owned(), number: 12 };
    origin.reference = Some("refs/pull/12/head".to_owned());
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    let view = world.until_ended(&run).await;
    assert_eq!(view.status, Status::Succeeded);
    assert_eq!(stage(&view, "upload").status, StageStatus::Succeeded);
    for name in ["bake", "staging", "production"] {
        let reason = stage(&view, name).reason.as_deref();
        assert_eq!(reason, Some("a pull request goes as far as upload"), "{name}");
    }
}

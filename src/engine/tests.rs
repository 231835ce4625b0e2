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

mod cancelling;
mod capacity;
mod clock;
mod force;
mod many;
mod moments;
mod queue;
mod recorded;
mod rules;

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
    engine_of(data, store, clock, Arc::new(Scripted(scripts.clone())))
}

/// With one stage for all kinds.
fn engine_of(
    data: &std::path::Path,
    store: &Arc<Memory>,
    clock: &Arc<ManualClock>,
    stage: Arc<dyn Stage>,
) -> Engine {
    Engine::new(parts_of(data, store, clock.clone(), stage))
}

fn parts(
    data: &std::path::Path,
    store: &Arc<Memory>,
    clock: Arc<dyn Clock>,
    scripts: &watch::Receiver<Script>,
) -> Parts {
    parts_of(data, store, clock, Arc::new(Scripted(scripts.clone())))
}

fn parts_of(
    data: &std::path::Path,
    store: &Arc<Memory>,
    clock: Arc<dyn Clock>,
    stage: Arc<dyn Stage>,
) -> Parts {
    let stages = ["script", "upload", "bake", "deploy", "certify"];
    let stage = |word| (word, stage.clone());
    Parts {
        data: data.to_owned(),
        store: store.clone(),
        clock,
        stages: stages.into_iter().map(stage).collect(),
        surveyor: Arc::new(Numbers),
        clouds: crate::app::clouds(data).unwrap().0,
        slots: Slots::new(8),
    }
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

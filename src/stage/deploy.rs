//! `deploy`: turns the environment's fleet over to the run's image, by the fleet's strategy.
//!
//! The loop is level-triggered: observe the fleet, ask [`rollout::plan`], do what it says, observe
//! again. After a crash the same loop goes on from what it sees. Turning back is noted in the
//! journal before it is acted upon.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fleet::{Fleet, Side, version_of};
use super::upload::failed;
use super::version::Versions;
use super::{Afterwards, Attempt, Next, Stage, Step, Work};
use crate::cloud::{Cloud, Clouds, Listener};
use crate::config::{self, Promotion, Settings};
use crate::ids::{FleetId, ImageId, InstanceId, Key, PipelineName};
use crate::journal::{load_fleet, quarantine};
use crate::pipeline::model::Kind;
use crate::rollout::{self, Desired, Direction, End, Move, Phase, Progress, Strategy, Traffic};
use crate::run::decide::Stop;
use crate::run::event::{Failure, FleetEvent, Image, Outcome, Release, RolloutEnd};
use crate::store::Store;

/// How long a look at the fleet is put off when nothing wakes it: an instance may end without its
/// balancer noticing.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// The note of a step that says why the rollout turned back.
const TURNED_BACK: &str = "turned_back";

pub struct Deploy {
    pub store: Arc<dyn Store>,
    pub clouds: Arc<dyn Clouds>,
}

/// What was found when the rollout began; it is not asked again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Begun {
    source: Option<(Image, Release)>,
    healthy: u32,
    before: Vec<InstanceId>,
    at: Timestamp,
    /// `None` in what was recorded before there was a choice.
    #[serde(default)]
    strategy: Option<Strategy>,
}

#[async_trait]
impl Stage for Deploy {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let (id, image, release) = self.admit(&work)?;
        let (listener, settings) = fleet_settings(&work.settings, &id).ok_or_else(|| no_fleet(&id))?;
        let recorded = load_fleet(self.store.as_ref(), &id).await.map_err(lost)?;
        let cloud = work.cloud(self.clouds.as_ref())?;
        let mut fleet = Fleet::new(&cloud, &work, &id);
        let size = settings.size;
        let source =
            recorded.current.as_ref().map(|current| (current.image.clone(), current.release.clone()));
        let mut begun: Begun = match attempt.next("Begin rollout").await? {
            Next::Done(begun) => begun,
            Next::Do(mut step) => {
                let from = source.as_ref().map_or("nothing".to_owned(), |(image, _)| image.name.clone());
                step.say(&format!("{id} goes from {from} to {}, {size} instances", image.name));
                let strategy = attended(&settings.strategy, work.afterwards);
                if strategy != settings.strategy {
                    step.say(
                        "the old instances are not held after the switch, as nobody here would end them in \
                         time: windlass serve does",
                    );
                }
                let begun = step.heard(begin(&cloud, &mut fleet, &listener, source, strategy)).await;
                attempt.finish(*step, begun).await?
            }
        };
        // Somebody else may have begun it than goes on with it now.
        let strategy = begun.strategy.as_ref().unwrap_or(&settings.strategy);
        begun.strategy = Some(attended(strategy, work.afterwards));
        let key = work.id.key();
        if recorded.rollout.as_ref().is_none_or(|rollout| rollout.key != key) {
            // Somebody may have found out about the image since the run was let in.
            allowed(self.store.as_ref(), &id.service, &image.id).await?;
            let event = FleetEvent::RolloutStarted {
                run: work.id.run.clone(),
                stage: work.id.stage.clone(),
                attempt: work.id.attempt,
                key: key.clone(),
                image: Box::new(image.clone()),
                release: release.clone(),
                size,
                reference: work.origin.reference.clone(),
            };
            attempt.record_fleet(&id, event).await?;
        }
        fleet.sides = [
            Some(Side::target(&image, &release)),
            begun.source.as_ref().map(|(image, release)| Side::source(image, release)),
        ];
        fleet.versions = settings.version.as_ref().map(|path| {
            let timeout = settings.health.timeout;
            Versions::new(path, version_of(&image), release.id(), begun.at, timeout)
        });
        let desired = Desired {
            target: release.id(),
            source: begun.source.as_ref().map(|(_, release)| release.id()),
            size,
            strategy: begun.strategy.clone().unwrap_or_else(|| settings.strategy.clone()),
            direction: turned_back(&work),
            patience: settings.patience,
            healthy_at_start: begun.healthy,
            started_at: begun.at,
        };
        let end = Rollout { fleet: &mut fleet, desired, step: None, said: String::new() }
            .carry_out(attempt)
            .await?;
        if let (End::Completed, Some(event)) = (&end, held(&begun, &release, &key)) {
            attempt.record_fleet(&id, event).await?;
        }
        self.conclude(attempt, &cloud, &id, &listener, &begun, &image, end).await
    }

    fn stop_bound(&self, work: &Work) -> Duration {
        // It has to take the fleet back to a safe state: every batch may take its whole patience to
        // come up and its whole drain time to go.
        let Some(environment) = &work.stage().environment else { return SLOW_TICK };
        let id = FleetId::new(work.id.run.pipeline.clone(), environment.clone());
        let Some((_, fleet)) = fleet_settings(&work.settings, &id) else { return SLOW_TICK };
        let batches = match &fleet.strategy {
            Strategy::Rolling(rolling) => fleet.size.div_ceil(rolling.batch.max(1)) + 1,
            // All at once, and where a switch back is not enough all at once again.
            Strategy::BlueGreen { .. } => 2,
        };
        (fleet.patience + fleet.drain + Duration::from_secs(30)) * batches
    }
}

impl Deploy {
    /// What is to run where, if the rules let it.
    fn admit(&self, work: &Work) -> Result<(FleetId, Image, Release), Failure> {
        let environment = work.stage().environment.as_ref();
        let environment = environment.ok_or_else(|| Failure::policy("the stage names no environment"))?;
        let id = FleetId::new(work.id.run.pipeline.clone(), environment.clone());
        let image = work.image.clone();
        let image = image.ok_or_else(|| Failure::policy("no ancestor of the stage baked an image"))?;
        let policy = work.settings.environments.get(environment).ok_or_else(|| no_fleet(&id))?;
        let settings = policy.fleets.get(&id.service).ok_or_else(|| no_fleet(&id))?;
        let certifies = work.pipeline.stages.iter().any(|stage| matches!(stage.kind, Kind::Certify));
        if policy.promotion == Promotion::Manual && certifies && !work.certified {
            // A replay may have baked another image since.
            let next = match &work.outdated {
                Some(stage) => format!("windlass replay {} --from {stage} tries this one out", work.id.run),
                None => "add the stage that certifies it to `needs`".to_owned(),
            };
            return Err(Failure::policy(format!(
                "{} is not certified, and {environment} takes certified images only: {next}",
                image.name
            )));
        }
        let release = Release { image: image.id.clone(), env: settings.env.clone() };
        Ok((id, image, release))
    }

    /// Records how the rollout ended, and says it.
    #[expect(clippy::too_many_arguments, reason = "all that a rollout was about")]
    async fn conclude(
        &self,
        attempt: &mut Attempt,
        cloud: &Cloud,
        id: &FleetId,
        listener: &Listener,
        begun: &Begun,
        image: &Image,
        end: End,
    ) -> Result<Outcome, Failure> {
        let key = attempt.work.id.key();
        let (end, failure) = match end {
            End::Completed => (RolloutEnd::Completed, None),
            End::RolledBack { reason } => {
                let state = match &begun.source {
                    Some((source, _)) => format!("{id} is back on {}", source.name),
                    None => format!("{id} has no instances, as before"),
                };
                let failure = Failure::task(format!("{} did not go in, {state}: {reason}", image.name));
                (RolloutEnd::RolledBack { reason }, Some(failure))
            }
            End::Stranded { reason } => {
                let failure = Failure::infrastructure(format!("{id} is not whole: {reason}"));
                (RolloutEnd::Stranded { reason }, Some(failure))
            }
        };
        if begun.source.is_none() && failure.is_some() {
            cloud.balancer.remove_listener(id).await.map_err(failed)?;
        }
        attempt.record_fleet(id, FleetEvent::RolloutEnded { key, end }).await?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let after = cloud.compute.instances(id).await.map_err(failed)?;
        let after = after.iter().filter(|instance| instance.image == image.id);
        let join = |ids: Vec<String>| ids.join(",");
        let outputs = [
            ("url", cloud.balancer.url(listener).await.map_err(failed)?),
            ("image", image.id.to_string()),
            ("before", join(begun.before.iter().map(ToString::to_string).collect())),
            ("after", join(after.map(|instance| instance.id.to_string()).collect())),
        ];
        let outputs = outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Outcome { outputs, ..Outcome::default() })
    }
}

/// Sees to the listener, and takes down what runs now.
async fn begin(
    cloud: &Cloud,
    fleet: &mut Fleet<'_>,
    listener: &Listener,
    source: Option<(Image, Release)>,
    strategy: Strategy,
) -> Result<Begun, Failure> {
    cloud.balancer.put_listener(listener).await.map_err(failed)?;
    let observed = fleet.observe().await?;
    let healthy = observed.members.iter().filter(|member| member.traffic == Traffic::Healthy).count();
    Ok(Begun {
        source,
        healthy: healthy as u32,
        before: observed.members.iter().map(|member| member.id.clone()).collect(),
        at: observed.now,
        strategy: Some(strategy),
    })
}

/// A rollout under way.
struct Rollout<'a, 'b> {
    fleet: &'a mut Fleet<'b>,
    desired: Desired,
    step: Option<(String, Step)>,
    /// What was said last, so that it is said once.
    said: String,
}

impl Rollout<'_, '_> {
    async fn carry_out(mut self, attempt: &mut Attempt) -> Result<End, Failure> {
        if let Some(name) = attempt.pass_over_ended() {
            let step = attempt.begin(&name).await?;
            self.step = Some((name, step));
        }
        self.fleet.recall(&attempt.work.recorded);
        loop {
            let observed = self.fleet.observe().await?;
            self.fleet.launch_again().await?;
            if let (Some(stop), Direction::Forward) = (attempt.stop(), &self.desired.direction) {
                let reason = match stop {
                    Stop::Cancelled => "the run was cancelled",
                    Stop::TimedOut => "the stage's timeout passed",
                };
                self.turn_back(attempt, reason.to_owned()).await?;
            }
            match rollout::plan(&observed, &self.desired) {
                Move::Act { operations, progress } => {
                    let step = step_for(&mut self.step, &self.desired, attempt, progress).await?;
                    for operation in operations {
                        self.fleet.carry_out(step, operation).await?;
                    }
                }
                Move::Wait { reason, until, progress } => {
                    let said = std::mem::replace(&mut self.said, reason.clone());
                    let step = step_for(&mut self.step, &self.desired, attempt, progress).await?;
                    if said != reason {
                        step.say(&reason);
                    }
                    self.wait(attempt, observed.now, until).await?;
                }
                Move::TurnBack { reason } => self.turn_back(attempt, reason).await?,
                Move::Done(end) => {
                    if let Some((_, mut step)) = self.step.take() {
                        step.say("the rollout is done");
                        attempt.finish(step, Ok(())).await?;
                    }
                    return Ok(end);
                }
            }
        }
    }

    /// Notes why, ends the batch, and goes the other way from now on.
    async fn turn_back(&mut self, attempt: &mut Attempt, reason: String) -> Result<(), Failure> {
        let mut step = match self.step.take() {
            Some((_, step)) => step,
            None => attempt.begin("Turn back").await?,
        };
        step.note(TURNED_BACK, &reason).await?;
        // The step failed; the attempt goes on, to bring the fleet back.
        let _: Result<(), Failure> = attempt.finish(step, Err(Failure::task(reason.clone()))).await;
        self.desired.direction = Direction::Back { reason };
        Ok(())
    }

    /// Waits until something about the fleet may have changed.
    async fn wait(&self, attempt: &Attempt, now: Timestamp, until: Option<Timestamp>) -> Result<(), Failure> {
        let patience = until
            .map(|until| Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
            .map_or(SLOW_TICK, |left| left.min(SLOW_TICK));
        let mut stop = attempt.stop_signal();
        let turned = matches!(self.desired.direction, Direction::Back { .. });
        tokio::select! {
            changed = self.fleet.changed(patience) => changed,
            _ = super::attempt::stopping(&mut stop), if !turned => Ok(()),
        }
    }
}

/// The step of this batch, begun if another one was under way.
async fn step_for<'s>(
    slot: &'s mut Option<(String, Step)>,
    desired: &Desired,
    attempt: &mut Attempt,
    progress: Progress,
) -> Result<&'s mut Step, Failure> {
    let forward = desired.direction == Direction::Forward;
    let name = match progress.phase {
        Phase::Batch if forward => format!("Swap batch {} of {}", progress.batch, progress.batches),
        Phase::Batch => format!("Roll back batch {} of {}", progress.batch, progress.batches),
        Phase::BringUp => format!("Bring up {} new instances", desired.size),
        Phase::Switch if forward => "Switch".to_owned(),
        Phase::Switch => "Switch back".to_owned(),
        Phase::End => "End the old instances".to_owned(),
    };
    let current = match slot.take() {
        Some((current, step)) if current == name => (current, step),
        other => {
            if let Some((_, mut step)) = other {
                step.say("this batch is done");
                attempt.finish(step, Ok(())).await?;
            }
            let step = attempt.begin(&name).await?;
            (name, step)
        }
    };
    Ok(&mut slot.insert(current).1)
}

/// The strategy as far as it can be carried out: what is held has to be ended by somebody.
fn attended(strategy: &Strategy, afterwards: Afterwards) -> Strategy {
    match (strategy, afterwards) {
        (Strategy::BlueGreen { .. }, Afterwards::Nobody) => Strategy::BlueGreen { hold: Duration::ZERO },
        (strategy, _) => strategy.clone(),
    }
}

/// What is recorded of the old instances that stand by from now on.
fn held(begun: &Begun, target: &Release, key: &Key) -> Option<FleetEvent> {
    let Some(Strategy::BlueGreen { hold }) = &begun.strategy else { return None };
    let (source, release) = begun.source.as_ref()?;
    if hold.is_zero() || release == target {
        return None;
    }
    let until = Timestamp::now().checked_add(*hold).unwrap_or(Timestamp::MAX);
    let (image, release) = (Box::new(source.clone()), release.clone());
    Some(FleetEvent::StandbyHeld { key: key.clone(), image, release, until })
}

/// The way the rollout goes, as an earlier process left it.
fn turned_back(work: &Work) -> Direction {
    let note = work.recorded.iter().find_map(|step| step.notes.get(TURNED_BACK));
    match note.and_then(|reason| reason.as_str()) {
        Some(reason) => Direction::Back { reason: reason.to_owned() },
        None => Direction::Forward,
    }
}

/// The fleet's listener and settings, if there is such a fleet.
pub fn fleet_settings<'a>(settings: &'a Settings, id: &FleetId) -> Option<(Listener, &'a config::Fleet)> {
    let fleet = settings.environments.get(&id.environment)?.fleets.get(&id.service)?;
    let listener =
        Listener { fleet: id.clone(), port: fleet.port, health: fleet.health.clone(), drain: fleet.drain };
    Some((listener, fleet))
}

/// Whether nobody put the image in quarantine.
pub(super) async fn allowed(
    store: &dyn Store,
    service: &PipelineName,
    image: &ImageId,
) -> Result<(), Failure> {
    match quarantine(store, service, image).await.map_err(lost)? {
        Some(quarantine) => Err(Failure::policy(quarantine.refusal(service))),
        None => Ok(()),
    }
}

fn no_fleet(id: &FleetId) -> Failure {
    Failure::policy(format!(
        "the settings have no fleet of {} in {}: add it under environments.{}.fleets and give the file with --config",
        id.service, id.environment, id.environment
    ))
}

fn lost(error: crate::store::Error) -> Failure {
    Failure::infrastructure(error.to_string())
}

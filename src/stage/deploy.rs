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
use super::shortage::Shortage;
use super::tally::{Calls, Tally};
use super::upload::failed;
use super::version::Versions;
use super::{Afterwards, Attempt, Next, Stage, Work};
use crate::cloud::{Cloud, Clouds, Listener, hearing};
use crate::config::{self, Promotion, Settings};
use crate::ids::{Digest, FleetId, ImageId, InstanceId, Key, PipelineName};
use crate::journal::{load_fleet, quarantine};
use crate::pipeline::model::Kind;
use crate::rollout::{self, Desired, Direction, End, Pace, Strategy, Traffic};
use crate::run::event::{Failure, FleetEvent, Image, Outcome, Release, RolloutEnd};
use crate::run::state::StepPhase;
use crate::store::Store;

mod turning;

use turning::Rollout;

/// What a rollout that cannot be found in the settings may take to stop.
const NOTHING_TO_STOP: Duration = Duration::from_secs(1);

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
    /// The release of what served before although no record of ours explains it, as in a group that
    /// somebody else filled: what the fleet goes back to where this does not go in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<Digest>,
    at: Timestamp,
    /// `None` in what was recorded before there was a choice.
    #[serde(default)]
    strategy: Option<Strategy>,
    /// What the balancer is configured to wait for, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
    #[serde(default, skip_serializing_if = "Calls::is_none")]
    calls: Calls,
}

/// [`crate::cloud::Timing`], as it is recorded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Timing {
    in_service: Duration,
    drain: Duration,
}

#[async_trait]
impl Stage for Deploy {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let tally = Arc::new(Tally::default());
        hearing::heard(tally.clone(), self.roll_out(attempt, &tally)).await
    }

    fn stop_bound(&self, work: &Work) -> Duration {
        // The way back has a time of its own, whatever is left of the stage's: every batch may take its
        // whole patience to come up and its whole drain time to go.
        let Some(environment) = &work.stage().environment else { return NOTHING_TO_STOP };
        let id = FleetId::new(work.id.run.pipeline.clone(), environment.clone());
        let Some((_, fleet)) = fleet_settings(&work.settings, &id) else { return NOTHING_TO_STOP };
        let batches = match &fleet.strategy {
            Strategy::Rolling(rolling) => fleet.size.div_ceil(rolling.batch.max(1)) + 1,
            // All at once, and where a switch back is not enough all at once again.
            Strategy::BlueGreen { .. } => 2,
        };
        // What the balancer waits for may be longer than what the settings speak of.
        let begun = results(work).find_map(|result| serde_json::from_value::<Begun>(result.clone()).ok());
        let timing = begun.and_then(|begun| begun.timing);
        let longer =
            |known: Duration, told: fn(&Timing) -> Duration| timing.as_ref().map_or(known, told).max(known);
        let (up, drain) = (longer(fleet.patience, |t| t.in_service), longer(fleet.drain, |t| t.drain));
        (up + drain + Duration::from_secs(30)).saturating_mul(batches)
    }
}

impl Deploy {
    async fn roll_out(&self, attempt: &mut Attempt, tally: &Tally) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        tally.recall(results(&work).flat_map(|result| [Some(result), result.get("calls")]).flatten());
        let (id, image, release) = self.admit(&work)?;
        let (listener, settings) = fleet_settings(&work.settings, &id).ok_or_else(|| no_fleet(&id))?;
        let recorded = load_fleet(self.store.as_ref(), &id).await.map_err(lost)?;
        let cloud = work.cloud(self.clouds.as_ref())?;
        let mut fleet = Fleet::new(&cloud, &work, &id);
        let size = settings.size;
        let source =
            recorded.current.as_ref().map(|current| (current.image.clone(), current.release.clone()));
        // Whom the cloud keeps, the keeper leaves alone.
        let keeps = cloud.compute.keeps(&id);
        let afterwards = if keeps { Afterwards::Nobody } else { work.afterwards };
        let mut begun: Begun = match attempt.next("Begin rollout").await? {
            Next::Done(begun) => {
                // Whoever began it may have been killed before it was heard.
                fleet.begin_rollout().await?;
                begun
            }
            Next::Do(mut step) => {
                tally.pass_to(step.hearer());
                let from = source.as_ref().map_or("nothing".to_owned(), |(image, _)| image.name.clone());
                step.say(&format!("{id} goes from {from} to {}, {size} instances", image.name));
                let strategy = attended(&settings.strategy, afterwards);
                if strategy != settings.strategy {
                    step.say(match keeps {
                        true => {
                            "the old instances are not held after the switch, as the cloud itself keeps this \
                             fleet at its size"
                        }
                        false => {
                            "the old instances are not held after the switch, as nobody here would end them \
                             in time: windlass serve does"
                        }
                    });
                }
                let begun = begin(&cloud, &mut fleet, &listener, source.clone(), strategy).await;
                if begun.is_err() {
                    give_back(&fleet, source.as_ref()).await;
                }
                if let Ok(Begun { timing: Some(timing), source, strategy: Some(strategy), .. }) = &begun {
                    let pace = Pace { in_service: timing.in_service, drain: timing.drain };
                    step.say(&rollout::expected(strategy, size, source.is_none(), pace).to_string());
                }
                let calls = tally.ends();
                attempt.finish(*step, begun.map(|begun| Begun { calls, ..begun })).await?
            }
        };
        // Somebody else may have begun it than goes on with it now.
        let strategy = begun.strategy.as_ref().unwrap_or(&settings.strategy);
        begun.strategy = Some(attended(strategy, afterwards));
        let key = work.id.key();
        if recorded.rollout.as_ref().is_none_or(|rollout| rollout.key != key) {
            // Somebody may have found out about the image since the run was let in.
            if let Err(refused) = allowed(self.store.as_ref(), &id.service, &image.id).await {
                give_back(&fleet, source.as_ref()).await;
                return Err(refused);
            }
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
        fleet.has_begun(begun.at, &begun.before);
        fleet.versions = settings.version.as_ref().map(|path| {
            let timeout = settings.health.timeout;
            Versions::new(path, version_of(&image), release.id(), begun.at, timeout)
        });
        let desired = Desired {
            target: release.id(),
            source: begun.source.as_ref().map(|(_, release)| release.id()).or(begun.adopted.clone()),
            size,
            strategy: begun.strategy.clone().unwrap_or_else(|| settings.strategy.clone()),
            direction: turned_back(&work),
            patience: settings.patience,
            healthy_at_start: begun.healthy,
            started_at: begun.at,
        };
        let (end, step) = Rollout {
            fleet: &mut fleet,
            desired,
            step: None,
            said: String::new(),
            pace: cloud.balancer.pace(),
            beat: cloud.compute.beat(),
            shortage: Shortage::default(),
            tally,
        }
        .carry_out(attempt)
        .await?;
        if let (End::Completed, Some(event)) = (&end, held(&begun, &release, &key)) {
            attempt.record_fleet(&id, event).await?;
        }
        let closed = close(&cloud, &fleet, &listener, &begun, &image, &end).await;
        let all = tally.all();
        let told = (!all.is_none()).then(|| format!("the rollout took {all}"));
        match step {
            Some(mut step) => {
                told.iter().for_each(|told| step.say(told));
                let calls = tally.ends();
                let recorded = closed.as_ref().map(|_| some(calls)).map_err(Clone::clone);
                attempt.finish(step, recorded).await?;
            }
            None => told.iter().for_each(|told| attempt.add_to_last_log(told)),
        }
        let mut outputs = closed?;
        if !all.is_none() {
            outputs.push(("api_calls", all.total().to_string()));
        }
        conclude(attempt, &id, &begun, &image, end).await?;
        let outputs = outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Outcome { outputs, ..Outcome::default() })
    }

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
}

/// Nothing was turned over: the cloud gets the fleet back as it runs now. What stopped the rollout is
/// what counts, so an error of this is said only.
async fn give_back(fleet: &Fleet<'_>, runs: Option<&(Image, Release)>) {
    let side = runs.map(|(image, release)| Side::source(image, release));
    if let Err(failure) = fleet.end_rollout(side.as_ref()).await {
        tracing::warn!("a fleet could not be given back to its cloud: {}", failure.message);
        hearing::say(&format!("the fleet could not be given back to its cloud: {}", failure.message));
    }
}

/// Gives the fleet back to the cloud, and finds out what there is to tell of a rollout that succeeded.
async fn close(
    cloud: &Cloud,
    fleet: &Fleet<'_>,
    listener: &Listener,
    begun: &Begun,
    image: &Image,
    end: &End,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let [target, source] = &fleet.sides;
    let completed = *end == End::Completed;
    fleet.end_rollout(if completed { target.as_ref() } else { source.as_ref() }).await?;
    if !completed {
        if begun.source.is_none() && begun.adopted.is_none() {
            cloud.balancer.remove_listener(&listener.fleet).await.map_err(failed)?;
        }
        return Ok(Vec::new());
    }
    let after = cloud.compute.instances(&listener.fleet).await.map_err(failed)?;
    let after = after.iter().filter(|instance| instance.image == image.id);
    let join = |ids: Vec<String>| ids.join(",");
    Ok(vec![
        ("url", cloud.balancer.url(listener).await.map_err(failed)?),
        ("image", image.id.to_string()),
        ("before", join(begun.before.iter().map(ToString::to_string).collect())),
        ("after", join(after.map(|instance| instance.id.to_string()).collect())),
    ])
}

/// Records how the rollout ended; fails when that is not in the new image.
async fn conclude(
    attempt: &mut Attempt,
    id: &FleetId,
    begun: &Begun,
    image: &Image,
    end: End,
) -> Result<(), Failure> {
    let key = attempt.work.id.key();
    let (end, failure) = match end {
        End::Completed => (RolloutEnd::Completed, None),
        End::RolledBack { reason } => {
            let state = match &begun.source {
                Some((source, _)) => format!("{id} is back on {}", source.name),
                None if begun.adopted.is_some() => format!("{id} is back on what ran there before"),
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
    attempt.record_fleet(id, FleetEvent::RolloutEnded { key, end }).await?;
    failure.map_or(Ok(()), Err)
}

/// What the steps recorded that succeeded.
fn results(work: &Work) -> impl Iterator<Item = &serde_json::Value> {
    work.recorded.iter().filter_map(|step| match &step.phase {
        StepPhase::Succeeded { result } => Some(result),
        _ => None,
    })
}

/// What a step records of its requests: nothing where there were none.
fn some(calls: Calls) -> Option<Calls> {
    (!calls.is_none()).then_some(calls)
}

/// Sees to the listener, and takes down what runs now.
async fn begin(
    cloud: &Cloud,
    fleet: &mut Fleet<'_>,
    listener: &Listener,
    source: Option<(Image, Release)>,
    strategy: Strategy,
) -> Result<Begun, Failure> {
    fleet.begin_rollout().await?;
    cloud.balancer.put_listener(listener).await.map_err(failed)?;
    let timing = match cloud.balancer.timing(&listener.fleet).await {
        Ok(timing) => timing.map(|timing| Timing { in_service: timing.in_service, drain: timing.drain }),
        Err(error) => {
            hearing::say(&format!("how long it takes cannot be told: {error}"));
            None
        }
    };
    let observed = fleet.observe().await?;
    let serving: Vec<_> =
        observed.members.iter().filter(|member| member.traffic == Traffic::Healthy).collect();
    let adopted = serving.first().filter(|_| source.is_none()).map(|member| member.release.clone());
    // Nobody knows how to launch such a one again, nor when its hold would be over.
    let strategy = match (&adopted, strategy) {
        (Some(_), Strategy::BlueGreen { .. }) => Strategy::BlueGreen { hold: Duration::ZERO },
        (_, strategy) => strategy,
    };
    Ok(Begun {
        source,
        adopted,
        healthy: serving.len() as u32,
        before: observed.members.iter().map(|member| member.id.clone()).collect(),
        at: observed.now,
        strategy: Some(strategy),
        timing,
        calls: Calls::default(),
    })
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

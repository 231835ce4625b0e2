//! A fleet under a rollout: what is observed of it, and how an operation is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::upload::failed;
use super::version::Versions;
use super::{Step, Work};
use crate::cloud::{self, Cloud, Instance, InstanceState, Launch, Role, Tags, Target, TargetState};
use crate::ids::{Digest, FleetId, InstanceId, Key};
use crate::rollout::{Check, Life, Member, Observed, Operation, Traffic};
use crate::run::event::{Failure, Image, Release};
use crate::run::state::StepState;

mod began;

use began::Began;

/// How often an act on the cloud is tried before the stage fails, and the pause that is doubled
/// between the tries. Throttling waits as long as the cloud asks and does not count.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// The note of a step that lists the launches it intended.
const LAUNCHES: &str = "launches";

/// One of the two releases that a rollout knows: where it goes, and where it came from.
pub struct Side {
    release: Release,
    /// Of the image: the names of its instances carry it.
    version: String,
    /// Tells the keys of the two sides apart.
    word: &'static str,
}

impl Side {
    pub fn target(image: &Image, release: &Release) -> Self {
        Self { release: release.clone(), version: version_of(image), word: "to" }
    }

    pub fn source(image: &Image, release: &Release) -> Self {
        Self { release: release.clone(), version: version_of(image), word: "back" }
    }
}

/// `42-9f3c2a1b` of the image `storefront-42-9f3c2a1b`.
pub fn version_of(image: &Image) -> String {
    let prefix = format!("{}-", image.run.pipeline);
    image.name.strip_prefix(&prefix).unwrap_or(&image.name).to_owned()
}

/// A launch that was intended: noted before it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Intent {
    release: Digest,
    n: u32,
    key: Key,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Yes,
    /// The cloud has no room for it at this moment, for this reason.
    NoRoom(String),
}

/// The fleet that a rollout works on.
pub struct Fleet<'a> {
    cloud: &'a Cloud,
    id: FleetId,
    tags: Tags,
    key: Key,
    /// The release it goes to, and the one it came from.
    pub sides: [Option<Side>; 2],
    intents: BTreeSet<Intent>,
    /// Keys of intents whose instances came and went.
    ended: BTreeSet<Key>,
    /// Keys that this process has asked the cloud to launch.
    asked: BTreeSet<Key>,
    /// There was room for so many at once.
    room: u32,
    /// As they were observed last.
    instances: BTreeMap<InstanceId, Instance>,
    /// The rollout's own clock, once it has begun.
    began: Option<Began>,
    /// What new members have to answer, where the settings ask for it.
    pub versions: Option<Versions>,
}

impl<'a> Fleet<'a> {
    pub fn new(cloud: &'a Cloud, work: &Work, id: &FleetId) -> Self {
        let key = work.id.key();
        let tags = Tags {
            service: id.service.clone(),
            run: work.id.run.clone(),
            stage: work.id.stage.to_string(),
            key: key.clone(),
        };
        let (intents, ended, asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (instances, versions) = (BTreeMap::new(), None);
        let (id, sides, began) = (id.clone(), [None, None], None);
        Self { cloud, id, tags, key, sides, intents, ended, asked, room: 1, instances, began, versions }
    }

    /// From now on what is observed is told by the rollout's own clock, which said `at` when it began.
    pub fn has_begun(&mut self, at: Timestamp, before: &[InstanceId]) {
        self.began = Some(Began::new(at, before));
    }

    /// Recalls the launches that earlier steps of the attempt intended.
    pub fn recall(&mut self, steps: &[StepState]) {
        let notes = steps.iter().filter_map(|step| step.notes.get(LAUNCHES));
        let intents = notes.filter_map(|note| serde_json::from_value::<Vec<Intent>>(note.clone()).ok());
        self.intents.extend(intents.flatten());
    }

    /// The fleet as it is now.
    pub async fn observe(&mut self) -> Result<Observed, Failure> {
        let (instances, mut observed) = patiently(|| observe(self.cloud, &self.id)).await?;
        self.instances = instances;
        if let Some(began) = &mut self.began {
            let launched: BTreeSet<&Key> = self.intents.iter().map(|intent| &intent.key).collect();
            let key = |id: &InstanceId| self.instances.get(id).map(|instance| &instance.key);
            began.tell(&mut observed, |id| key(id).is_some_and(|key| launched.contains(key)));
        }
        if let Some(versions) = &mut self.versions {
            versions.confirm(&self.instances, &mut observed).await;
        }
        Ok(observed)
    }

    /// Asks again for launches that an earlier process was killed in: their record is there, and
    /// whether anything was started is for the cloud to find out.
    pub async fn launch_again(&mut self) -> Result<(), Failure> {
        let pending = self.instances.values().filter(|instance| instance.state == InstanceState::Pending);
        let ours = |instance: &&Instance| {
            self.intents.iter().any(|intent| intent.key == instance.key)
                && !self.asked.contains(&instance.key)
        };
        let launches: Vec<Launch> = pending
            .filter(ours)
            .filter_map(|instance| {
                let side = self.sides.iter().flatten().find(|side| side.release.id() == instance.release)?;
                Some(self.launch_of(&side.release, &instance.name, &instance.key))
            })
            .collect();
        for launch in launches {
            self.asked.insert(launch.key.clone());
            patiently(|| self.cloud.compute.launch(&launch)).await?;
        }
        Ok(())
    }

    fn launch_of(&self, release: &Release, name: &str, key: &Key) -> Launch {
        Launch {
            name: name.to_owned(),
            fleet: self.id.clone(),
            image: release.image.clone(),
            env: release.env.clone(),
            release: release.id(),
            tags: Tags { key: key.clone(), ..self.tags.clone() },
            key: key.clone(),
        }
    }

    /// Keeps the cloud's own hands off it.
    pub async fn begin_rollout(&self) -> Result<(), Failure> {
        patiently(|| self.cloud.compute.begin_rollout(&self.id)).await
    }

    /// Gives it back to the cloud, which is to launch what runs on this side.
    pub async fn end_rollout(&self, side: Option<&Side>) -> Result<(), Failure> {
        let key = format!("{}.end", self.key).parse().unwrap_or_else(|_| self.key.clone());
        let last = side.map(|side| {
            let name = self.id.instance_name(&side.version, 0);
            self.launch_of(&side.release, &name, &key)
        });
        patiently(|| self.cloud.compute.end_rollout(&self.id, last.as_ref())).await
    }

    /// Returns when something about the fleet may have changed, at the latest after `patience`.
    pub async fn changed(&self, patience: Duration) -> Result<(), Failure> {
        let again = self.versions.as_ref().and_then(Versions::again);
        let patience = again.map_or(patience, |again| again.min(patience));
        patiently(|| self.cloud.balancer.changed(&self.id, patience)).await
    }

    /// Carries out one operation, and says so in the step's log.
    pub async fn carry_out(&mut self, step: &mut Step, operation: Operation) -> Result<Done, Failure> {
        if let Operation::Launch { release, count } = &operation {
            return self.launch(step, release, *count).await;
        }
        self.change(step, operation).await.map(|()| Done::Yes)
    }

    /// Carries out what needs no room.
    async fn change(&mut self, step: &mut Step, operation: Operation) -> Result<(), Failure> {
        match operation {
            Operation::Launch { .. } => Ok(()),
            Operation::Register { id } => {
                let Some(instance) = self.instances.get(&id) else { return Ok(()) };
                step.say(&format!("register {id} at {}", instance.address));
                let target = [(id, instance.address)];
                patiently(|| self.cloud.balancer.register(&self.id, &target)).await
            }
            Operation::StandBy { id } => {
                let Some(instance) = self.instances.get(&id) else { return Ok(()) };
                step.say(&format!("{id} at {} stands by", instance.address));
                let target = [(id, instance.address)];
                patiently(|| self.cloud.balancer.stand_by(&self.id, &target)).await
            }
            Operation::Switch { to } => {
                let names: Vec<&str> = to.iter().map(InstanceId::as_str).collect();
                step.say(&format!("switch the traffic to {}", names.join(", ")));
                let switched = || async {
                    match self.cloud.balancer.switch(&self.id, &to).await {
                        // One of them has just become unwell: nothing was switched, and the next look
                        // tells what to do.
                        Err(cloud::Error::Conflict(why)) => Ok(Some(why)),
                        other => other.map(|()| None),
                    }
                };
                if let Some(why) = patiently(switched).await? {
                    step.say(&format!("nothing is switched: {why}"));
                }
                Ok(())
            }
            Operation::Drain { id } => {
                step.say(&format!("drain {id}"));
                patiently(|| self.cloud.balancer.deregister(&self.id, std::slice::from_ref(&id))).await
            }
            Operation::Terminate { id } => {
                step.say(&format!("terminate {id}"));
                patiently(|| self.cloud.compute.terminate(&id)).await?;
                patiently(|| self.cloud.balancer.forget(&self.id, std::slice::from_ref(&id))).await
            }
        }
    }

    async fn launch(&mut self, step: &mut Step, release: &Digest, count: u32) -> Result<Done, Failure> {
        let sides = self.sides.iter().flatten();
        let Some(side) = sides.into_iter().find(|side| side.release.id() == *release) else {
            return Err(Failure::infrastructure(
                "the plan asks for a release that the rollout does not know",
            ));
        };
        let (version, word, release_of) = (side.version.clone(), side.word, side.release.clone());
        let mut intents = self.intents_for(release, &version, word, count);
        self.intents.extend(intents.iter().cloned());
        let mut noted: Vec<Intent> = step.noted(LAUNCHES).unwrap_or_default();
        if intents.iter().any(|intent| !noted.contains(intent)) {
            noted
                .extend(intents.iter().filter(|intent| !noted.contains(intent)).cloned().collect::<Vec<_>>());
            step.note(LAUNCHES, &noted).await?;
        }
        intents.sort_unstable();
        if let (true, Some(first)) = (count > self.room, intents.first()) {
            let like = self.launch_of(&release_of, &self.id.instance_name(&version, first.n), &first.key);
            match patiently(|| roomy(self.cloud.compute.room_for(&like, count))).await? {
                Ok(()) => self.room = count,
                Err(why) => return Ok(Done::NoRoom(why)),
            }
        }
        for intent in intents {
            let name = self.id.instance_name(&version, intent.n);
            let launch = self.launch_of(&release_of, &name, &intent.key);
            self.asked.insert(intent.key.clone());
            let instance = match patiently(|| roomy(self.cloud.compute.launch(&launch))).await? {
                Ok(instance) => instance,
                Err(why) => return Ok(Done::NoRoom(why)),
            };
            if instance.state == InstanceState::Terminated {
                // It came and went under this key: the next launch needs a new one.
                self.ended.insert(intent.key);
                continue;
            }
            if let Some(began) = &mut self.began {
                began.hear(&instance.id, instance.launched_at);
            }
            step.say(&format!("launch {} from {}, at {}", instance.id, launch.image, instance.address));
            self.instances.insert(instance.id.clone(), instance);
        }
        Ok(Done::Yes)
    }

    /// The launches to ask for: first those that were intended and are not seen, under their old
    /// keys, so that they happen once; then new ones.
    fn intents_for(&self, release: &Digest, version: &str, word: &str, count: u32) -> Vec<Intent> {
        let seen: BTreeSet<&Key> = self.instances.values().map(|instance| &instance.key).collect();
        let open =
            |i: &&Intent| i.release == *release && !seen.contains(&i.key) && !self.ended.contains(&i.key);
        let unseen = self.intents.iter().filter(open);
        let mut intents: Vec<Intent> = unseen.take(count as usize).cloned().collect();
        let prefix = self.id.instance_name(version, 0);
        let prefix = prefix.trim_end_matches('0');
        let named = self.instances.values().filter_map(|i| i.name.strip_prefix(prefix)?.parse::<u32>().ok());
        let intended = self.intents.iter().filter(|i| i.release == *release).map(|i| i.n);
        let mut n = named.chain(intended).max().unwrap_or(0);
        while intents.len() < count as usize {
            n += 1;
            let key = format!("{}.{word}.{n}", self.key);
            let Ok(key) = key.parse() else { break };
            intents.push(Intent { release: release.clone(), n, key });
        }
        intents
    }
}

/// A fleet as it is now: its instances, joined with what the balancer says of them.
pub async fn observe(
    cloud: &Cloud,
    fleet: &FleetId,
) -> Result<(BTreeMap<InstanceId, Instance>, Observed), cloud::Error> {
    let instances = cloud.compute.instances(fleet).await?;
    let targets = cloud.balancer.targets(fleet).await?;
    let now = Timestamp::now();
    let instances: BTreeMap<_, _> =
        instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
    // A target without an instance is what a crash between ending and forgetting leaves.
    let gone: Vec<InstanceId> =
        targets.iter().map(|t| t.id.clone()).filter(|id| !instances.contains_key(id)).collect();
    if !gone.is_empty() {
        cloud.balancer.forget(fleet, &gone).await?;
    }
    let targets: BTreeMap<_, _> = targets.into_iter().map(|target| (target.id.clone(), target)).collect();
    let reason = |target: &Target| target.reason.clone().unwrap_or_else(|| "unhealthy".to_owned());
    let member = |instance: &Instance| Member {
        id: instance.id.clone(),
        release: instance.release.clone(),
        life: match &instance.state {
            InstanceState::Pending => Life::Pending,
            InstanceState::Running => Life::Running,
            InstanceState::Failed { reason } => Life::Failed(reason.clone()),
            InstanceState::Terminated => Life::Failed("it was terminated".to_owned()),
        },
        traffic: match targets.get(&instance.id) {
            None => Traffic::Unregistered,
            Some(target) if target.role == Role::Standby => match target.state {
                TargetState::Initial => Traffic::Standby(Check::Initial),
                TargetState::Healthy => Traffic::Standby(Check::Healthy),
                TargetState::Unhealthy => Traffic::Standby(Check::Unhealthy(reason(target))),
                TargetState::Draining { open_requests, .. } => Traffic::Draining { open_requests },
                TargetState::Drained => Traffic::Drained,
            },
            Some(target) => match target.state {
                TargetState::Initial => Traffic::Initial,
                TargetState::Healthy => Traffic::Healthy,
                TargetState::Unhealthy => Traffic::Unhealthy(reason(target)),
                TargetState::Draining { open_requests, .. } => Traffic::Draining { open_requests },
                TargetState::Drained => Traffic::Drained,
            },
        },
        launched_at: instance.launched_at,
    };
    let observed = Observed { now, members: instances.values().map(member).collect() };
    Ok((instances, observed))
}

/// No room is an answer, not a failure: there may be some later.
async fn roomy<T>(
    asked: impl Future<Output = Result<T, cloud::Error>>,
) -> Result<Result<T, String>, cloud::Error> {
    match asked.await {
        Err(cloud::Error::NoCapacity(why)) => Ok(Err(why)),
        other => other.map(Ok),
    }
}

/// Asks the cloud, and asks again when trying again may help.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, cloud::Error>>,
{
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match &error {
            cloud::Error::Throttled { after } => {
                tokio::time::sleep(*after).await;
                continue;
            }
            cloud::Error::Ambiguous(_) | cloud::Error::Failed(_) if tries + 1 < TRIES => {}
            _ => return Err(failed(error)),
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

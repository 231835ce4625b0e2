//! One more instance of a group, for a key: found, or claimed among those without a key, or asked for.
//!
//! The group is asked by a number, so that nothing is asked for twice: its desired capacity is raised
//! by one only while as many members are there as it has now. What it cannot launch now is taken back,
//! so that nothing comes later that nobody waits for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_autoscaling::types::{Activity, ScalingActivityStatusCode};

use super::group::{Change, Group};
use super::members::{Machine, Machines, machines, state};
use super::{Memory, activity, template};
use crate::cloud::aws::Aws;
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations;
use crate::cloud::hearing;
use crate::cloud::{Error, Instance, InstanceState, Launch};

/// A group has launched an instance, or said why not, within seconds as a rule; it says nothing at all
/// where a lifecycle hook or a person is at it.
const PATIENCE: Duration = Duration::from_secs(3 * 60);
/// The first look after asking: as a rule the instance is there by then.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// The clock of the group may be behind ours so much.
const SKEW: Duration = Duration::from_secs(30);

pub async fn launch(aws: &Aws, name: &str, launch: &Launch) -> Result<Instance, Error> {
    let (fleet, client) = aws.fleet(&launch.fleet)?;
    let memory = aws.groups.of(name);
    let mut memory = memory.lock().await;
    let mut wait = Wait::new(aws.setup.account.poll);
    loop {
        let group = Group::look(&client, name).await?;
        let mut machines = machines(&client, &group, &launch.fleet).await?;
        if let Some(found) = machines.values().find(|machine| has_key(machine, launch)) {
            return found_again(&group, found, launch, fleet.port);
        }
        let version = template::version_for(&client, &group, launch, fleet.port, &mut memory).await?;
        if let Some(free) = free(&group, &mut machines, launch, version, &memory) {
            free.claim(&client, launch).await?;
            memory.claimed.insert(free.id().clone(), launch.key.clone());
            let state = state(group.member(free.id()), free).unwrap_or(InstanceState::Pending);
            return free.instance(name, &launch.fleet, fleet.port, state);
        }
        group.change(&client, Change { version: Some(version), ..Change::default() }).await?;
        resume_launching(&client, &group).await?;
        let (desired, counted) = (group.desired, group.counted());
        let shown = group.members.iter().filter(|m| m.counts()).all(|m| machines.contains_key(&m.id));
        if shown && desired <= counted {
            let one_more = counted.saturating_add(1);
            if one_more > group.max {
                hearing::say(&format!(
                    "the group {name} may have {one_more} instances for a while, not {}",
                    group.max
                ));
                group.change(&client, Change { max: Some(one_more), ..Change::default() }).await?;
            }
            group.set_desired(&client, one_more).await?;
        } else if let Some(error) = wait.failure(&client, &group).await? {
            take_back(&client, name).await?;
            return Err(error);
        }
        wait.pause().await;
    }
}

fn has_key(machine: &Machine, launch: &Launch) -> bool {
    machine.tag(crate::cloud::aws::tags::KEY) == Some(launch.key.as_str())
}

/// What the key made before, whatever became of it.
fn found_again(group: &Group, found: &Machine, launch: &Launch, port: u16) -> Result<Instance, Error> {
    if found.release() != launch.release {
        return Err(Error::Conflict(format!(
            "the key {} launched {} with another release, {}",
            launch.key,
            found.id(),
            found.release().short()
        )));
    }
    let state = state(group.member(found.id()), found).unwrap_or(InstanceState::Terminated);
    found.instance(&group.name, &launch.fleet, port, state)
}

/// A member of the release that was launched for nobody yet: what an earlier process asked for.
fn free<'a>(
    group: &Group,
    machines: &'a mut Machines,
    launch: &Launch,
    version: i64,
    memory: &Memory,
) -> Option<&'a mut Machine> {
    use crate::cloud::aws::tags;
    let version = version.to_string();
    machines.values_mut().find(|machine| {
        let Some(member) = group.member(machine.id()).filter(|member| member.counts()) else { return false };
        let release = match machine.tag(tags::RELEASE) {
            Some(release) => release == launch.release.as_str(),
            // Its tags are shown later than itself.
            None => member.version.as_deref() == Some(version.as_str()),
        };
        let nobodys = machine.tag(tags::KEY).is_none() && !memory.claimed.contains_key(machine.id());
        release && nobodys && machine.is_live()
    })
}

/// It is suspended only for the moment of [`take_back`], and here only where that was cut short.
async fn resume_launching(client: &Client, group: &Group) -> Result<(), Error> {
    match group.suspended.contains(LAUNCHING) && group.note()?.is_some() {
        true => group.resume(client, vec![LAUNCHING.to_owned()]).await,
        false => Ok(()),
    }
}

const LAUNCHING: &str = "Launch";

/// The desired capacity is what is there again. While that is done nothing can come up, else the group
/// would end one of its choice.
async fn take_back(client: &Client, name: &str) -> Result<(), Error> {
    let group = Group::look(client, name).await?;
    if group.desired <= group.counted() {
        return Ok(());
    }
    let ours = group.note()?.is_some();
    if ours {
        group.suspend(client, &BTreeSet::from([LAUNCHING.to_owned()])).await?;
    }
    let group = Group::look(client, name).await?;
    let there = group.counted().max(group.min);
    if group.desired > there {
        group.set_desired(client, there).await?;
    }
    if ours {
        group.resume(client, vec![LAUNCHING.to_owned()]).await?;
    }
    Ok(())
}

/// Waiting for a group to launch.
struct Wait {
    began: Instant,
    since: SystemTime,
    looks: u32,
    poll: Duration,
}

impl Wait {
    fn new(poll: Duration) -> Self {
        Self { began: Instant::now(), since: SystemTime::now() - SKEW, looks: 0, poll }
    }

    async fn pause(&mut self) {
        let pause = if self.looks == 0 { self.poll.min(FIRST_LOOK) } else { self.poll };
        self.looks += 1;
        tokio::time::sleep(pause).await;
    }

    /// Why it does not come. A group tries its other zones by itself, so that one refusal for want of
    /// capacity is none yet.
    async fn failure(&self, client: &Client, group: &Group) -> Result<Option<Error>, Error> {
        if self.looks < 2 {
            return Ok(None);
        }
        let failed = self.failed(client, &group.name).await?;
        let zones = group.all.availability_zones().len().max(1);
        let over = self.began.elapsed() >= PATIENCE;
        let refused = failed.len();
        let last = failed.into_iter().next().map(|message| activity::meaning(&group.name, &message));
        Ok(match last {
            Some(error @ Error::NoCapacity(_)) => (refused >= zones || over).then_some(error),
            Some(error @ Error::Failed(_)) => over.then_some(error),
            Some(error) => Some(error),
            None => over.then(|| {
                Error::NoCapacity(format!(
                    "the group {} has launched nothing for {} s, and does not say why: aws autoscaling \
                     describe-scaling-activities --auto-scaling-group-name {}",
                    group.name,
                    PATIENCE.as_secs(),
                    group.name
                ))
            }),
        })
    }

    /// What launches have failed with since, the last first.
    async fn failed(&self, client: &Client, name: &str) -> Result<Vec<String>, Error> {
        let shown = client
            .call(operations::DESCRIBE_SCALING_ACTIVITIES, |services| {
                let ask = services.autoscaling.describe_scaling_activities().auto_scaling_group_name(name);
                ask.max_records(20).send()
            })
            .await?;
        let recent = |activity: &&Activity| {
            let started = activity.start_time().and_then(|time| SystemTime::try_from(*time).ok());
            started.is_some_and(|started| started >= self.since)
                && activity.status_code() == Some(&ScalingActivityStatusCode::Failed)
                && activity.description().is_none_or(|text| text.starts_with("Launching"))
        };
        let failed = shown.activities().iter().filter(recent);
        Ok(failed
            .map(|activity| activity.status_message().unwrap_or("it does not say why").to_owned())
            .collect())
    }
}

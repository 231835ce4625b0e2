//! Where the books of all fleets lie, and how a book is brought up to date.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealthDescription};
use jiff::Timestamp;
use tokio::sync::{MutexGuard, Notify};

use super::book::{Book, Mend};
use super::group::{self, Group, Side, TargetType};
use super::health::{self, Seen};
use super::{rules, weights};
use crate::cloud::aws::Aws;
use crate::cloud::aws::client::{Client, Services, code_of};
use crate::cloud::aws::operations::{
    DEREGISTER_TARGETS, DESCRIBE_TAGS, DESCRIBE_TARGET_HEALTH, REGISTER_TARGETS,
};
use crate::cloud::aws::{pace, tags};
use crate::cloud::{Compute, Error, Instance, InstanceState, hearing, setup};
use crate::ids::{FleetId, InstanceId};

/// What was seen is as good as new for so long: whoever waited for a change asks what it was.
const FRESH: Duration = Duration::from_secs(5);

/// One for each fleet.
#[derive(Default)]
pub struct Desks(Mutex<HashMap<FleetId, Arc<Desk>>>);

/// A fleet's book, and who waits for it to be written.
#[derive(Default)]
pub(super) struct Desk {
    book: tokio::sync::Mutex<Book>,
    /// Somebody of this process changed something.
    pub stirred: Notify,
}

/// A fleet's book in hand, and all it takes to write it.
pub(super) struct Clerk<'a> {
    pub aws: &'a Aws,
    pub id: &'a FleetId,
    pub fleet: &'a setup::Fleet,
    pub client: Arc<Client>,
    pub book: MutexGuard<'a, Book>,
}

impl Aws {
    pub(super) fn desk(&self, fleet: &FleetId) -> Arc<Desk> {
        let mut desks = self.desks.0.lock().unwrap_or_else(PoisonError::into_inner);
        desks.entry(fleet.clone()).or_default().clone()
    }

    /// Takes the fleet's book; whoever else wants it waits. Its groups are described.
    pub(super) async fn clerk<'a>(&'a self, id: &'a FleetId, desk: &'a Desk) -> Result<Clerk<'a>, Error> {
        let (fleet, client) = self.fleet(id)?;
        let book = desk.book.lock().await;
        let mut clerk = Clerk { aws: self, id, fleet, client, book };
        if clerk.book.groups.is_empty() {
            clerk.describe().await?;
        }
        Ok(clerk)
    }
}

impl Clerk<'_> {
    /// Reads what the groups are set to, and which of a pair serves.
    pub async fn describe(&mut self) -> Result<(), Error> {
        let groups = group::describe(&self.client, self.fleet).await?;
        match self.book.groups.is_empty() {
            true => *self.book = Book::new(groups),
            false => self.book.regroup(groups),
        }
        self.rules().await.map(drop)
    }

    /// The rules that turn the pairs over, as they are now; none where there are no pairs.
    pub async fn rules(&mut self) -> Result<Vec<weights::Rule>, Error> {
        if !self.has_pairs() {
            return Ok(Vec::new());
        }
        let rules = rules::of_pairs(&self.client, &self.book.groups).await?;
        self.book.live = weights::live(&rules, &self.book.groups);
        Ok(rules)
    }

    /// Whether there are target groups to stand by in.
    pub fn has_pairs(&self) -> bool {
        self.book.groups.iter().any(|group| group.side == Side::Second)
    }

    /// When the targets are looked at next; `None` where nothing of them is waited for.
    pub fn next_look(&self, instances: &[Instance], now: Timestamp) -> Option<Timestamp> {
        let last = self.book.looked?;
        let awaited = self.book.awaited(instances, now);
        pace::next_look(&awaited, last, &self.book.learned, self.aws.setup.account.poll)
    }

    /// Looks, unless what is known is as good as what would be seen.
    pub async fn see(&mut self, instances: &[Instance]) -> Result<(), Error> {
        let now = Timestamp::now();
        let fresh = |looked: Timestamp| looked.checked_add(FRESH).is_ok_and(|until| now < until);
        let early = self.next_look(instances, now).is_some_and(|next| now < next);
        match self.book.looked.is_some_and(fresh) || early {
            true => self.read_tags(instances).await,
            false => self.look(instances).await,
        }
    }

    /// Asks how the targets are, and finishes what a crash left half done.
    pub async fn look(&mut self, instances: &[Instance]) -> Result<(), Error> {
        let mut all = Vec::new();
        for (place, group) in self.book.groups.iter().enumerate() {
            let told = describe_health(&self.client, &group.arn).await?;
            all.push(self.seen(place, group, &told, instances));
        }
        self.book.addresses(instances);
        self.book.looked(all, instances, Timestamp::now());
        self.read_tags(instances).await?;
        for mend in self.book.mends(Timestamp::now()) {
            // What cannot be mended now is looked at again; how it is, is known.
            if let Err(error) = self.mend(mend, instances).await {
                hearing::say(&format!("that did not work, and is tried again: {error}"));
            }
        }
        Ok(())
    }

    async fn mend(&mut self, mend: Mend, instances: &[Instance]) -> Result<(), Error> {
        match mend {
            Mend::Register { group, id } if runs(instances, &id) => {
                hearing::say(&format!("{id} is not in every target group yet: registering it"));
                self.register_in(&[group], &[id]).await
            }
            // It ended, and leaves one group after the other.
            Mend::Register { .. } => Ok(()),
            Mend::Deregister { group, id } => {
                hearing::say(&format!("{id} is not out of every target group yet: deregistering it"));
                self.deregister_from(group, &[id]).await
            }
        }
    }

    /// Of what is told about a group, what is about our instances at our port.
    fn seen(
        &self,
        place: usize,
        group: &Group,
        told: &[TargetHealthDescription],
        instances: &[Instance],
    ) -> BTreeMap<InstanceId, Seen> {
        let told = told.iter().filter_map(|told| {
            let target = told.target()?;
            let ours = target.port().is_none_or(|port| port == i32::from(self.fleet.port));
            let instance = instances.iter().find(|instance| match group.targets {
                TargetType::Instance => target.id() == Some(instance.id.as_str()),
                TargetType::Ip => target.id().and_then(|ip| ip.parse().ok()) == Some(instance.address.ip()),
            });
            let id = &instance.filter(|_| ours)?.id;
            Some((id.clone(), health::read(told.target_health()?, self.book.seen_in(place, id))?))
        });
        told.collect()
    }

    /// Who stands by without being in a target group.
    async fn read_tags(&mut self, instances: &[Instance]) -> Result<(), Error> {
        if self.has_pairs() || !self.book.misses_tags(instances) {
            return Ok(());
        }
        let filter =
            |name: &str, value: &str| aws_sdk_ec2::types::Filter::builder().name(name).values(value).build();
        let fleet = self.id.to_string();
        let send = |services: &Services| {
            let request = services.ec2.describe_tags().filters(filter("key", tags::STANDBY));
            request.filters(filter("resource-type", "instance")).filters(filter("value", &fleet)).send()
        };
        let answer = self.client.call(DESCRIBE_TAGS, send).await?;
        let tagged = answer.tags().iter().filter_map(|tag| tag.resource_id()?.parse().ok());
        for id in tagged.collect::<Vec<InstanceId>>() {
            if instances.iter().any(|instance| instance.id == id) {
                self.book.stands_by(&id);
            }
        }
        self.book.tags_read = true;
        Ok(())
    }

    /// Registers targets in some of the groups. An address that was not seen yet is given.
    pub async fn register_in(&mut self, groups: &[usize], ids: &[InstanceId]) -> Result<(), Error> {
        for place in groups {
            let Some(group) = self.book.groups.get(*place) else { continue };
            let targets = self.named(group, ids);
            let send = |services: &Services| {
                let request = services.elb.register_targets().target_group_arn(&group.arn);
                request.set_targets(Some(targets.clone())).send()
            };
            if let Err(error) = self.client.call(REGISTER_TARGETS, send).await {
                return Err(match is_invalid_target(&error) {
                    // It may be so in a moment: it was seen to run, and not by ELB.
                    true => Error::Ambiguous(format!("{} does not take them yet: {error}", group.name)),
                    false => error,
                });
            }
        }
        self.book.registered(groups, ids, Timestamp::now());
        Ok(())
    }

    /// Deregisters those of them that are in the group and do not drain yet, and some that nobody knows of.
    pub async fn deregister_from(&self, place: usize, ids: &[InstanceId]) -> Result<(), Error> {
        let Some(group) = self.book.groups.get(place) else { return Ok(()) };
        let there = |id: &&InstanceId| {
            self.book.seen_in(place, id).is_some_and(|seen| seen.check != health::Check::Draining)
        };
        let ids: Vec<InstanceId> = ids.iter().filter(there).cloned().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let targets = self.named(group, &ids);
        let send = |services: &Services| {
            let request = services.elb.deregister_targets().target_group_arn(&group.arn);
            request.set_targets(Some(targets.clone())).send()
        };
        match self.client.call(DEREGISTER_TARGETS, send).await {
            // Somebody else was quicker.
            Err(error) if is_invalid_target(&error) => Ok(()),
            other => other.map(drop),
        }
    }

    fn named(&self, group: &Group, ids: &[InstanceId]) -> Vec<TargetDescription> {
        let name = |id: &InstanceId| match group.targets {
            TargetType::Instance => Some(id.to_string()),
            TargetType::Ip => self.book.address(id).as_ref().map(IpAddr::to_string),
        };
        let target = |name| TargetDescription::builder().id(name).port(i32::from(self.fleet.port)).build();
        ids.iter().filter_map(name).map(target).collect()
    }

    /// The fleet's instances, from memory where that is fresh.
    pub async fn instances(&self) -> Result<Vec<Instance>, Error> {
        self.aws.instances(self.id).await
    }
}

pub(super) fn runs(instances: &[Instance], id: &InstanceId) -> bool {
    instances.iter().any(|instance| instance.id == *id && instance.state == InstanceState::Running)
}

/// "The specified target does not exist, is not in the same VPC as the target group, or has an
/// unsupported instance type": also one that does not run.
fn is_invalid_target(error: &Error) -> bool {
    code_of(error) == Some("InvalidTarget")
}

async fn describe_health(client: &Client, arn: &str) -> Result<Vec<TargetHealthDescription>, Error> {
    let send = |services: &Services| services.elb.describe_target_health().target_group_arn(arn).send();
    let answer = client.call(DESCRIBE_TARGET_HEALTH, send).await?;
    Ok(answer.target_health_descriptions.unwrap_or_default())
}

//! The instances of a group: what the group says of its members, joined with what EC2 does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aws_sdk_ec2::types::{Filter, InstanceStateName, Tag};

use super::group::{Group, Member};
use crate::cloud::aws::client::Client;
use crate::cloud::aws::roster::Seen;
use crate::cloud::aws::{operations, tags};
use crate::cloud::{Error, Instance, InstanceState, Launch};
use crate::ids::{Digest, FleetId, InstanceId, Key};

/// An instance as EC2 shows it.
#[derive(Debug, Clone)]
pub struct Machine(Seen);

pub type Machines = BTreeMap<InstanceId, Machine>;

impl Machine {
    pub fn id(&self) -> &InstanceId {
        &self.0.id
    }

    pub fn tag(&self, name: &str) -> Option<&str> {
        self.0.tag(name)
    }

    pub fn is_live(&self) -> bool {
        self.0.is_live()
    }

    /// What it runs. One that nobody of ours launched runs its image.
    pub fn release(&self) -> Digest {
        let ours = self.tag(tags::RELEASE).and_then(|release| release.parse().ok());
        ours.unwrap_or_else(|| Digest::of(format!("image {}", self.image()).as_bytes()))
    }

    fn image(&self) -> &str {
        self.0.image.as_deref().unwrap_or_default()
    }

    /// The instance that it is. One that the group launched by itself has a key that says so.
    pub fn instance(
        &self,
        group: &str,
        fleet: &FleetId,
        port: u16,
        state: InstanceState,
    ) -> Result<Instance, Error> {
        let key = match self.tag(tags::KEY).and_then(|key| key.parse().ok()) {
            Some(key) => key,
            None => self.own_key(group)?,
        };
        let image = self.image().parse();
        let address = self.0.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Instance {
            id: self.0.id.clone(),
            name: self.tag(tags::NAME).unwrap_or(self.0.id.as_str()).to_owned(),
            fleet: fleet.clone(),
            image: image.map_err(|_| Error::Failed(format!("{} says no image that it runs", self.0.id)))?,
            release: self.release(),
            key,
            state,
            address: SocketAddr::new(address, port),
            launched_at: self.0.launched_at,
        })
    }

    fn own_key(&self, group: &str) -> Result<Key, Error> {
        let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let group: String = group.chars().map(legal).take(150).collect();
        let key = format!("{}.{}", group.trim_start_matches('.'), self.0.id);
        key.parse().map_err(|error| Error::Failed(format!("a key for {}: {error}", self.0.id)))
    }

    /// Gives it the key and the name of a launch.
    pub async fn claim(&mut self, client: &Client, launch: &Launch) -> Result<(), Error> {
        let mut all = tags::of(&launch.tags);
        all.push((tags::NAME.to_owned(), launch.name.clone()));
        put(client, std::slice::from_ref(&self.0.id), &all).await?;
        self.0.tags.extend(all);
        Ok(())
    }
}

/// Tags instances.
pub async fn put(client: &Client, ids: &[InstanceId], all: &[(String, String)]) -> Result<(), Error> {
    let all: Vec<Tag> = all.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    client
        .call(operations::CREATE_TAGS, |services| {
            let tag = services.ec2.create_tags().set_resources(Some(ids.clone()));
            tag.set_tags(Some(all.clone())).send()
        })
        .await?;
    Ok(())
}

/// All that carries the fleet's tag, also what has ended, and all members of the group. A member may
/// be missing for a moment: EC2 shows what is new late.
pub async fn machines(client: &Client, group: &Group, fleet: &FleetId) -> Result<Machines, Error> {
    let mut machines = filtered(client, &format!("tag:{}", tags::FLEET), vec![fleet.to_string()]).await?;
    let members = group.members.iter().filter(|member| !member.leaves()).map(|member| &member.id);
    let missing: Vec<String> =
        members.filter(|id| !machines.contains_key(*id)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        // By a filter: an id that is not known yet is no error then.
        machines.extend(filtered(client, "instance-id", missing).await?);
    }
    Ok(machines)
}

async fn filtered(client: &Client, name: &str, values: Vec<String>) -> Result<Machines, Error> {
    let filter = Filter::builder().name(name).set_values(Some(values)).build();
    let mut machines = Machines::new();
    let mut next: Option<String> = None;
    loop {
        let page = client
            .call(operations::DESCRIBE_INSTANCES, |services| {
                let ask = services.ec2.describe_instances().filters(filter.clone());
                ask.set_next_token(next.clone()).send()
            })
            .await?;
        let shown = page.reservations().iter().flat_map(|reservation| reservation.instances());
        machines.extend(shown.filter_map(Seen::new).map(|seen| (seen.id.clone(), Machine(seen))));
        match page.next_token() {
            Some(token) if !token.is_empty() => next = Some(token.to_owned()),
            _ => return Ok(machines),
        }
    }
}

/// What is to be known of an instance; `None`: it is gone, or about to be.
pub fn state(member: Option<&Member>, machine: &Machine) -> Option<InstanceState> {
    let seen = &machine.0;
    let ended = |how: &str| {
        let said =
            seen.reason.as_ref().map(|(_, sentence)| sentence.as_str()).filter(|said| !said.is_empty());
        let reason = said.map_or(how.to_owned(), |said| format!("{how}: {said}"));
        Some(InstanceState::Failed { reason })
    };
    let Some(member) = member else {
        // It was one, and somebody let it go: still it is one of the fleet as long as it runs.
        return match seen.state {
            _ if seen.is_over() => None,
            InstanceStateName::Pending => Some(InstanceState::Pending),
            InstanceStateName::Running => Some(InstanceState::Running),
            _ => ended("it was stopped"),
        };
    };
    if member.leaves() {
        return None;
    }
    if member.stands_aside() {
        return ended("somebody put it into standby");
    }
    match seen.state {
        // As long as the group has not let go of it, it has to be ended there.
        _ if seen.is_over() => ended("it was terminated"),
        InstanceStateName::Stopping | InstanceStateName::Stopped => ended("it was stopped"),
        InstanceStateName::Pending => Some(InstanceState::Pending),
        // A hook may hold it back: the group says when it is in service.
        _ if member.counts() && member.lifecycle != aws_sdk_autoscaling::types::LifecycleState::InService => {
            Some(InstanceState::Pending)
        }
        InstanceStateName::Running => Some(InstanceState::Running),
        _ => ended("nobody knows its state"),
    }
}

#[cfg(test)]
mod tests;

//! Blue-green: who stands by, and the switch.
//!
//! With a pair of target groups for each of the fleet's: new members are registered in the group that
//! the listeners give no weight to, and the switch turns the weights over.
//!
//! Without, which is weaker: new members are registered beside the old ones and serve as soon as they
//! are healthy. The switch tags all others ([`tags::STANDBY`]) and deregisters them; from the end of
//! their delay on they stand by, out of every target group. The way back registers them again, which
//! takes as long as their health checks do; until then whoever serves goes on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aws_sdk_ec2::types::Tag;
use jiff::Timestamp;

use super::desk::Clerk;
use super::group::Side;
use super::rules;
use super::weights::{self, Shares};
use crate::cloud::aws::client::Services;
use crate::cloud::aws::operations::{CREATE_TAGS, DELETE_TAGS};
use crate::cloud::aws::tags;
use crate::cloud::{Error, Instance, Role, Target, TargetState};
use crate::ids::InstanceId;

impl Clerk<'_> {
    /// Registers targets where no request goes; where there is no such place, beside the others.
    pub async fn stand_by(&mut self, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        if !self.has_pairs() {
            return self.register(Side::First, targets).await;
        }
        self.rules().await?;
        let idle: Vec<Side> =
            [Side::First, Side::Second].into_iter().filter(|side| !self.book.live.contains(side)).collect();
        match idle.as_slice() {
            [side] => self.register(*side, targets).await,
            // Both get requests: a switch was cut short, or somebody set it so.
            _ => Err(Error::Conflict(format!(
                "the listeners send requests to {}: give those that are to stand by the weight 0",
                names(self)
            ))),
        }
    }

    /// See [`crate::cloud::Balancer::switch`].
    pub async fn switch(&mut self, to: &[InstanceId]) -> Result<(), Error> {
        let instances = self.instances().await?;
        self.look(&instances).await?;
        let rules = self.rules().await?;
        let targets = self.book.targets(&instances, Timestamp::now());
        let found: Vec<&Target> = targets.iter().filter(|target| to.contains(&target.id)).collect();
        if let Some(missing) = to.iter().find(|id| !found.iter().any(|target| target.id == **id)) {
            return Err(Error::Conflict(format!("{missing} is in no target group")));
        }
        self.bring_back(&found).await?;
        if let Some(unwell) = found.iter().find(|target| target.state != TargetState::Healthy) {
            let why = unwell.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            return Err(Error::Conflict(format!("{} is not healthy{why}", unwell.id)));
        }
        match self.has_pairs() {
            true => self.turn_over(to, &rules).await,
            false => self.put_aside(to, &instances).await,
        }
    }

    /// Those that stand by out of every target group are registered again.
    async fn bring_back(&mut self, found: &[&Target]) -> Result<(), Error> {
        let out =
            found.iter().filter(|target| target.role == Role::Standby && !self.book.is_there(&target.id));
        let out: Vec<_> = out.map(|target| (target.id.clone(), target.address)).collect();
        if out.is_empty() {
            return Ok(());
        }
        self.register(Side::First, &out).await?;
        let names: Vec<&str> = out.iter().map(|(id, _)| id.as_str()).collect();
        Err(Error::Conflict(format!("{}: registered again, and not healthy yet", names.join(", "))))
    }

    /// Turns the weights to where these are.
    async fn turn_over(&mut self, to: &[InstanceId], rules: &[weights::Rule]) -> Result<(), Error> {
        let mut shares = Shares::new();
        for side in to.iter().filter_map(|id| self.book.side_of(id)) {
            *shares.entry(side).or_default() += 1;
        }
        self.turn(rules, &shares).await
    }

    async fn turn(&mut self, rules: &[weights::Rule], shares: &Shares) -> Result<(), Error> {
        let turned = rules::turn(&self.client, rules, &self.book.groups, shares).await;
        let sides: BTreeSet<Side> = shares.keys().copied().collect();
        match turned {
            Ok(()) => self.book.live = sides,
            // Some of them, perhaps.
            Err(_) => self.book.live.extend(sides),
        }
        turned
    }

    /// Tags all others, so that it is known that they stand by when they are in no target group any
    /// more, and deregisters them.
    async fn put_aside(&mut self, to: &[InstanceId], instances: &[Instance]) -> Result<(), Error> {
        let others = self.book.members(instances).into_iter().filter(|id| !to.contains(id));
        let others: Vec<InstanceId> = others.cloned().collect();
        if others.is_empty() {
            return Ok(());
        }
        let tag = Tag::builder().key(tags::STANDBY).value(self.id.to_string()).build();
        let names: Vec<String> = others.iter().map(ToString::to_string).collect();
        let send = |services: &Services| {
            let request = services.ec2.create_tags().set_resources(Some(names.clone()));
            request.tags(tag.clone()).send()
        };
        self.client.call(CREATE_TAGS, send).await?;
        for id in &others {
            self.book.stands_by(id);
        }
        for place in 0..self.book.groups.len() {
            self.deregister_from(place, &others).await?;
        }
        self.book.deregistered(&others, false, Timestamp::now());
        Ok(())
    }

    /// Takes the tag from those that have it.
    pub async fn untag(&mut self, ids: &[InstanceId]) -> Result<(), Error> {
        let tagged: Vec<String> =
            ids.iter().filter(|id| self.book.is_tagged(id)).map(ToString::to_string).collect();
        if tagged.is_empty() {
            return Ok(());
        }
        let tag = Tag::builder().key(tags::STANDBY).build();
        let send = |services: &Services| {
            let request = services.ec2.delete_tags().set_resources(Some(tagged.clone()));
            request.tags(tag.clone()).send()
        };
        self.client.call(DELETE_TAGS, send).await.map(drop)
    }

    /// Before targets leave: a listener whose target group would be left empty while the other of the
    /// pair serves is turned over to that. Only a switch that was cut short leaves one so.
    pub async fn leave_none_empty(&mut self, leaving: &[InstanceId]) -> Result<(), Error> {
        if !self.has_pairs() {
            return Ok(());
        }
        let serves = |side: Side| self.book.serves(side, leaving);
        let Some(side) = weights::settled(&self.book.live, serves) else { return Ok(()) };
        let rules = self.rules().await?;
        self.turn(&rules, &Shares::from([(side, 1)])).await
    }
}

fn names(clerk: &Clerk<'_>) -> String {
    let names: Vec<&str> = clerk.book.groups.iter().map(|group| group.name.as_str()).collect();
    names.join(" and ")
}

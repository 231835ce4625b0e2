//! Target groups: which instances of a fleet take traffic, and their health.
//!
//! - Nothing is created and nothing removed but targets; of those only the fleet's own instances are
//!   seen and touched. Of listeners only the weights of a pair of target groups are changed.
//! - A member is healthy when it is so in every target group, and its slow start is over.
//! - Only [`Balancer::changed`] waits by asking, at a pace of its own ([`super::pace`]); right after it,
//!   and after what this process did itself, nobody has to ask ([`book`]).
//! - A crash between two groups, or two rules, leaves something half done; looking or asking again
//!   finishes it.
//!
//! ```text
//! desk    the books of all fleets, and how one is brought up to date      group   what a group is set to
//! book    PURE  what is known of a fleet's targets                         health  PURE  a state, in our words
//! swap    blue-green: who stands by, and the switch                        watch   waiting for a change
//! rules   listeners and rules                                              weights PURE  who gets how much
//! address where people reach it
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Aws;
use super::pace::Wait;
use crate::cloud::{Balancer, Error, Listener, Target, Timing};
use crate::ids::{FleetId, InstanceId};

mod address;
mod book;
mod desk;
mod group;
mod health;
mod rules;
mod swap;
mod watch;
mod weights;

use desk::Clerk;
pub use desk::Desks;
use group::Side;

/// So many times the account's interval a fleet under way is left alone when nothing says that it
/// changed, 5 minutes of 10 s: each look costs requests, and [`Balancer::changed`] asks as often as it
/// takes.
const PACE: u32 = 30;

#[async_trait]
impl Balancer for Aws {
    async fn put_listener(&self, listener: &Listener) -> Result<(), Error> {
        let desk = self.desk(&listener.fleet);
        let mut clerk = self.clerk(&listener.fleet, &desk).await?;
        clerk.describe().await?;
        // Better now than when the rollout is done.
        clerk.url().await.map(drop)
    }

    async fn remove_listener(&self, fleet: &FleetId) -> Result<(), Error> {
        if self.fleet(fleet).is_err() {
            return Ok(());
        }
        let desk = self.desk(fleet);
        let mut clerk = match self.clerk(fleet, &desk).await {
            // With its target groups its targets are gone.
            Err(Error::NotFound(_)) => return Ok(()),
            other => other?,
        };
        let instances = clerk.instances().await?;
        clerk.look(&instances).await?;
        let ids: Vec<InstanceId> = instances.into_iter().map(|instance| instance.id).collect();
        clerk.deregister(&ids).await?;
        clerk.book.forgotten(&ids);
        desk.stirred.notify_waiters();
        Ok(())
    }

    async fn register(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        // Both, where a crash came between two rules: then the one that the fleet is at home in.
        let side = clerk.book.live.first().copied().unwrap_or(Side::First);
        clerk.register(side, targets).await?;
        desk.stirred.notify_waiters();
        Ok(())
    }

    async fn stand_by(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        clerk.stand_by(targets).await?;
        desk.stirred.notify_waiters();
        Ok(())
    }

    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), Error> {
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        let switched = clerk.switch(to).await;
        desk.stirred.notify_waiters();
        switched
    }

    async fn deregister(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        let instances = clerk.instances().await?;
        clerk.see(&instances).await?;
        clerk.leave_none_empty(targets).await?;
        clerk.deregister(targets).await?;
        desk.stirred.notify_waiters();
        Ok(())
    }

    async fn forget(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        clerk.deregister(targets).await?;
        clerk.book.forgotten(targets);
        desk.stirred.notify_waiters();
        Ok(())
    }

    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, Error> {
        if self.fleet(fleet).is_err() {
            return Ok(Vec::new());
        }
        let desk = self.desk(fleet);
        let mut clerk = self.clerk(fleet, &desk).await?;
        let instances = clerk.instances().await?;
        // Nobody of ours can be anywhere.
        if instances.is_empty() {
            return Ok(Vec::new());
        }
        clerk.see(&instances).await?;
        Ok(clerk.book.targets(&instances, Timestamp::now()))
    }

    async fn changed(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error> {
        match self.fleet(fleet) {
            Ok(_) => self.watch(fleet, patience).await,
            // It has no targets that could change.
            Err(_) => {
                tokio::time::sleep(patience).await;
                Ok(())
            }
        }
    }

    fn pace(&self) -> Duration {
        self.setup.account.poll * PACE
    }

    async fn timing(&self, fleet: &FleetId) -> Result<Option<Timing>, Error> {
        let desk = self.desk(fleet);
        let clerk = self.clerk(fleet, &desk).await?;
        let book = &clerk.book;
        let checked = |group: &group::Group| group.in_service() + group.slow_start;
        let checked = book.groups.iter().map(checked).max().unwrap_or_default();
        let boot = book.learned.get(Wait::Boot).unwrap_or_default();
        Ok(Some(Timing { in_service: boot + checked, drain: book.drain() }))
    }

    async fn url(&self, listener: &Listener) -> Result<String, Error> {
        let desk = self.desk(&listener.fleet);
        self.clerk(&listener.fleet, &desk).await?.url().await
    }
}

impl Clerk<'_> {
    /// Registers those that are not there yet in every group of the side.
    async fn register(&mut self, side: Side, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        let instances = self.instances().await?;
        self.see(&instances).await?;
        for (id, address) in targets {
            self.book.found_at(id, address.ip());
        }
        let ids = targets.iter().map(|(id, _)| id).filter(|id| !self.book.is_registered(id));
        // One that ended meanwhile cannot be registered, and the next look says so.
        let ids: Vec<InstanceId> = ids.filter(|id| desk::runs(&instances, id)).cloned().collect();
        if ids.is_empty() {
            return Ok(());
        }
        // First: tagged and serving at once, it would be thought to stand by when it left.
        self.untag(&ids).await?;
        let groups: Vec<usize> = self.book.of_side(side).map(|(place, _)| place).collect();
        self.register_in(&groups, &ids).await
    }

    /// Deregisters targets wherever they are, for good.
    async fn deregister(&mut self, ids: &[InstanceId]) -> Result<(), Error> {
        for place in 0..self.book.groups.len() {
            self.deregister_from(place, ids).await?;
        }
        // Last: until then it is known that nobody is sent there.
        self.untag(ids).await?;
        self.book.deregistered(ids, true, Timestamp::now());
        Ok(())
    }
}

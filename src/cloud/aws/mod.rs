//! AWS: images are AMIs, instances are EC2's, the balancer is ELB's, objects are in S3.
//!
//! - The journal decides and tags mirror it: everything is tagged when it is made, and found again by
//!   its tags ([`tags`]).
//! - Every request goes through [`client::Client::call`]: one limiter for an account and region,
//!   throttling is waited out there, each request is told to whoever hears ([`super::hearing`]).
//! - What may have happened without an answer is looked for before it is asked for again; where AWS
//!   takes a client token, it is made of our key.
//!
//! ```text
//! client      connections, credentials, the limiter, errors by meaning
//! operations  every request that is ever sent, and what it takes to be allowed
//! tags        what everything carries
//! objects     S3                        presign  addresses of objects, for machines without credentials
//! builders    machines that images are made on     script, pack   what they are told, and given
//! images      AMIs, and what their tags say
//! instances   plain instances          groups   Auto Scaling groups
//! roster      which instances there are: one look for all fleets
//! choice      where an instance is launched       launch_data   what it is told
//! room        quotas and addresses
//! targets     target groups and listeners   pace   when what is awaited is looked at again
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::{Cloud, setup};

pub mod builders;
mod choice;
pub mod client;
mod compute;
pub mod groups;
pub mod images;
pub mod instances;
pub mod launch_data;
pub mod objects;
pub mod operations;
pub mod pace;
mod pack;
pub mod presign;
mod room;
mod roster;
mod script;
pub mod tags;
pub mod targets;

use client::{Client, Clients};

/// Every account that this process reaches, and what was opened in them.
#[derive(Default)]
pub struct Accounts {
    clients: Clients,
    opened: Mutex<Vec<(Arc<setup::Aws>, Cloud)>>,
}

impl Accounts {
    /// Accounts that are reached with these credentials at these addresses.
    pub fn with(config: aws_config::SdkConfig) -> Self {
        Self { clients: Clients::with(config), opened: Mutex::default() }
    }

    /// The cloud that is described. Nothing is asked for yet.
    pub fn open(&self, setup: &Arc<setup::Aws>) -> Cloud {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cloud)) = opened.iter().find(|(known, _)| known == setup) {
            return cloud.clone();
        }
        let aws = Arc::new(Aws::new(setup.clone(), &self.clients));
        let cloud = Cloud { compute: aws.clone(), balancer: aws.clone(), objects: aws };
        opened.push((setup.clone(), cloud.clone()));
        cloud
    }
}

/// A service's part of an account: it is all three parts of the cloud.
pub struct Aws {
    pub(crate) setup: Arc<setup::Aws>,
    /// For artifacts and images.
    pub(crate) client: Arc<Client>,
    clients: Clients,
    session: presign::Session,
    desks: targets::Desks,
    groups: groups::Groups,
}

impl Aws {
    fn new(setup: Arc<setup::Aws>, clients: &Clients) -> Self {
        let client = clients.get(&setup.account, setup.account.role.as_deref());
        let (session, desks) = (presign::Session::default(), targets::Desks::default());
        Self { setup, client, clients: clients.clone(), session, desks, groups: groups::Groups::default() }
    }

    /// What the settings say of a fleet, and the client that may act on it.
    pub(crate) fn fleet(
        &self,
        fleet: &crate::ids::FleetId,
    ) -> Result<(&setup::Fleet, Arc<Client>), super::Error> {
        let known = self.setup.fleets.get(fleet);
        let known = known.ok_or_else(|| {
            super::Error::NotFound(format!(
                "the fleet {fleet} on AWS: the settings do not have it under environments.{}.fleets",
                fleet.environment
            ))
        })?;
        let role = known.role.as_deref().or(self.setup.account.role.as_deref());
        Ok((known, self.clients.get(&self.setup.account, role)))
    }
}

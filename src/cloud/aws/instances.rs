//! Instances that Windlass launches itself, and what is seen of any fleet's.
//!
//! What is asked of AWS is asked for all fleets at once and remembered ([`super::roster`]); what this
//! process launches and ends is known without asking.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::InstanceStateName;

use super::client::Client;
use super::roster::{Entry, Seen};
use super::{Aws, operations, tags};
use crate::cloud::{Error, Instance, InstanceState};
use crate::ids::{FleetId, InstanceId};

mod launch;
#[cfg(test)]
mod tests;

pub(super) use launch::launch;

/// So often an instance that AWS does not know of is looked for before that is believed.
const LOOKS: u32 = 5;

impl Aws {
    /// Every instance of the fleet that is not gone, as AWS shows it now: this asks. Whoever asks at
    /// the same time, also for another fleet, shares the answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn look_at_instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        let (_, client) = self.fleet(fleet)?;
        client.roster.look(&client).await?;
        self.known_instances(fleet)
    }

    /// Every instance of the fleet that is not gone, as far as is known without asking.
    ///
    /// # Errors
    /// The settings do not have the fleet.
    pub(super) fn known_instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        let (settings, client) = self.fleet(fleet)?;
        let entries = client.roster.of(fleet);
        Ok(entries.iter().filter_map(|entry| member(entry, settings.port)).collect())
    }

    /// One client for each role that the fleets are seen with.
    fn fleet_clients(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<Arc<Client>> = Vec::new();
        for id in self.setup.fleets.keys() {
            if let Ok((_, client)) = self.fleet(id)
                && !clients.iter().any(|known| Arc::ptr_eq(known, &client))
            {
                clients.push(client);
            }
        }
        clients
    }
}

/// Every instance of the fleet. While one of them is awaited, what is known is good for half of the
/// interval at which AWS may be asked, else for two: whoever looks that often gets news each time, and
/// whoever looks right after an act does not ask.
pub(super) async fn instances(aws: &Aws, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
    let (_, client) = aws.fleet(fleet)?;
    let poll = aws.setup.account.poll;
    let awaited = |instance: &Instance| instance.state == InstanceState::Pending;
    let age = if aws.known_instances(fleet)?.iter().any(awaited) { poll / 2 } else { poll * 2 };
    client.roster.look_after(&client, age).await?;
    aws.known_instances(fleet)
}

/// The fleet that an instance belongs to; `None` where there is no such instance.
pub(super) async fn fleet_of(aws: &Aws, id: &InstanceId) -> Result<Option<FleetId>, Error> {
    let clients = aws.fleet_clients();
    let known = || clients.iter().find_map(|client| client.roster.by_id(id));
    let mut found = known();
    if found.is_none() {
        for client in &clients {
            client.roster.look(client).await?;
        }
        found = known();
    }
    let Some(entry) = found else { return Ok(None) };
    match entry.seen.fleet() {
        Some(fleet) if aws.setup.fleets.contains_key(&fleet) => Ok(Some(fleet)),
        _ => Err(Error::Denied(format!(
            "{id} is of the fleet {:?}, which is none of this service's in the settings",
            entry.seen.tag(tags::FLEET).unwrap_or_default()
        ))),
    }
}

/// Ends an instance. It is as gone as it gets when it shuts down: AWS takes no way back from there.
pub(super) async fn terminate(aws: &Aws, fleet: &FleetId, id: &InstanceId) -> Result<(), Error> {
    let (_, client) = aws.fleet(fleet)?;
    let roster = &client.roster;
    for _ in 0..LOOKS {
        match roster.by_id(id) {
            None => return Ok(()),
            Some(entry) if entry.dismissed.is_some() || entry.seen.is_over() => {
                roster.dismiss(id);
                return Ok(());
            }
            Some(_) => {}
        }
        let ended = client
            .call(operations::TERMINATE_INSTANCES, |services| {
                services.ec2.terminate_instances().instance_ids(id.as_str()).send()
            })
            .await;
        match ended {
            Ok(_) => {
                roster.dismiss(id);
                return Ok(());
            }
            // It was there: one answer that does not find it proves nothing.
            Err(Error::NotFound(_)) => {
                tokio::time::sleep(aws.setup.account.poll).await;
                roster.look(&client).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Ambiguous(format!("AWS shows {id}, and says that it does not know it when it is to end it")))
}

/// Returns when one of these is known not to run any more. It does not ask by itself but for the first
/// time: whoever looks at any fleet tells all who wait.
pub(super) async fn ended(aws: &Aws, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
    let clients = aws.fleet_clients();
    let mut changes: Vec<_> = clients.iter().map(|client| client.roster.changes()).collect();
    let known = |id: &InstanceId| clients.iter().find_map(|client| client.roster.by_id(id));
    if running.iter().any(|id| known(id).is_none()) {
        for client in &clients {
            client.roster.look_after(client, aws.setup.account.poll).await?;
        }
    }
    let over = |entry: Entry| entry.dismissed.is_some() || !entry.seen.is_live();
    let waiting = async {
        while !running.iter().any(|id| known(id).is_some_and(over)) {
            let learned = changes.iter_mut().map(|changes| Box::pin(changes.changed()));
            let learned: Vec<_> = learned.collect();
            if learned.is_empty() {
                return std::future::pending().await;
            }
            let _ = futures_util::future::select_all(learned).await;
        }
    };
    let _ = tokio::time::timeout(patience, waiting).await;
    Ok(())
}

/// Whether there is room for so many more.
pub(super) use super::room::room_for;

/// An instance as whoever works on its fleet sees it; `None` when it is gone, or says nothing of what
/// it is.
pub(super) fn member(entry: &Entry, port: u16) -> Option<Instance> {
    match entry.dismissed {
        Some(_) => None,
        None => instance(&entry.seen, state(&entry.seen)?, port),
    }
}

/// The instance, in this state.
fn instance(seen: &Seen, state: InstanceState, port: u16) -> Option<Instance> {
    let parse = |tag: Option<&str>| tag.map(str::to_owned);
    Some(Instance {
        id: seen.id.clone(),
        name: parse(seen.tag(tags::NAME)).unwrap_or_else(|| seen.id.to_string()),
        fleet: seen.fleet()?,
        image: seen.image.as_deref()?.parse().ok()?,
        release: seen.tag(tags::RELEASE)?.parse().ok()?,
        key: seen.tag(tags::KEY)?.parse().ok()?,
        state,
        // What has ended answers nowhere.
        address: SocketAddr::new(seen.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port),
        launched_at: seen.launched_at,
    })
}

/// `None` when it is gone because somebody wanted it so.
fn state(seen: &Seen) -> Option<InstanceState> {
    let (code, said) = seen.reason.as_ref().map_or(("", ""), |(code, said)| (code, said));
    let reason = |what: &str| {
        let why = if said.is_empty() { code } else { said };
        let why = if why.is_empty() { "AWS does not say why" } else { why };
        InstanceState::Failed { reason: format!("{what}: {why}") }
    };
    // The codes are those of "StateReason" in the EC2 API reference.
    let by_itself = code.starts_with("Server.")
        || code.starts_with("Client.") && !matches!(code, "Client.UserInitiatedShutdown");
    match &seen.state {
        InstanceStateName::Running => Some(InstanceState::Running),
        InstanceStateName::Stopping | InstanceStateName::Stopped => Some(reason("it was stopped")),
        InstanceStateName::ShuttingDown | InstanceStateName::Terminated if by_itself => {
            Some(reason("it ended by itself"))
        }
        InstanceStateName::ShuttingDown | InstanceStateName::Terminated => None,
        _ => Some(InstanceState::Pending),
    }
}

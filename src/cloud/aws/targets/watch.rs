//! Waiting until something about a fleet changed: instances that boot, targets that are checked or
//! drain. What nobody waits for is not asked for.

use std::time::Duration;

use jiff::Timestamp;

use super::desk::{Clerk, Desk};
use crate::cloud::aws::Aws;
use crate::cloud::aws::pace::{self, Awaited, Wait};
use crate::cloud::{Compute, Error, Instance, InstanceState, Role, TargetState};
use crate::ids::{FleetId, InstanceId};

/// A look that is due so soon is taken together with one that is due now.
const TOGETHER: Duration = Duration::from_millis(500);

/// Where nothing is awaited that this file knows of, whoever waits may know of something: they look again
/// after so many times the account's interval.
const UNKNOWN: u32 = 6;

/// What a change is told by.
type Standing = (Vec<(InstanceId, InstanceState)>, Vec<(InstanceId, TargetState, Role)>);

fn standing(clerk: &Clerk<'_>, instances: &[Instance]) -> Standing {
    let targets = clerk.book.targets(instances, Timestamp::now());
    (
        instances.iter().map(|instance| (instance.id.clone(), instance.state.clone())).collect(),
        targets.into_iter().map(|target| (target.id, target.state, target.role)).collect(),
    )
}

/// When what is looked at next.
#[derive(Debug, Default, Clone, Copy)]
struct Due {
    instances: Option<Timestamp>,
    targets: Option<Timestamp>,
    /// A slow start is over: nobody has to be asked.
    warm: Option<Timestamp>,
}

impl Due {
    fn first(&self) -> Option<Timestamp> {
        [self.instances, self.targets, self.warm].into_iter().flatten().min()
    }

    fn is_now(due: Option<Timestamp>) -> bool {
        let soon = Timestamp::now().checked_add(TOGETHER).unwrap_or(Timestamp::MAX);
        due.is_some_and(|due| due <= soon)
    }
}

fn due(aws: &Aws, clerk: &Clerk<'_>, instances: &[Instance]) -> Due {
    let now = Timestamp::now();
    let booting = instances.iter().filter(|instance| instance.state == InstanceState::Pending);
    let awaited: Vec<Awaited> = booting
        .map(|instance| Awaited { wait: Wait::Boot, since: instance.launched_at, expected: None })
        .collect();
    let last = clerk.book.looked_at_instances.unwrap_or(Timestamp::UNIX_EPOCH);
    Due {
        instances: pace::next_look(&awaited, last, &clerk.book.learned, aws.setup.account.poll),
        targets: clerk.next_look(instances, now),
        warm: clerk.book.warm_next(instances, now),
    }
}

impl Aws {
    /// Returns when the fleet is not as it was, or when this process changed something; at the latest
    /// after `patience`.
    pub(super) async fn watch(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + patience;
        let desk = self.desk(fleet);
        let stirred = desk.stirred.notified();
        tokio::pin!(stirred);
        stirred.as_mut().enable();
        let (mut instances, before, mut due) = {
            let mut clerk = self.clerk(fleet, &desk).await?;
            let instances = clerk.instances().await?;
            // As whoever waits has seen it: a look here would keep from them what it finds.
            if clerk.book.looked.is_none() {
                clerk.look(&instances).await?;
            }
            let (before, due) = (standing(&clerk, &instances), due(self, &clerk, &instances));
            (instances, before, due)
        };
        let until = match due.first() {
            Some(_) => until,
            None => until.min(tokio::time::Instant::now() + self.setup.account.poll * UNKNOWN),
        };
        loop {
            let wait = due
                .first()
                .map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
            tokio::select! {
                () = &mut stirred => return Ok(()),
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            if Due::is_now(due.instances) {
                instances = self.look_again(fleet, &desk, &instances).await?;
            }
            let (now, unwell) = {
                let mut clerk = self.clerk(fleet, &desk).await?;
                if Due::is_now(due.targets) {
                    clerk.look(&instances).await?;
                }
                due = self::due(self, &clerk, &instances);
                let now = standing(&clerk, &instances);
                let unwell = now.1.iter().any(|(_, state, _)| *state == TargetState::Unhealthy);
                (now, unwell)
            };
            if now != before {
                if unwell {
                    // It may be its instance that is not there any more.
                    self.look_again(fleet, &desk, &instances).await?;
                }
                return Ok(());
            }
        }
    }

    /// Asks how the instances are, and learns how long they booted.
    async fn look_again(
        &self,
        fleet: &FleetId,
        desk: &Desk,
        before: &[Instance],
    ) -> Result<Vec<Instance>, Error> {
        self.look_at_instances(fleet).await?;
        let instances = self.instances(fleet).await?;
        let now = Timestamp::now();
        let mut clerk = self.clerk(fleet, desk).await?;
        clerk.book.looked_at_instances = Some(now);
        for instance in instances.iter().filter(|instance| instance.state == InstanceState::Running) {
            let booted = |old: &&Instance| old.id == instance.id && old.state == InstanceState::Pending;
            if before.iter().any(|old| booted(&old))
                && let Ok(took) = Duration::try_from(now.duration_since(instance.launched_at))
            {
                clerk.book.learned.took(Wait::Boot, took);
            }
        }
        Ok(instances)
    }
}

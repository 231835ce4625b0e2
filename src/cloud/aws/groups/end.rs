//! Ending an instance of a group.

use std::time::Duration;

use super::group::Group;
use crate::cloud::Error;
use crate::cloud::aws::{Aws, instances, operations};
use crate::ids::{FleetId, InstanceId};

/// So often it is asked for when nobody knows what became of it, or its group is busy with it.
const TRIES: u32 = 5;
/// So often its end is looked for before it is taken for granted.
const LOOKS: u32 = 6;
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// Ends a member. During a rollout the group has one less to keep then; else it launches another.
pub async fn terminate(aws: &Aws, name: &str, fleet: &FleetId, id: &InstanceId) -> Result<(), Error> {
    let (_, client) = aws.fleet(fleet)?;
    let memory = aws.groups.of(name);
    // Who launches reads the desired capacity that this lowers.
    let _alone = memory.lock().await;
    let mut tries = 0;
    loop {
        let group = Group::look(&client, name).await?;
        let Some(member) = group.member(id) else {
            return instances::terminate(aws, fleet, id).await;
        };
        if member.leaves() {
            client.roster.dismiss(id);
            return Ok(());
        }
        let fewer = group.note()?.is_some() && member.counts();
        let done = client
            .call(operations::TERMINATE_INSTANCE_IN_GROUP, |services| {
                let end = services.autoscaling.terminate_instance_in_auto_scaling_group();
                end.instance_id(id.as_str()).should_decrement_desired_capacity(fewer).send()
            })
            .await;
        tries += 1;
        match done {
            Ok(_) => break,
            // It may have been done, or it left by itself meanwhile: look before it is asked again.
            Err(Error::Ambiguous(_) | Error::Failed(_) | Error::Conflict(_) | Error::NotFound(_))
                if tries < TRIES =>
            {
                tokio::time::sleep(aws.setup.account.poll.min(FIRST_LOOK * tries)).await;
            }
            Err(error) => return Err(error),
        }
    }
    // A group that still shows it would have it ended, and counted down, once more.
    for look in 0..LOOKS {
        let group = Group::look(&client, name).await?;
        if group.member(id).is_none_or(|member| member.leaves()) {
            break;
        }
        tokio::time::sleep(aws.setup.account.poll.min(FIRST_LOOK * 2u32.pow(look))).await;
    }
    client.roster.dismiss(id);
    Ok(())
}

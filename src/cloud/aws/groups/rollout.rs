//! Keeping a group's own hands off its instances while they are turned over, and giving it back.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{InstanceRefreshStatus, LaunchTemplateOverrides};

use super::group::{Change, Group};
use super::members::{self, Machine};
use super::note::{self, Note};
use super::template;
use crate::cloud::aws::client::Client;
use crate::cloud::aws::{Aws, operations, tags};
use crate::cloud::{Error, Launch, hearing};
use crate::ids::{Digest, FleetId, InstanceId};

/// Notes what has to be restored, then suspends what would interfere. The first note counts.
pub async fn begin(aws: &Aws, name: &str, fleet: &FleetId) -> Result<(), Error> {
    let (settings, client) = aws.fleet(fleet)?;
    let group = Group::look(&client, name).await?;
    let note = match group.note()? {
        Some(note) => note,
        None => {
            if !settings.standby_target_groups.is_empty() {
                return Err(Error::Denied(format!(
                    "{fleet} has standby_target_groups, and the group {name} would register what it launches \
                     later with the wrong half of them: leave them out"
                )));
            }
            admit(&group)?;
            refuse_refresh(&client, name).await?;
            // A group that was left empty has no minimum; what it had is written there.
            let min = group.tags.get(note::MINIMUM).and_then(|min| min.parse().ok());
            let note = Note::new(&group.suspended, min.unwrap_or(group.min), group.max);
            group.tag(&client, note::TAG, &note.text()?).await?;
            let ours: Vec<&str> = note.suspended.iter().map(String::as_str).collect();
            hearing::say(&format!("suspend {} of the group {name}", ours.join(", ")));
            note
        }
    };
    group.suspend(&client, &note.suspended).await?;
    // What is ended is not to be held back by the minimum.
    group.change(&client, Change { min: Some(0), ..Change::default() }).await?;
    adopt(&client, &group, fleet).await
}

/// Whether a rollout can work with the group.
fn admit(group: &Group) -> Result<(), Error> {
    group.template()?;
    let name = &group.name;
    let refused = |why: String| Err(Error::Denied(format!("the group {name} {why}")));
    if group.all.status().is_some() {
        return refused("is being deleted".to_owned());
    }
    if group.all.warm_pool_configuration().is_some() {
        return refused(format!(
            "has a warm pool, whose instances were launched from the old image: delete it with aws autoscaling \
             delete-warm-pool --auto-scaling-group-name {name}"
        ));
    }
    let mixed = group.all.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let overrides = mixed.map(|template| template.overrides()).unwrap_or_default();
    let own =
        |o: &&LaunchTemplateOverrides| o.launch_template_specification().is_some() || o.image_id().is_some();
    if overrides.iter().any(|o| own(&o)) {
        return refused(
            "has overrides with templates or images of their own: an image is of one kind".to_owned(),
        );
    }
    let weighs = |o: &LaunchTemplateOverrides| o.weighted_capacity().is_some_and(|weight| weight != "1");
    let unit = group.all.desired_capacity_type().is_none_or(|unit| unit.is_empty() || unit == "units");
    if overrides.iter().any(weighs) || !unit {
        return refused("counts by weight, and Windlass counts instances: leave the weights out".to_owned());
    }
    for process in ["Launch", "Terminate"] {
        if group.suspended.contains(process) {
            return refused(format!(
                "has the process {process} suspended: aws autoscaling resume-processes \
                 --auto-scaling-group-name {name} --scaling-processes {process}"
            ));
        }
    }
    if let Some(aside) = group.members.iter().find(|member| member.stands_aside()) {
        let id = &aside.id;
        return refused(format!(
            "has {id} in standby, which somebody put there: aws autoscaling exit-standby \
             --auto-scaling-group-name {name} --instance-ids {id}, or end it"
        ));
    }
    Ok(())
}

async fn refuse_refresh(client: &Client, name: &str) -> Result<(), Error> {
    let shown = client
        .call(operations::DESCRIBE_INSTANCE_REFRESHES, |services| {
            services.autoscaling.describe_instance_refreshes().auto_scaling_group_name(name).send()
        })
        .await;
    let shown = match shown {
        Ok(shown) => shown,
        Err(Error::Ambiguous(why)) => {
            hearing::say(&format!(
                "whether an instance refresh of the group {name} is under way cannot be seen ({why}); it is \
                 suspended for the rollout in any case"
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    use InstanceRefreshStatus::*;
    let under_way = |status: &InstanceRefreshStatus| {
        matches!(status, Pending | InProgress | Cancelling | RollbackInProgress | Baking)
    };
    let refreshes = shown.instance_refreshes();
    match refreshes.iter().any(|refresh| refresh.status().is_some_and(under_way)) {
        true => Err(Error::Denied(format!(
            "an instance refresh of the group {name} is under way: wait for its end, or end it with aws \
             autoscaling cancel-instance-refresh --auto-scaling-group-name {name}; then replay the stage"
        ))),
        false => Ok(()),
    }
}

/// Members that were there before Windlass become the fleet's, with their image as their release.
async fn adopt(client: &Client, group: &Group, fleet: &FleetId) -> Result<(), Error> {
    let machines = members::machines(client, group, fleet).await?;
    let mut unknown: BTreeMap<Digest, Vec<InstanceId>> = BTreeMap::new();
    let of_group = |machine: &&Machine| group.member(machine.id()).is_some();
    for machine in machines.values().filter(of_group).filter(|machine| machine.tag(tags::FLEET).is_none()) {
        unknown.entry(machine.release()).or_default().push(machine.id().clone());
    }
    for (release, ids) in unknown {
        let mut all = vec![
            (tags::SERVICE, fleet.service.to_string()),
            (tags::ENVIRONMENT, fleet.environment.to_string()),
            (tags::RELEASE, release.to_string()),
        ];
        all.push((tags::FLEET, fleet.to_string()));
        let all: Vec<_> = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let names: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
        hearing::say(&format!("{} of the group {} are of {fleet} from now on", names.join(", "), group.name));
        members::put(client, &ids, &all).await?;
    }
    Ok(())
}

/// Gives the group back: whatever it launches from now on is like `last`. The note goes last, so that
/// this is done again where it was cut short.
pub async fn end(aws: &Aws, name: &str, fleet: &FleetId, last: Option<&Launch>) -> Result<(), Error> {
    let (settings, client) = aws.fleet(fleet)?;
    let memory = aws.groups.of(name);
    let mut memory = memory.lock().await;
    let group = Group::look(&client, name).await?;
    let Some(note) = group.note()? else { return Ok(()) };
    let version = match last {
        Some(launch) => template::version_for(&client, &group, launch, settings.port, &mut memory).await?,
        // Nothing of ours runs: it launches what it did before.
        None => template::base(&client, &group).await?,
    };
    let there = group.counted();
    let (min, desired) = match (last, there) {
        (None, 0) => {
            if note.min > 0 {
                group.tag(&client, note::MINIMUM, &note.min.to_string()).await?;
                hearing::say(&format!(
                    "the group {name} is empty, and stays so: its minimum of {} is 0 until something is \
                     deployed to it",
                    note.min
                ));
            }
            (0, 0)
        }
        _ => (note.min, there.max(note.min)),
    };
    if desired > there {
        hearing::say(&format!(
            "the group {name} has a minimum of {desired}, and {there} instances: it launches the rest by itself"
        ));
    }
    let max = Some(note.max.max(desired));
    let (version, min, desired) = (Some(version), Some(min), Some(desired));
    group.change(&client, Change { version, min, max, desired }).await?;
    if last.is_some() {
        attach(&client, &group, &settings.target_groups).await?;
    }
    // Launching is suspended only where taking back a launch was cut short.
    let ours = note.suspended.iter().map(String::as_str).chain(["Launch"]);
    let resumed = ours.filter(|process| group.suspended.contains(*process)).map(str::to_owned);
    group.resume(&client, resumed.collect()).await?;
    let over: &[&str] = match last {
        Some(_) => &[note::MINIMUM, note::TAG],
        None => &[note::TAG],
    };
    group.untag(&client, over).await?;
    memory.forget();
    hearing::say(&format!("the group {name} launches by itself again"));
    Ok(())
}

/// What the group launches by itself takes traffic too.
async fn attach(client: &Client, group: &Group, wanted: &[String]) -> Result<(), Error> {
    let attached = group.all.target_group_arns();
    let missing: Vec<String> = wanted.iter().filter(|arn| !attached.contains(arn)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    hearing::say(&format!("attach {} to the group {}", missing.join(", "), group.name));
    client
        .call(operations::ATTACH_TARGET_GROUPS, |services| {
            let attach = services.autoscaling.attach_load_balancer_target_groups();
            let attach = attach.auto_scaling_group_name(&group.name);
            attach.set_target_group_arns(Some(missing.clone())).send()
        })
        .await?;
    Ok(())
}

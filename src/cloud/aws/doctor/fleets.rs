//! Where a fleet's instances come from.

use std::collections::{BTreeMap, BTreeSet};

use super::network::Place;
use super::{Demand, Doctor};
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations::DESCRIBE_AUTO_SCALING_GROUPS;
use crate::cloud::setup::{Fleet, LaunchSpec};
use crate::cloud::{Compute, Launch, Tags};
use crate::ids::{Digest, FleetId, ImageId, Key, RunId};

impl Doctor<'_> {
    /// A fleet of plain instances. Its VPC, where it is known.
    pub(super) async fn plain(
        &mut self,
        client: &Client,
        id: &FleetId,
        spec: &LaunchSpec,
        demand: Demand,
        image: Option<&ImageId>,
    ) -> Option<String> {
        let place = Place {
            about: id.to_string(),
            types: &spec.types,
            subnets: &spec.subnets,
            security_groups: &spec.security_groups,
            settings: "the fleet's launch",
        };
        let vpc = self.network(client, &place).await?;
        self.may_launch(client, &place, spec.profile.as_deref(), image, Some(&id.service)).await;
        if let Some(launch) = image.and_then(|image| probe(id, image)) {
            let about = format!("{id}: room");
            let more = demand.more;
            match self.aws.room_for(&launch, more).await {
                Ok(()) => self.findings.ok(about, format!("nothing speaks against {more} more instances")),
                Err(error) => {
                    self.findings.failed(about, &error, "ask for a higher quota, or for less surge")
                }
            }
        }
        Some(vpc)
    }

    /// A fleet of an Auto Scaling group. Its VPC is not looked up.
    pub(super) async fn group(
        &mut self,
        client: &Client,
        id: &FleetId,
        fleet: &Fleet,
        name: &str,
        demand: Demand,
    ) -> Option<String> {
        let about = format!("{id}: group {name}");
        let found = client
            .call(DESCRIBE_AUTO_SCALING_GROUPS, |services| {
                services.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(name).send()
            })
            .await;
        let found = match found {
            Ok(found) => found.auto_scaling_groups.unwrap_or_default(),
            Err(error) => {
                self.findings.failed(about, &error, "windlass policy prints what has to be allowed");
                return None;
            }
        };
        let Some(group) = found.first() else {
            let says = format!("there is no such Auto Scaling group in {}", client.region());
            self.findings.missing(about, says, "make it, or mend auto_scaling_group in the settings");
            return None;
        };
        if group.launch_template().is_none() && group.mixed_instances_policy().is_none() {
            let says = "it has no launch template, which is what a rollout gives a new version";
            self.findings.missing(&about, says, "give it one: aws autoscaling update-auto-scaling-group");
        }
        let (most, needed) = (group.max_size().unwrap_or(0), i64::from(demand.size) + i64::from(demand.more));
        if i64::from(most) < needed {
            let says = format!(
                "its MaxSize is {most}, and a rollout takes {needed}: the size of {} and {} more",
                demand.size, demand.more
            );
            let next = format!(
                "aws autoscaling update-auto-scaling-group --auto-scaling-group-name {name} --max-size {needed}"
            );
            self.findings.missing(&about, says, next);
        }
        let attached: BTreeSet<&str> = group.target_group_arns().iter().map(String::as_str).collect();
        let wanted = fleet.target_groups.iter().chain(&fleet.standby_target_groups);
        let lacking: Vec<&str> = wanted.map(String::as_str).filter(|arn| !attached.contains(arn)).collect();
        if fleet.standby_target_groups.is_empty() && !lacking.is_empty() {
            let says = format!("not attached to it: {}", lacking.join(", "));
            let next = "aws autoscaling attach-load-balancer-target-groups";
            self.findings.missing(&about, says, next);
        }
        let stopped: Vec<&str> =
            group.suspended_processes().iter().filter_map(|one| one.process_name()).collect();
        let stopped = match stopped.is_empty() {
            true => String::new(),
            false => format!("; suspended are {}", stopped.join(", ")),
        };
        let (least, now) = (group.min_size().unwrap_or(0), group.desired_capacity().unwrap_or(0));
        self.findings.ok(about, format!("from {least} to {most} instances, now {now}{stopped}"));
        None
    }
}

/// A launch to ask for room with. Nothing is ever launched of it.
fn probe(id: &FleetId, image: &ImageId) -> Option<Launch> {
    let key: Key = "windlass-doctor".parse().ok()?;
    let run = RunId::new(id.service.clone(), 1);
    Some(Launch {
        key: key.clone(),
        name: id.to_string(),
        fleet: id.clone(),
        image: image.clone(),
        env: BTreeMap::new(),
        release: Digest::of(b""),
        tags: Tags { service: id.service.clone(), run, stage: "doctor".to_owned(), key },
    })
}

//! A group as it was seen, and the requests that change it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types::{
    AutoScalingGroup, LaunchTemplateSpecification, LifecycleState, MixedInstancesPolicy, Tag,
};

use super::note::{self, Note};
use crate::cloud::Error;
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations;
use crate::ids::InstanceId;

/// A group at one moment.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub desired: i32,
    pub min: i32,
    pub max: i32,
    pub members: Vec<Member>,
    pub suspended: BTreeSet<String>,
    pub tags: BTreeMap<String, String>,
    /// All of it, for what is only looked at now and then.
    pub all: AutoScalingGroup,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: InstanceId,
    pub lifecycle: LifecycleState,
    /// The version of the template that it was launched from, as far as the group says.
    pub version: Option<String>,
}

impl Member {
    /// Whether the group counts it: its desired capacity is so many of these.
    pub fn counts(&self) -> bool {
        use LifecycleState::*;
        matches!(self.lifecycle, Pending | PendingWait | PendingProceed | InService)
    }

    /// Whether it is about to leave: the group ends it, or lets it go.
    pub fn leaves(&self) -> bool {
        use LifecycleState::*;
        matches!(
            self.lifecycle,
            Terminating
                | TerminatingWait
                | TerminatingProceed
                | TerminatingRetained
                | Terminated
                | Detaching
                | Detached
        )
    }

    /// Somebody took it out of service, to look at it.
    pub fn stands_aside(&self) -> bool {
        matches!(self.lifecycle, LifecycleState::EnteringStandby | LifecycleState::Standby)
    }
}

/// The template that a group launches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub id: String,
    /// A number, `$Latest` or `$Default`.
    pub version: String,
}

/// What is changed about a group: absolute numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    pub version: Option<i64>,
    pub min: Option<i32>,
    pub max: Option<i32>,
    pub desired: Option<i32>,
}

impl Group {
    pub async fn look(client: &Client, name: &str) -> Result<Self, Error> {
        let shown = client
            .call(operations::DESCRIBE_AUTO_SCALING_GROUPS, |services| {
                services.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(name).send()
            })
            .await?;
        let mut shown = shown.auto_scaling_groups.unwrap_or_default();
        shown.retain(|group| group.auto_scaling_group_name() == Some(name));
        let all = shown.pop().ok_or_else(|| {
            Error::NotFound(format!(
                "the Auto Scaling group {name} in {}: auto_scaling_group names it in the settings; \
                 aws autoscaling describe-auto-scaling-groups lists what is there",
                client.region()
            ))
        })?;
        let member = |instance: &aws_sdk_autoscaling::types::Instance| {
            Some(Member {
                id: instance.instance_id()?.parse().ok()?,
                lifecycle: instance.lifecycle_state()?.clone(),
                version: instance.launch_template().and_then(|t| t.version()).map(str::to_owned),
            })
        };
        let tags = all.tags().iter().filter_map(|tag| Some((tag.key()?.into(), tag.value()?.into())));
        Ok(Self {
            name: name.to_owned(),
            desired: all.desired_capacity().unwrap_or(0),
            min: all.min_size().unwrap_or(0),
            max: all.max_size().unwrap_or(0),
            members: all.instances().iter().filter_map(member).collect(),
            suspended: all
                .suspended_processes()
                .iter()
                .filter_map(|process| process.process_name().map(str::to_owned))
                .collect(),
            tags: tags.collect(),
            all,
        })
    }

    /// How many members the desired capacity is about.
    pub fn counted(&self) -> i32 {
        i32::try_from(self.members.iter().filter(|member| member.counts()).count()).unwrap_or(i32::MAX)
    }

    pub fn member(&self, id: &InstanceId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == *id)
    }

    /// What has to be restored; `None` where no rollout goes on.
    pub fn note(&self) -> Result<Option<Note>, Error> {
        self.tags.get(note::TAG).map(|text| Note::parse(&self.name, text)).transpose()
    }

    /// The template that it launches from.
    pub fn template(&self) -> Result<Template, Error> {
        let mixed = self.all.mixed_instances_policy().and_then(|policy| policy.launch_template());
        let mixed = mixed.and_then(|template| template.launch_template_specification());
        let specification = self.all.launch_template().or(mixed);
        let Some(id) = specification.and_then(LaunchTemplateSpecification::launch_template_id) else {
            let instead = match self.all.launch_configuration_name() {
                Some(name) => {
                    format!("it has the launch configuration {name}, which cannot be pinned to an image")
                }
                None => "it has none".to_owned(),
            };
            return Err(Error::Denied(format!(
                "the group {} needs a launch template, and {instead}: make one and name it with aws \
                 autoscaling update-auto-scaling-group --launch-template",
                self.name
            )));
        };
        // Where a group names no version, it is the default one (CreateAutoScalingGroup).
        let version = specification.and_then(LaunchTemplateSpecification::version).unwrap_or("$Default");
        Ok(Template { id: id.to_owned(), version: version.to_owned() })
    }

    /// Where it launches.
    pub fn subnets(&self) -> Vec<String> {
        let subnets = self.all.vpc_zone_identifier().unwrap_or_default().split(',');
        subnets.map(str::trim).filter(|subnet| !subnet.is_empty()).map(str::to_owned).collect()
    }

    /// Changes what differs; nothing is asked for where nothing does.
    pub async fn change(&self, client: &Client, change: Change) -> Result<(), Error> {
        let template = self.template()?;
        let version = change.version.map(|version| version.to_string());
        let version = version.filter(|version| *version != template.version);
        let differs = |to: Option<i32>, is: i32| to.filter(|to| *to != is);
        let (min, max) = (differs(change.min, self.min), differs(change.max, self.max));
        let desired = differs(change.desired, self.desired);
        if version.is_none() && min.is_none() && max.is_none() && desired.is_none() {
            return Ok(());
        }
        let named = LaunchTemplateSpecification::builder()
            .launch_template_id(&template.id)
            .version(version.clone().unwrap_or(template.version))
            .build();
        // A policy is always given whole: what is left out of its template is gone.
        let policy = self.all.mixed_instances_policy().map(|policy| with_template(policy, &named));
        let plain = version.as_ref().filter(|_| policy.is_none()).map(|_| named);
        client
            .call(operations::UPDATE_AUTO_SCALING_GROUP, |services| {
                let update = services.autoscaling.update_auto_scaling_group();
                let update = update.auto_scaling_group_name(&self.name).set_launch_template(plain.clone());
                let update = update.set_mixed_instances_policy(policy.clone());
                update.set_min_size(min).set_max_size(max).set_desired_capacity(desired).send()
            })
            .await?;
        Ok(())
    }

    pub async fn set_desired(&self, client: &Client, desired: i32) -> Result<(), Error> {
        client
            .call(operations::SET_DESIRED_CAPACITY, |services| {
                let set = services.autoscaling.set_desired_capacity().auto_scaling_group_name(&self.name);
                set.desired_capacity(desired).honor_cooldown(false).send()
            })
            .await?;
        Ok(())
    }

    /// Suspends those of these processes that run.
    pub async fn suspend(&self, client: &Client, processes: &BTreeSet<String>) -> Result<(), Error> {
        let missing: Vec<String> = processes.difference(&self.suspended).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        client
            .call(operations::SUSPEND_PROCESSES, |services| {
                let suspend = services.autoscaling.suspend_processes().auto_scaling_group_name(&self.name);
                suspend.set_scaling_processes(Some(missing.clone())).send()
            })
            .await?;
        Ok(())
    }

    /// Resumes these processes. None are none: AWS would take an empty list for all there are.
    pub async fn resume(&self, client: &Client, processes: Vec<String>) -> Result<(), Error> {
        if processes.is_empty() {
            return Ok(());
        }
        client
            .call(operations::RESUME_PROCESSES, |services| {
                let resume = services.autoscaling.resume_processes().auto_scaling_group_name(&self.name);
                resume.set_scaling_processes(Some(processes.clone())).send()
            })
            .await?;
        Ok(())
    }

    /// Puts a tag on the group, and not on what it launches.
    pub async fn tag(&self, client: &Client, key: &str, value: &str) -> Result<(), Error> {
        let tag = self.of(key).value(value).propagate_at_launch(false).build();
        client
            .call(operations::CREATE_OR_UPDATE_TAGS, |services| {
                services.autoscaling.create_or_update_tags().tags(tag.clone()).send()
            })
            .await?;
        Ok(())
    }

    /// Removes the tags that are there.
    pub async fn untag(&self, client: &Client, keys: &[&str]) -> Result<(), Error> {
        let there = keys.iter().filter(|key| self.tags.contains_key(**key));
        let tags: Vec<Tag> = there.map(|key| self.of(key).build()).collect();
        if tags.is_empty() {
            return Ok(());
        }
        client
            .call(operations::DELETE_GROUP_TAGS, |services| {
                services.autoscaling.delete_tags().set_tags(Some(tags.clone())).send()
            })
            .await?;
        Ok(())
    }

    fn of(&self, key: &str) -> aws_sdk_autoscaling::types::builders::TagBuilder {
        Tag::builder().resource_id(&self.name).resource_type("auto-scaling-group").key(key)
    }
}

/// The policy with another template.
fn with_template(policy: &MixedInstancesPolicy, named: &LaunchTemplateSpecification) -> MixedInstancesPolicy {
    let mut policy = policy.clone();
    if let Some(template) = policy.launch_template.as_mut() {
        template.launch_template_specification = Some(named.clone());
    }
    policy
}

//! Fleets of Auto Scaling groups: turned over, cut short at each request that changes something and
//! gone on with, and left as they were but for what they run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_autoscaling as autoscaling;
use aws_sdk_ec2::types::InstanceStateName;
use serde_json::{Value, json};
use windlass::cloud::setup::{Aws, Fleet, Instances};
use windlass::cloud::{Cloud, Error, Instance, InstanceState, Launch, Tags, aws::Accounts};
use windlass::ids::{Digest, FleetId, PipelineName, RunId};

use crate::emulator::Emulator;

const NOTE: &str = "windlass:suspended";
const MINIMUM: &str = "windlass:min_size";

/// What changes something, of a rollout.
const ACTS: [&str; 9] = [
    "CreateOrUpdateTags",
    "SuspendProcesses",
    "UpdateAutoScalingGroup",
    "CreateTags",
    "CreateLaunchTemplateVersion",
    "SetDesiredCapacity",
    "TerminateInstanceInAutoScalingGroup",
    "ResumeProcesses",
    "DeleteTags",
];

/// A group of its own in an AWS, with a minimum and a maximum of its size, and somebody who has
/// suspended a process of it.
struct Story<'a> {
    emulator: &'a Emulator,
    name: String,
    fleet: FleetId,
    size: u32,
}

fn quick() -> Emulator {
    Emulator::start(
        json!({ "boot": 0.05, "shutdown": 0.05, "lag": 0.05, "heal": 0.05, "drain": 0.05, "delay": 0 }),
    )
}

fn scaling(emulator: &Emulator) -> autoscaling::Client {
    let retry = autoscaling::config::retry::RetryConfig::disabled();
    let config = autoscaling::config::Builder::from(&emulator.config());
    autoscaling::Client::from_conf(config.retry_config(retry).build())
}

fn ec2(emulator: &Emulator) -> aws_sdk_ec2::Client {
    aws_sdk_ec2::Client::new(&emulator.config())
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl<'a> Story<'a> {
    async fn new(emulator: &'a mut Emulator, name: &str, size: u32) -> Self {
        emulator.add(json!({ "group": name, "size": size }));
        let fleet = FleetId::new("storefront".parse().unwrap(), name.parse().unwrap());
        let story = Self { emulator, name: name.to_owned(), fleet, size };
        let size = i32::try_from(size).unwrap();
        let change = scaling(story.emulator).update_auto_scaling_group().auto_scaling_group_name(name);
        change.min_size(size).max_size(size).desired_capacity(size).send().await.unwrap();
        let suspend = scaling(story.emulator).suspend_processes().auto_scaling_group_name(name);
        suspend.scaling_processes("AZRebalance").send().await.unwrap();
        story.is_whole("those of before").await;
        story
    }

    /// The cloud, as a process sees it that has just started.
    fn cloud(&self) -> Cloud {
        let fleet = Fleet { instances: Instances::Group(self.name.clone()), ..self.emulator.fleet("group") };
        let fleets = BTreeMap::from([(self.fleet.clone(), fleet)]);
        let account =
            windlass::cloud::setup::Account { poll: Duration::from_millis(30), ..self.emulator.account() };
        Accounts::with(self.emulator.config()).open(&Arc::new(Aws { account, builder: None, fleets }))
    }

    fn launch(&self, release: &str, n: u32) -> Launch {
        let service: PipelineName = "storefront".parse().unwrap();
        let key = format!("{}.{release}.{n}", self.fleet);
        Launch {
            key: key.parse().unwrap(),
            name: self.fleet.instance_name("7-9f3c2a1b", n),
            fleet: self.fleet.clone(),
            image: self.emulator.world.base.ami.parse().unwrap(),
            env: BTreeMap::from([("RELEASE".to_owned(), release.to_owned())]),
            release: self.release(release),
            tags: Tags {
                service: service.clone(),
                run: RunId::new(service, 7),
                stage: "production".to_owned(),
                key: key.parse().unwrap(),
            },
        }
    }

    fn release(&self, release: &str) -> Digest {
        Digest::of(format!("{} {release}", self.fleet).as_bytes())
    }

    /// Turns the fleet over to a release, one by one. Whoever does the same again goes on.
    async fn turn_over(&self, cloud: &Cloud, release: &str) -> Result<(), Error> {
        cloud.compute.begin_rollout(&self.fleet).await?;
        for n in 1..=self.size {
            self.one_more(cloud, release, n).await?;
            while let (others @ 1.., Some(other)) = self.others(cloud, release).await?
                && others > self.size - n
            {
                cloud.compute.terminate(&other.id).await?;
            }
        }
        cloud.compute.end_rollout(&self.fleet, Some(&self.launch(release, 1))).await
    }

    async fn one_more(&self, cloud: &Cloud, release: &str, n: u32) -> Result<Instance, Error> {
        let launched = cloud.compute.launch(&self.launch(release, n)).await?;
        loop {
            let all = cloud.compute.instances(&self.fleet).await?;
            match all.into_iter().find(|instance| instance.id == launched.id) {
                Some(there) if there.state == InstanceState::Running => return Ok(there),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn others(&self, cloud: &Cloud, release: &str) -> Result<(u32, Option<Instance>), Error> {
        let mut all = cloud.compute.instances(&self.fleet).await?;
        all.retain(|instance| instance.release != self.release(release));
        Ok((u32::try_from(all.len()).unwrap(), all.pop()))
    }

    fn group(&self) -> Value {
        self.emulator.state()["groups"][&self.name].clone()
    }

    /// As many members as there are to be are in service, and no others.
    async fn is_whole(&self, what: &str) {
        let whole = async || {
            let group = self.group();
            let members = group["instances"].as_array().unwrap();
            let serving = members.iter().filter(|member| member["lifecycle"] == "InService").count();
            (serving == self.size as usize && members.len() == serving).then_some(())
        };
        eventually(what, whole).await;
    }

    async fn tags(&self) -> Vec<String> {
        let groups = scaling(self.emulator).describe_auto_scaling_groups();
        let shown = groups.auto_scaling_group_names(&self.name).send().await.unwrap();
        shown.auto_scaling_groups()[0].tags().iter().filter_map(|tag| tag.key().map(str::to_owned)).collect()
    }

    /// The numbers of the template's versions that are for a release.
    async fn versions(&self, release: &str) -> Vec<String> {
        let template = &self.emulator.world.launch_template;
        let ask = ec2(self.emulator).describe_launch_template_versions().launch_template_id(template);
        let shown = ask.max_results(200).send().await.unwrap();
        let release = self.release(release).to_string();
        let of_it = shown.launch_template_versions().iter().filter(|version| {
            version.version_description().is_some_and(|description| description.contains(&release))
        });
        of_it.map(|version| version.version_number().unwrap().to_string()).collect()
    }

    /// The group is as it was, but that it runs this release, and launches it.
    async fn is_left_with(&self, release: &str) {
        self.is_whole("the group is whole").await;
        let (group, size) = (self.group(), self.size);
        let is = (&group["desired"], &group["min"], &group["max"], &group["suspended"]);
        assert_eq!(is, (&json!(size), &json!(size), &json!(size), &json!(["AZRebalance"])), "{group:#}");
        let versions = self.versions(release).await;
        assert_eq!(versions.len(), 1, "a release has one version: {versions:?}");
        assert_eq!(group["version"], json!(versions[0]));
        for member in group["instances"].as_array().unwrap() {
            assert_eq!(member["version"], json!(versions[0]), "{group:#}");
        }
        let tags = self.tags().await;
        assert!(tags.is_empty(), "nothing is left to restore: {tags:?}");
        let ask = ec2(self.emulator).describe_instances();
        let filter =
            aws_sdk_ec2::types::Filter::builder().name("tag:windlass:fleet").values(self.fleet.to_string());
        let shown = ask.filters(filter.build()).send().await.unwrap();
        let all = shown.reservations().iter().flat_map(|reservation| reservation.instances());
        let lives = |instance: &&aws_sdk_ec2::types::Instance| {
            let state = instance.state().and_then(|state| state.name());
            matches!(state, Some(InstanceStateName::Pending | InstanceStateName::Running))
        };
        let living = all.filter(lives).count();
        assert_eq!(living, size as usize, "nothing is left over");
    }
}

#[tokio::test]
async fn a_fleet_that_was_there_is_turned_over_and_the_group_launches_the_new_release_from_then_on() {
    let mut emulator = quick();
    let story = Story::new(&mut emulator, "shop", 2).await;
    let cloud = story.cloud();
    let before = cloud.compute.instances(&story.fleet).await.unwrap();
    assert_eq!(before.len(), 2, "those of before are its instances: {before:?}");
    assert_eq!(before[0].release, before[1].release, "what they run is their image");
    assert_eq!(before[0].key.as_str(), format!("shop.{}", before[0].id));

    story.turn_over(&cloud, "new").await.unwrap();
    story.is_left_with("new").await;
    let named = cloud.compute.instances(&story.fleet).await.unwrap();
    let mut named: Vec<String> = named.into_iter().map(|instance| instance.name).collect();
    named.sort();
    assert_eq!(named, ["storefront-shop-7-9f3c2a1b-1", "storefront-shop-7-9f3c2a1b-2"]);
    let again = cloud.compute.launch(&story.launch("new", 1)).await.unwrap();
    assert_eq!(again.name, named[0], "the same key is the same instance");
    let other = Launch { release: Digest::of(b"other"), ..story.launch("new", 1) };
    let other = cloud.compute.launch(&other).await;
    assert!(matches!(other, Err(Error::Conflict(_))), "a key is for one release: {other:?}");
    cloud.compute.end_rollout(&story.fleet, Some(&story.launch("new", 1))).await.unwrap();

    // The group is on its own now.
    story.emulator.kill_instance(again.id.as_str());
    let replaced = eventually("the group replaces it", async || {
        let all = cloud.compute.instances(&story.fleet).await.unwrap();
        let own = all.into_iter().find(|instance| instance.key.as_str().starts_with("shop.i-"));
        own.filter(|instance| instance.state == InstanceState::Running)
    });
    let replaced = replaced.await;
    assert_eq!(replaced.release, story.release("new"), "whatever it launches is what was deployed last");
    story.is_left_with("new").await;
    assert!(cloud.compute.keeps(&story.fleet));
}

#[tokio::test]
async fn a_rollout_that_is_killed_after_any_request_and_gone_on_with_comes_to_the_same_end() {
    killed_after_each(1).await;
}

#[tokio::test]
async fn so_does_one_that_is_killed_after_any_other() {
    killed_after_each(2).await;
}

/// After each second of the requests that change something, from this one on.
async fn killed_after_each(first: u32) {
    let mut emulator = quick();
    for nth in (first..).step_by(2) {
        let story = Story::new(&mut emulator, &format!("killed-{nth}"), 1).await;
        let rule = json!({ "operations": ACTS, "nth": nth, "times": 1, "fault": "block" });
        let rule = story.emulator.rule(rule);
        let cloud = story.cloud();
        let killed = tokio::select! {
            done = story.turn_over(&cloud, "new") => { done.unwrap(); false }
            // It was carried out, and whoever asked is killed before he hears of it.
            () = held(&story, rule) => true,
        };
        story.emulator.clear(rule);
        story.turn_over(&story.cloud(), "new").await.unwrap();
        story.is_left_with("new").await;
        if !killed {
            let acts = ACTS.len() as u32;
            assert!(nth > acts, "a rollout sends each of the {acts} at least once, and this one sent {nth}");
            break;
        }
    }
}

async fn held(story: &Story<'_>, rule: crate::emulator::Rule) {
    loop {
        if story.emulator.held_within(rule, Duration::ZERO).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn answers_that_are_lost_and_requests_that_are_throttled_change_nothing_about_the_end() {
    let mut emulator = quick();
    for (n, act) in ACTS.into_iter().enumerate() {
        let name = format!("lost-{n}");
        let story = Story::new(&mut emulator, &name, 1).await;
        let lost = json!({ "operations": [act], "nth": 1, "times": 1, "fault": "lost" });
        let throttled = json!({ "operations": ["autoscaling:*", "ec2:*"], "every": 7, "fault": "throttle" });
        let rules = [lost, throttled].map(|rule| story.emulator.rule(rule));
        let cloud = story.cloud();
        let mut done = story.turn_over(&cloud, "new").await;
        for _ in 0..3 {
            if let Err(Error::Ambiguous(_)) = &done {
                done = story.turn_over(&cloud, "new").await;
            }
        }
        done.unwrap();
        for rule in rules {
            story.emulator.clear(rule);
        }
        story.is_left_with("new").await;
    }
}

#[tokio::test]
async fn a_rollout_that_turned_back_leaves_the_group_on_the_old_version() {
    let mut emulator = quick();
    let story = Story::new(&mut emulator, "back", 2).await;
    let cloud = story.cloud();
    story.turn_over(&cloud, "old").await.unwrap();

    cloud.compute.begin_rollout(&story.fleet).await.unwrap();
    let bad = story.one_more(&cloud, "bad", 1).await.unwrap();
    let (_, gone) = story.others(&cloud, "bad").await.unwrap();
    cloud.compute.terminate(&gone.unwrap().id).await.unwrap();
    assert_eq!(story.group()["desired"], 2, "what is ended in a rollout is not replaced");
    // One of the old was ended already: the way back launches it again.
    story.one_more(&cloud, "old", 3).await.unwrap();
    cloud.compute.terminate(&bad.id).await.unwrap();
    cloud.compute.terminate(&bad.id).await.unwrap();
    cloud.compute.end_rollout(&story.fleet, Some(&story.launch("old", 1))).await.unwrap();
    story.is_left_with("old").await;
}

#[tokio::test]
async fn a_group_that_is_left_empty_stays_so_until_something_is_deployed_to_it() {
    let mut emulator = quick();
    let story = Story::new(&mut emulator, "empty", 1).await;
    let cloud = story.cloud();
    cloud.compute.begin_rollout(&story.fleet).await.unwrap();
    let bad = story.one_more(&cloud, "bad", 1).await.unwrap();
    let (_, before) = story.others(&cloud, "bad").await.unwrap();
    for id in [bad.id, before.unwrap().id] {
        cloud.compute.terminate(&id).await.unwrap();
    }
    for _ in 0..2 {
        cloud.compute.end_rollout(&story.fleet, None).await.unwrap();
    }
    let group = story.group();
    assert_eq!((&group["desired"], &group["min"], &group["max"]), (&json!(0), &json!(0), &json!(1)));
    assert_eq!((&group["suspended"], &group["version"]), (&json!(["AZRebalance"]), &json!("1")));
    assert_eq!(story.tags().await, [MINIMUM]);

    story.turn_over(&story.cloud(), "good").await.unwrap();
    story.is_left_with("good").await;
}

#[tokio::test]
async fn a_group_that_a_rollout_cannot_work_with_is_refused_and_left_alone() {
    let mut emulator = quick();
    let story = Story::new(&mut emulator, "odd", 1).await;
    let scaling = scaling(story.emulator);
    let refused = async |word: &str| {
        let refused = story.cloud().compute.begin_rollout(&story.fleet).await;
        assert!(matches!(&refused, Err(Error::Denied(why)) if why.contains(word)), "{word}: {refused:?}");
        assert!(!story.tags().await.contains(&NOTE.to_owned()), "nothing was begun");
        assert_eq!(
            story.group()["suspended"].as_array().unwrap().iter().filter(|p| *p == "HealthCheck").count(),
            0
        );
    };
    scaling.put_warm_pool().auto_scaling_group_name("odd").send().await.unwrap();
    refused("warm pool").await;
    scaling.delete_warm_pool().auto_scaling_group_name("odd").send().await.unwrap();
    let suspend = scaling.suspend_processes().auto_scaling_group_name("odd").scaling_processes("Launch");
    suspend.send().await.unwrap();
    refused("resume-processes").await;
    let resume = scaling.resume_processes().auto_scaling_group_name("odd").scaling_processes("Launch");
    resume.send().await.unwrap();
    let refresh = autoscaling::types::Tag::builder().resource_id("odd").resource_type("auto-scaling-group");
    let refresh = refresh.key("test:refresh").value("InProgress").propagate_at_launch(false).build();
    scaling.create_or_update_tags().tags(refresh).send().await.unwrap();
    refused("cancel-instance-refresh").await;
    let (ami, zone) = (&story.emulator.world.base.ami, format!("{}a", story.emulator.world.region));
    let configured = scaling.create_launch_configuration().launch_configuration_name("old").image_id(ami);
    configured.instance_type("t3.small").send().await.unwrap();
    let made =
        scaling.create_auto_scaling_group().auto_scaling_group_name("old").launch_configuration_name("old");
    made.availability_zones(zone).min_size(0).max_size(0).send().await.unwrap();
    let old = Story { emulator: story.emulator, name: "old".to_owned(), fleet: story.fleet.clone(), size: 0 };
    let refused = old.cloud().compute.begin_rollout(&old.fleet).await;
    assert!(matches!(&refused, Err(Error::Denied(why)) if why.contains("launch template")), "{refused:?}");
    let missing =
        Story { emulator: story.emulator, name: "none".to_owned(), fleet: story.fleet.clone(), size: 0 };
    let missing = missing.cloud().compute.begin_rollout(&missing.fleet).await;
    assert!(matches!(&missing, Err(Error::NotFound(why)) if why.contains("none")), "{missing:?}");
}

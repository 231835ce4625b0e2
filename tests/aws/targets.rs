//! Target groups: the suite that the local balancer passes too, and rollouts by hand, as the deploy
//! stage does them, also where every look is by a process that has just begun.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use windlass::cloud::aws::Accounts;
use windlass::cloud::setup::{Account, Aws, Fleet};
use windlass::cloud::{
    Cloud, Error, HealthCheck, Instance, InstanceState, Launch, Listener, Role, Tags, conformance,
};
use windlass::ids::{Digest, FleetId, InstanceId};
use windlass::rollout::{
    self, Check, Desired, Direction, End, Kept, Life, Member, Move, Observed, Operation, Rolling, Strategy,
    Traffic,
};
use windlass::stage::fleet::observe;

use crate::emulator::{Emulator, PATIENCE};

/// A fleet on an AWS of its own.
struct World {
    emulator: Emulator,
    setup: Arc<Aws>,
    id: FleetId,
    accounts: Accounts,
    /// Whether each look is by a process that knows nothing.
    forgetful: bool,
    launches: std::sync::atomic::AtomicU32,
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

impl World {
    fn new(options: serde_json::Value, fleet: impl FnOnce(&Emulator) -> Fleet) -> Self {
        let emulator = Emulator::start(options);
        let id = FleetId::new("storefront".parse().unwrap(), "production".parse().unwrap());
        let account = Account { poll: Duration::from_millis(300), ..emulator.account() };
        let fleets = BTreeMap::from([(id.clone(), fleet(&emulator))]);
        let setup = Arc::new(Aws { account, builder: None, fleets });
        let accounts = Accounts::with(emulator.config());
        Self { emulator, setup, id, accounts, forgetful: false, launches: 0.into() }
    }

    fn cloud(&self) -> Cloud {
        match self.forgetful {
            true => Accounts::with(self.emulator.config()).open(&self.setup),
            false => self.accounts.open(&self.setup),
        }
    }

    fn listener(&self) -> Listener {
        let health = HealthCheck {
            path: "/".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 2,
        };
        Listener { fleet: self.id.clone(), port: 8080, health, drain: Duration::from_secs(1) }
    }

    async fn launch(&self, cloud: &Cloud, release: &Digest) -> Instance {
        let n = self.launches.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let key: windlass::ids::Key = format!("storefront.1.production.1.to.{n}").parse().unwrap();
        let launch = Launch {
            key: key.clone(),
            name: format!("storefront-production-1-{n}"),
            fleet: self.id.clone(),
            image: self.emulator.world.base.ami.parse().unwrap(),
            env: BTreeMap::new(),
            release: release.clone(),
            tags: Tags {
                service: "storefront".parse().unwrap(),
                run: "storefront/1".parse().unwrap(),
                stage: "production".to_owned(),
                key,
            },
        };
        cloud.compute.launch(&launch).await.unwrap()
    }

    async fn look(&self, cloud: &Cloud) -> (BTreeMap<InstanceId, Instance>, Observed) {
        observe(cloud, &self.id).await.unwrap()
    }

    async fn act(&self, cloud: &Cloud, addresses: &BTreeMap<InstanceId, Instance>, operation: Operation) {
        let (balancer, at) = (&cloud.balancer, |id: &InstanceId| addresses[id].address);
        match operation {
            Operation::Launch { release, count } => {
                for _ in 0..count {
                    self.launch(cloud, &release).await;
                }
            }
            Operation::Register { id } => {
                balancer.register(&self.id, &[(id.clone(), at(&id))]).await.unwrap()
            }
            Operation::StandBy { id } => balancer.stand_by(&self.id, &[(id.clone(), at(&id))]).await.unwrap(),
            Operation::Switch { to } => match balancer.switch(&self.id, &to).await {
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            },
            Operation::Drain { id } => balancer.deregister(&self.id, &[id]).await.unwrap(),
            Operation::Terminate { id } => {
                cloud.compute.terminate(&id).await.unwrap();
                balancer.forget(&self.id, &[id]).await.unwrap();
            }
        }
    }

    /// Does what a plan says until it is content. Answers the kinds of operations, in order.
    async fn carry_out(&self, plan: impl Fn(&Observed) -> Move) -> (End, Vec<&'static str>) {
        let mut done: Vec<&'static str> = Vec::new();
        let rolling = async {
            loop {
                let cloud = self.cloud();
                let (instances, observed) = self.look(&cloud).await;
                assert!(
                    observed.members.iter().all(|member| !matches!(member.life, Life::Failed(_))),
                    "{observed:?}"
                );
                match plan(&observed) {
                    Move::Act { operations, .. } => {
                        for operation in operations {
                            let kind = kind(&operation);
                            if done.last() != Some(&kind) {
                                done.push(kind);
                            }
                            self.act(&cloud, &instances, operation).await;
                        }
                    }
                    Move::Wait { .. } => {
                        let patience = cloud.balancer.pace();
                        cloud.balancer.changed(&self.id, patience).await.unwrap();
                    }
                    Move::TurnBack { reason } => panic!("{reason}"),
                    Move::Done(end) => return end,
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, rolling).await.expect("it ends");
        (end, done)
    }

    fn desired(&self, from: Option<&str>, to: &str, size: u32, strategy: &Strategy) -> Desired {
        Desired {
            target: digest(to),
            source: from.map(digest),
            size,
            strategy: strategy.clone(),
            direction: Direction::Forward,
            started_at: Timestamp::UNIX_EPOCH,
            patience: Duration::from_secs(600),
            healthy_at_start: from.map_or(0, |_| size),
        }
    }

    async fn roll(&self, desired: &Desired) -> (End, Vec<&'static str>) {
        self.carry_out(|observed| rollout::plan(observed, desired)).await
    }

    async fn members(&self) -> Vec<Member> {
        self.look(&self.cloud()).await.1.members
    }
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Launch { .. } => "launch",
        Operation::Register { .. } => "register",
        Operation::StandBy { .. } => "stand by",
        Operation::Switch { .. } => "switch",
        Operation::Drain { .. } => "drain",
        Operation::Terminate { .. } => "terminate",
    }
}

fn paired(emulator: &Emulator) -> Fleet {
    let standby_target_groups = vec![emulator.world.target_groups["standby"].clone()];
    Fleet { standby_target_groups, ..emulator.fleet("production") }
}

#[tokio::test]
async fn the_suite_of_the_local_balancer_about_targets() {
    let world = World::new(json!({}), paired);
    let cloud = world.cloud();
    let start = async |_| -> (InstanceId, SocketAddr) {
        let id = world.launch(&cloud, &digest("one")).await.id;
        loop {
            let instances = cloud.compute.instances(&world.id).await.unwrap();
            let running =
                |instance: &&Instance| instance.id == id && instance.state == InstanceState::Running;
            if let Some(instance) = instances.iter().find(running) {
                return (id, instance.address);
            }
            cloud.balancer.changed(&world.id, Duration::from_secs(1)).await.unwrap();
        }
    };
    conformance::targets(cloud.balancer.as_ref(), &world.listener(), start).await;
    println!("conformance: target groups on AWS keep every promise about states and roles");
}

#[tokio::test]
async fn ten_are_swapped_one_by_one_with_few_requests() {
    let world = World::new(json!({}), |emulator| emulator.fleet("production"));
    let one_by_one = Strategy::Rolling(Rolling { batch: 1, surge: 1, floor: 10 });
    world.cloud().balancer.put_listener(&world.listener()).await.unwrap();
    world.roll(&world.desired(None, "old", 10, &one_by_one)).await;
    let before = world.emulator.calls().len();
    world.cloud().balancer.put_listener(&world.listener()).await.unwrap();
    let (end, _) = world.roll(&world.desired(Some("old"), "new", 10, &one_by_one)).await;
    assert_eq!(end, End::Completed);
    let calls = world.emulator.calls();
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for call in &calls[before..] {
        *counted.entry(&call.operation).or_default() += 1;
    }
    let all = calls.len() - before;
    println!("a rolling swap of ten instances took {all} requests: {counted:?}");
    assert!(all < 150, "{all} requests: {counted:?}");
    assert_eq!(world.emulator.lowest("production", 10), Some(10), "nobody missed anybody");
    assert_eq!(world.emulator.living().len(), 10);
}

/// Forward, held, and the end of the hold; then forward and back again.
async fn blue_green(mut world: World, forgetful: bool) {
    let held = Strategy::BlueGreen { hold: Duration::from_secs(600) };
    world.cloud().balancer.put_listener(&world.listener()).await.unwrap();
    world.roll(&world.desired(None, "one", 2, &held)).await;
    world.forgetful = forgetful;

    let (end, _) = world.roll(&world.desired(Some("one"), "two", 2, &held)).await;
    assert_eq!(end, End::Completed);
    let members = world.members().await;
    let traffic = |release: &str| -> Vec<Traffic> {
        let of = members.iter().filter(|member| member.release == digest(release));
        of.map(|member| member.traffic.clone()).collect()
    };
    assert_eq!(traffic("two"), [Traffic::Healthy, Traffic::Healthy]);
    assert_eq!(traffic("one"), [Traffic::Standby(Check::Healthy), Traffic::Standby(Check::Healthy)]);

    // The way back, as long as they are held.
    let back = Direction::Back { reason: "it is slow".to_owned() };
    let desired = Desired { direction: back, ..world.desired(Some("one"), "two", 2, &held) };
    let (end, done) = world.roll(&desired).await;
    assert_eq!(end, End::RolledBack { reason: "it is slow".to_owned() });
    assert!(!done.contains(&"launch"), "nothing had to be launched: {done:?}");
    let members = world.members().await;
    assert_eq!(members.len(), 2);
    assert!(
        members.iter().all(|member| member.release == digest("one") && member.traffic == Traffic::Healthy)
    );

    // Forward again; then the hold is over, and the keeper ends them.
    world.roll(&world.desired(Some("one"), "three", 2, &held)).await;
    let kept = |held: Option<Digest>| Kept {
        release: digest("three"),
        size: 2,
        patience: Duration::from_secs(600),
        held,
        unwell: BTreeMap::new(),
    };
    let (_, done) = world.carry_out(|observed| rollout::keep(observed, &kept(Some(digest("one"))))).await;
    assert_eq!(done, [""; 0], "they are left alone while they are held");
    let (_, done) = world.carry_out(|observed| rollout::keep(observed, &kept(None))).await;
    assert_eq!(done.first(), Some(&"drain"), "{done:?}");
    assert!(!done.contains(&"launch") && !done.contains(&"register"), "{done:?}");
    let members = world.members().await;
    assert_eq!(members.len(), 2);
    assert!(members.iter().all(|member| member.release == digest("three")));
    assert_eq!(world.emulator.living().len(), 2);
}

#[tokio::test]
async fn blue_green_by_weights() {
    blue_green(World::new(json!({}), paired), false).await;
}

#[tokio::test]
async fn blue_green_by_weights_by_processes_that_know_nothing() {
    // Whoever knows nothing of its launches must see them: the deploy stage notes them instead.
    blue_green(World::new(json!({ "lag": 0 }), paired), true).await;
}

#[tokio::test]
async fn blue_green_in_one_target_group() {
    blue_green(World::new(json!({}), |emulator| emulator.fleet("production")), false).await;
}

#[tokio::test]
async fn blue_green_in_one_target_group_by_processes_that_know_nothing() {
    blue_green(World::new(json!({ "lag": 0 }), |emulator| emulator.fleet("production")), true).await;
}

#[tokio::test]
async fn a_switch_to_who_is_not_healthy_changes_nothing() {
    let world = World::new(json!({}), paired);
    let held = Strategy::BlueGreen { hold: Duration::from_secs(600) };
    let cloud = world.cloud();
    cloud.balancer.put_listener(&world.listener()).await.unwrap();
    world.roll(&world.desired(None, "one", 1, &held)).await;
    let new = world.launch(&cloud, &digest("two")).await;
    while world.look(&cloud).await.0[&new.id].state != InstanceState::Running {
        cloud.balancer.changed(&world.id, Duration::from_secs(1)).await.unwrap();
    }
    world.emulator.sick(json!({ "instance": new.id.as_str() }));
    cloud.balancer.stand_by(&world.id, &[(new.id.clone(), new.address)]).await.unwrap();
    let refused = cloud.balancer.switch(&world.id, std::slice::from_ref(&new.id)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert_eq!(world.emulator.count("ModifyListener"), 0);
    let targets = cloud.balancer.targets(&world.id).await.unwrap();
    let role = |id: &InstanceId| targets.iter().find(|target| target.id == *id).map(|target| target.role);
    assert_eq!(role(&new.id), Some(Role::Standby));
}

#[tokio::test]
async fn a_target_group_that_is_missing_is_named() {
    let missing =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/nowhere/0123456789abcdef";
    let world = World::new(json!({}), |emulator| {
        let mut fleet = emulator.fleet("production");
        fleet.target_groups.push(missing.to_owned());
        fleet
    });
    let refused = world.cloud().balancer.put_listener(&world.listener()).await.unwrap_err();
    assert!(matches!(&refused, Error::NotFound(told) if told.contains(missing)), "{refused}");
    assert_eq!(world.emulator.count("CreateTargetGroup"), 0);
}

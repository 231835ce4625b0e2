//! A rollout in a cloud that has no room for a while, and that is asked for all it does.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::moments::Moments;
use super::*;
use crate::cloud::hearing::{self, Call};
use crate::cloud::local::{Local, LocalObjects};
use crate::cloud::{
    self, Balancer, BuildRequest, Builder, Cloud, Clouds, Compute, ImageRecord, ImageRequest, Instance,
    InstanceState, Launch, Listener, Role, Setup, Target, TargetState, Timing,
};
use crate::ids::{ImageId, InstanceId};
use crate::stage::deploy::Deploy;

/// A cloud of which only what a rollout needs is there.
#[derive(Clone, Default)]
pub(super) struct Small(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    full: bool,
    refused: u32,
    pub instances: BTreeMap<InstanceId, Instance>,
    pub targets: BTreeMap<InstanceId, Target>,
    /// What was begun and ended.
    told: Vec<String>,
    /// Images of which no instance is ever healthy.
    pub sick: BTreeSet<String>,
    /// What happens before and after each call.
    pub moments: Option<Moments>,
}

impl Small {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before and after each call.
    async fn moment(&self) -> Result<(), cloud::Error> {
        let moments = self.state().moments.clone();
        match moments {
            Some(moments) => moments.pass().await,
            None => Ok(()),
        }
    }

    fn add(&self, targets: &[(InstanceId, SocketAddr)], role: Role) {
        let mut state = self.state();
        for (id, address) in targets {
            let sick = state.instances.get(id).is_some_and(|it| state.sick.contains(it.image.as_str()));
            let (id, address, reason) = (id.clone(), *address, None);
            let is = if sick { TargetState::Unhealthy } else { TargetState::Healthy };
            let target = Target { id: id.clone(), address, state: is, role, reason };
            state.targets.entry(id).or_insert(target);
        }
    }

    fn images(&self) -> Vec<String> {
        self.state().instances.values().map(|instance| instance.image.to_string()).collect()
    }
}

fn never<T>() -> Result<T, cloud::Error> {
    Err(cloud::Error::Denied("nobody asks for this here".to_owned()))
}

#[async_trait]
impl Compute for Small {
    async fn find_image(&self, _: &Digest) -> Result<Option<ImageRecord>, cloud::Error> {
        never()
    }
    async fn image(&self, _: &ImageId) -> Result<ImageRecord, cloud::Error> {
        never()
    }
    async fn certify_image(&self, _: &ImageId) -> Result<(), cloud::Error> {
        never()
    }
    async fn launch_builder(&self, _: &BuildRequest, _: &ImageRequest) -> Result<Builder, cloud::Error> {
        never()
    }
    async fn carry_out(
        &self,
        _: cloud::Phase,
        _: &BuildRequest,
        _: &ImageRequest,
    ) -> Result<(), cloud::Error> {
        never()
    }
    fn beat(&self) -> Duration {
        Duration::from_millis(5)
    }
    async fn begin_rollout(&self, fleet: &FleetId) -> Result<(), cloud::Error> {
        self.moment().await?;
        self.state().told.push(format!("begin {fleet}"));
        self.moment().await
    }
    async fn end_rollout(&self, fleet: &FleetId, last: Option<&Launch>) -> Result<(), cloud::Error> {
        let last = last.map_or("nothing".to_owned(), |last| last.image.to_string());
        self.moment().await?;
        self.state().told.push(format!("end {fleet} with {last}"));
        self.moment().await
    }
    async fn launch(&self, launch: &Launch) -> Result<Instance, cloud::Error> {
        let (took, request) = (Duration::ZERO, None);
        hearing::called(&Call { service: "ec2", operation: "RunInstances", request, took, error: None });
        self.moment().await?;
        {
            let mut state = self.state();
            if state.full {
                state.refused += 1;
                return Err(cloud::Error::NoCapacity("t3.small in a: none left".to_owned()));
            }
        }
        let instance = Instance {
            id: launch.name.parse().unwrap(),
            name: launch.name.clone(),
            fleet: launch.fleet.clone(),
            image: launch.image.clone(),
            release: launch.release.clone(),
            key: launch.key.clone(),
            state: InstanceState::Running,
            address: "127.0.0.1:9".parse().unwrap(),
            launched_at: Timestamp::now(),
        };
        let instance = self.state().instances.entry(instance.id.clone()).or_insert(instance).clone();
        self.moment().await?;
        Ok(instance)
    }
    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, cloud::Error> {
        self.moment().await?;
        let state = self.state();
        Ok(state.instances.values().filter(|instance| instance.fleet == *fleet).cloned().collect())
    }
    async fn terminate(&self, id: &InstanceId) -> Result<(), cloud::Error> {
        self.moment().await?;
        self.state().instances.remove(id);
        self.moment().await
    }
    async fn ended(&self, _: &[InstanceId], patience: Duration) -> Result<(), cloud::Error> {
        tokio::time::sleep(patience).await;
        Ok(())
    }
}

#[async_trait]
impl Balancer for Small {
    async fn put_listener(&self, _: &Listener) -> Result<(), cloud::Error> {
        self.moment().await
    }
    async fn remove_listener(&self, _: &FleetId) -> Result<(), cloud::Error> {
        self.moment().await
    }
    async fn register(&self, _: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), cloud::Error> {
        self.moment().await?;
        self.add(targets, Role::Serving);
        self.moment().await
    }
    async fn stand_by(&self, _: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), cloud::Error> {
        self.moment().await?;
        self.add(targets, Role::Standby);
        self.moment().await
    }
    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), cloud::Error> {
        self.moment().await?;
        {
            let mut state = self.state();
            let state = &mut *state;
            let well = |id: &InstanceId| {
                state.targets.get(id).is_some_and(|target| target.state == TargetState::Healthy)
            };
            if !to.iter().all(well) {
                return Err(cloud::Error::Conflict("one of them is not healthy".to_owned()));
            }
            let ours =
                |target: &&mut Target| state.instances.get(&target.id).is_some_and(|i| i.fleet == *fleet);
            for target in state.targets.values_mut().filter(ours) {
                target.role = if to.contains(&target.id) { Role::Serving } else { Role::Standby };
            }
        }
        self.moment().await
    }
    async fn deregister(&self, _: &FleetId, targets: &[InstanceId]) -> Result<(), cloud::Error> {
        self.moment().await?;
        for id in targets {
            if let Some(target) = self.state().targets.get_mut(id) {
                target.state = TargetState::Drained;
            }
        }
        self.moment().await
    }
    async fn forget(&self, _: &FleetId, targets: &[InstanceId]) -> Result<(), cloud::Error> {
        self.moment().await?;
        self.state().targets.retain(|id, _| !targets.contains(id));
        self.moment().await
    }
    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, cloud::Error> {
        self.moment().await?;
        let state = self.state();
        let ours = |target: &&Target| state.instances.get(&target.id).is_some_and(|i| i.fleet == *fleet);
        Ok(state.targets.values().filter(ours).cloned().collect())
    }
    async fn changed(&self, _: &FleetId, patience: Duration) -> Result<(), cloud::Error> {
        self.moment().await?;
        tokio::time::sleep(patience).await;
        Ok(())
    }
    fn pace(&self) -> Duration {
        Duration::from_millis(5)
    }
    async fn timing(&self, _: &FleetId) -> Result<Option<Timing>, cloud::Error> {
        Ok(Some(Timing { in_service: Duration::from_secs(90), drain: Duration::from_secs(300) }))
    }
    async fn url(&self, _: &Listener) -> Result<String, cloud::Error> {
        Ok("http://127.0.0.1:9".to_owned())
    }
}

struct One(Cloud);

impl Clouds for One {
    fn open(&self, _: &Setup) -> Result<Cloud, cloud::Error> {
        Ok(self.0.clone())
    }
}

/// A world whose deployments are real ones, into this cloud.
pub(super) fn world() -> (World, Small) {
    let mut world = World::new("", "");
    let small = Small::default();
    let (compute, balancer) = (Arc::new(small.clone()), Arc::new(small.clone()));
    let objects = Arc::new(LocalObjects::new(world.directory.path().join("objects")));
    let inventory = Arc::new(Local::new(world.directory.path().to_owned()));
    let clouds: Arc<dyn Clouds> = Arc::new(One(Cloud { compute, balancer, objects, inventory }));
    let scripts = world.script.subscribe();
    let stage = |word| (word, Arc::new(Scripted(scripts.clone())) as Arc<dyn Stage>);
    let mut stages: BTreeMap<_, _> = ["script", "upload", "bake", "certify"].into_iter().map(stage).collect();
    let store: Arc<dyn Store> = world.store.clone();
    stages.insert("deploy", Arc::new(Deploy { store, clouds: clouds.clone() }));
    world.engine = Engine::new(Parts {
        data: world.directory.path().to_owned(),
        store: world.store.clone(),
        clock: world.clock.clone(),
        stages,
        surveyor: Arc::new(Numbers),
        clouds,
        slots: Slots::new(8),
    });
    (world, small)
}

/// The lines of all logs below the data directory.
fn logged(world: &World) -> Vec<String> {
    let logs = walkdir::WalkDir::new(world.directory.path().join("logs"));
    let files = logs.into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let text = files.filter_map(|file| std::fs::read(file.path()).ok());
    text.flat_map(|text| String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

async fn until_refused(small: &Small, times: u32) {
    let refused = async {
        while small.state().refused < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn no_room_is_waited_for_and_asked_for_again_until_there_is_some() {
    let (world, small) = world();
    small.state().full = true;
    let run = world.push("every", 1).await;
    let view = world.until_waiting(&run, "waiting for capacity: t3.small in a: none left").await;
    assert_eq!(stage(&view, "staging").status, StageStatus::Running);
    until_refused(&small, 3).await;
    assert_eq!(small.images(), [""; 0]);
    small.state().full = false;
    let view = world.until_ended(&run).await;
    assert_eq!(view.status, Status::Succeeded, "{view:#?}");
    let staging = stage(&view, "staging");
    assert_eq!(staging.waiting_for, None);
    let refused = small.state().refused;
    assert_eq!(staging.outputs["api_calls"], (refused + 1).to_string());
    assert_eq!(small.images(), ["image-of-1", "image-of-1"]);

    let lines = logged(&world);
    let said = |text: &str| lines.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!(said("waiting for capacity: t3.small in a: none left"), 1, "it is said once: {lines:#?}");
    assert_eq!(said("there is capacity again"), 1);
    let calls = refused + 1;
    assert_eq!(said(&format!("the rollout took {calls} API calls: RunInstances {calls}")), 1, "{lines:#?}");
    assert_eq!(said("the rollout took 1 API calls: RunInstances 1"), 1, "production's");
    let expected = "expected to take about 90 s: 1 batch, 90 s until what is new is in service";
    assert_eq!(said(expected), 2, "{lines:#?}");
    let told = small.state().told.clone();
    let production = ["begin shop-production", "end shop-production with image-of-1"];
    assert_eq!(told, [["begin shop-staging", "end shop-staging with image-of-1"], production].concat());
}

#[tokio::test]
async fn whoever_waits_for_room_has_ended_nothing_and_can_be_cancelled() {
    let (world, small) = world();
    let first = world.push("every", 1).await;
    assert_eq!(world.until_ended(&first).await.status, Status::Succeeded);
    small.state().full = true;
    let second = world.push("every", 2).await;
    world.until_waiting(&second, "waiting for capacity").await;
    until_refused(&small, 2).await;
    assert_eq!(small.images(), ["image-of-1", "image-of-1"]);
    let reason = "enough".to_owned();
    world.act(&second, Act::Cancel { reason }, "ada").await.unwrap();
    assert_eq!(world.until_ended(&second).await.status, Status::Cancelled);
    assert_eq!(small.images(), ["image-of-1", "image-of-1"]);
    assert_eq!(small.state().told.last().unwrap(), "end shop-staging with image-of-1");
}

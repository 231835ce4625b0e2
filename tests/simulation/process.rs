//! A process of Windlass: the real engine and the real stages on the edges of the world. When it dies,
//! none of its calls answers any more and nothing that it does has an effect; all that it knew is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;
use windlass::artifact::Shelf;
use windlass::clock::SystemClock;
use windlass::cloud::fault::Faults;
use windlass::cloud::{self, Cloud, Clouds, Setup};
use windlass::engine::{Engine, Keeper, Parts, Slots, Surveyor};
use windlass::ids::CommitSha;
use windlass::run::event::{Origin, Shipment};
use windlass::runner::Runner;
use windlass::source::Sources;
use windlass::stage::{self, Stage, Workspaces};
use windlass::store::Store;

use crate::cloud::Reached;
use crate::random::mix;
use crate::stages::Simulated;
use crate::world::{Life, World};
use crate::{runner, store};

pub struct Process {
    pub engine: Engine,
    pub life: Arc<Life>,
    _keeper: Option<Keeper>,
    _drives: AbortOnDropHandle<()>,
}

impl Process {
    /// Starts one, which takes up all that there is to do.
    pub fn begin(world: &Arc<World>, number: u32) -> Arc<Self> {
        world.tell(|| format!("process {number} begins"));
        let life = Life::new(world.clone(), number);
        let engine = Engine::new(parts(&life));
        engine.use_settings(world.settings.clone());
        let keeper = world.scenario.keeps.then(|| engine.keep_fleets(world.settings.clone()));
        let drives = {
            let engine = engine.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { engine.take_up(|| ()).await }))
        };
        Arc::new(Self { engine, life, _keeper: keeper, _drives: drives })
    }

    /// Asks something of it; `None` when it dies before it answers.
    pub async fn ask<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.life.over() => None,
            answer = asked => Some(answer),
        }
    }
}

fn parts(life: &Arc<Life>) -> Parts {
    let world = &life.world;
    let data = world.directory.clone();
    let clouds: Arc<dyn Clouds> = Arc::new(Only(cloud(life)));
    let store: Arc<dyn Store> = Arc::new(store::Reached(life.clone()));
    let runner: Arc<dyn Runner> = Arc::new(runner::Reached(life.clone()));
    let workspaces = Workspaces {
        data: data.clone(),
        sources: Arc::new(Sources::new(&data)),
        shelf: Arc::new(Shelf::new(data.join("artifacts"))),
    };
    let simulated = |inner: Arc<dyn Stage>, files| {
        Arc::new(Simulated { inner, life: life.clone(), files }) as Arc<dyn Stage>
    };
    let script = stage::script::Script {
        workspaces: workspaces.clone(),
        runner: runner.clone(),
        store: store.clone(),
        clouds: clouds.clone(),
    };
    let upload = stage::upload::Upload { workspaces: workspaces.clone(), clouds: clouds.clone() };
    let bake = stage::bake::Bake { workspaces, runner, store: store.clone(), clouds: clouds.clone() };
    let deploy = stage::deploy::Deploy { store: store.clone(), clouds: clouds.clone() };
    let certify = stage::certify::Certify { clouds: clouds.clone() };
    Parts {
        data,
        store,
        clock: Arc::new(SystemClock),
        stages: BTreeMap::from([
            ("script", simulated(Arc::new(script), true)),
            ("upload", simulated(Arc::new(upload), true)),
            ("bake", simulated(Arc::new(bake), true)),
            ("deploy", simulated(Arc::new(deploy), false)),
            ("certify", simulated(Arc::new(certify), false)),
        ]),
        surveyor: Arc::new(Numbers(life.clone())),
        clouds,
        slots: Slots::new(world.scenario.slots),
    }
}

/// The cloud as this process reaches it, behind the faults of the seed.
fn cloud(life: &Arc<Life>) -> Cloud {
    let reached = Arc::new(Reached(life.clone()));
    let cloud = Cloud {
        compute: reached.clone(),
        balancer: reached.clone(),
        objects: reached.clone(),
        inventory: reached,
    };
    match life.world.scenario.chaos.cloud {
        0 => cloud,
        _ if life.world.is_quiet() => cloud,
        percent => Faults::seeded(mix(life.world.seed) ^ u64::from(life.number), percent).around(&cloud),
    }
}

/// There is one cloud here.
struct Only(Cloud);

impl Clouds for Only {
    fn open(&self, _: &Setup) -> Result<Cloud, cloud::Error> {
        Ok(self.0.clone())
    }
}

/// Commits are numbers here: one goes back where its number is lower.
struct Numbers(Arc<Life>);

#[async_trait]
impl Surveyor for Numbers {
    async fn survey(&self, origin: &Origin, running: &CommitSha) -> Result<Shipment, String> {
        self.0.alive().await;
        self.0.world.latency("survey", 0, 2000).await;
        self.0.alive().await;
        let commit = origin.commit.as_ref().ok_or("there is no commit")?;
        match self.0.world.fate(&format!("survey {} {running}", commit.sha)).chance(50) {
            true => Err("the source cannot be reached".to_owned()),
            false => Ok(Shipment { rollback: commit.sha < *running, ..Shipment::default() }),
        }
    }
}

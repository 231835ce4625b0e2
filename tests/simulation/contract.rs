//! The cloud that is made up keeps the contract of a cloud, as far as that can be asked of one that runs
//! no commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use windlass::cloud::conformance::{self, Ends};
use windlass::cloud::{Compute, HealthCheck, ImageRecord, Instance, Launch, Listener, Tags};
use windlass::ids::{Digest, FleetId, ImageId, RunId};

use crate::clock;
use crate::cloud::Reached;
use crate::draft::{Scenario, Temper, Weather};
use crate::world::{Life, Wanted, World};

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a legal name")
}

/// Asks something of a fresh cloud, in simulated time.
fn asked<F: Future<Output = ()>>(temper: Temper, ask: impl FnOnce(Reached) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let directory = tempfile::tempdir().expect("there is room for files");
        clock::begin(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let scenario = Scenario { temper, ..Scenario::of(1, Weather::Fair) };
        let world = World::new(1, scenario, directory.path().to_owned(), Wanted::default());
        runtime.block_on(ask(Reached(Life::new(world, 1))));
    });
    thread.join().expect("every promise is kept");
}

fn image(cloud: &Reached, start: &str) -> ImageId {
    let key = Digest::of(start.as_bytes());
    let id: ImageId = name(&format!("img-{}", key.short()));
    cloud.0.world.ground.has(ImageRecord {
        id: id.clone(),
        name: "shop-1".to_owned(),
        key,
        parent: None,
        commit: None,
        run: RunId::new(name("shop"), 1),
        service: name("shop"),
        start: start.to_owned(),
        created_at: Timestamp::now(),
        certified: false,
    });
    id
}

#[test]
fn instances_keep_their_contract() {
    asked(Temper::Local, async |cloud: Reached| {
        let ending = async |instance: &Instance| cloud.0.world.ground.dies(&instance.id);
        conformance::instances(&cloud, async |start: &str| image(&cloud, start), ending, Ends::Alone).await;
    });
}

#[test]
fn targets_keep_their_contract() {
    for temper in [Temper::Local, Temper::Distant] {
        asked(temper, async |cloud: Reached| {
            let fleet = FleetId::new(name("shop"), name("staging"));
            let health = HealthCheck {
                path: "/".to_owned(),
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                healthy: 2,
                unhealthy: 2,
            };
            let listener =
                Listener { fleet: fleet.clone(), port: 17_000, health, drain: Duration::from_secs(9) };
            let (image, count) = (image(&cloud, "./shop"), Arc::new(AtomicU32::new(0)));
            let start = async |word: &'static str| {
                let key = format!("{word}-{}", count.fetch_add(1, Ordering::SeqCst));
                let launch = Launch {
                    key: name(&key),
                    name: word.to_owned(),
                    fleet: fleet.clone(),
                    image: image.clone(),
                    env: Default::default(),
                    release: Digest::of(b"release"),
                    tags: Tags {
                        service: name("shop"),
                        run: RunId::new(name("shop"), 1),
                        stage: "try".to_owned(),
                        key: name(&key),
                    },
                };
                let instance = cloud.launch(&launch).await.expect("it is launched");
                // Well is who serves.
                tokio::time::sleep(Duration::from_secs(300)).await;
                (instance.id, instance.address)
            };
            conformance::targets(&cloud, &listener, start).await;
        });
    }
}

#[test]
fn objects_keep_their_contract() {
    asked(Temper::Distant, async |cloud: Reached| {
        let scratch = tempfile::tempdir().expect("there is room for files");
        conformance::objects(scratch.path(), async || cloud.clone()).await;
    });
}

//! Faults for the edge of a cloud: a decorator around any implementation, so that tests see what
//! whoever drives a cloud does when it fails, answers late or not at all, acts twice, or when the
//! driver itself dies between an effect and its record.
//!
//! Which call gets which fault is said beforehand ([`Faults::at`], [`Faults::each`]) or drawn from a
//! seed ([`Faults::seeded`]). Both depend only on the operation and on how many calls of it came
//! before: the same test meets the same faults, however its tasks interleave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::*;
use crate::ids::{Digest, FleetId, ImageId, InstanceId, PipelineName};

/// One call of the contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    FindImage,
    Image,
    CertifyImage,
    LaunchBuilder,
    CreateImage,
    Launch,
    Instances,
    Terminate,
    Ended,
    PutListener,
    RemoveListener,
    Register,
    StandBy,
    Switch,
    Deregister,
    Forget,
    Targets,
    Changed,
    Put,
    Get,
    Digest,
    List,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done, and this is the answer.
    Fail(Error),
    /// It is done, and the answer is lost.
    Lose,
    /// It is done so much later.
    Delay(Duration),
    /// It is done twice; the second answer counts.
    Repeat,
    /// Whoever calls dies now: this call never answers, and no later one does anything. See
    /// [`Faults::crashed`].
    Crash(Moment),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    BeforeEffect,
    AfterEffect,
}

/// The faults of one cloud. Clones share what has happened.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    plan: Mutex<Plan>,
    crashed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Plan {
    at: BTreeMap<(Operation, u64), Fault>,
    each: BTreeMap<Operation, Fault>,
    /// Seed, and how many calls of a hundred get a fault.
    random: Option<(u64, u64)>,
    calls: BTreeMap<Operation, u64>,
}

impl Faults {
    pub fn none() -> Self {
        let (crashed, _) = watch::channel(false);
        Self(Arc::new(Shared { plan: Mutex::default(), crashed }))
    }

    /// Gives `percent` of all calls a fault that a caller has to live with: throttled, failed, answer
    /// lost, late by some milliseconds, done twice.
    pub fn seeded(seed: u64, percent: u8) -> Self {
        let faults = Self::none();
        faults.plan().random = Some((seed, u64::from(percent)));
        faults
    }

    /// Gives the `nth` call of the operation (from 1) this fault.
    #[must_use]
    pub fn at(self, operation: Operation, nth: u64, fault: Fault) -> Self {
        self.plan().at.insert((operation, nth), fault);
        self
    }

    /// Gives every call of the operation this fault, unless [`Faults::at`] says otherwise.
    #[must_use]
    pub fn each(self, operation: Operation, fault: Fault) -> Self {
        self.plan().each.insert(operation, fault);
        self
    }

    /// How many calls of the operation there were.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan().calls.get(&operation).copied().unwrap_or_default()
    }

    /// Returns when a [`Fault::Crash`] has happened: what drives the cloud is to be dropped then, and
    /// started anew on a cloud without this decorator.
    pub async fn crashed(&self) {
        // Waiting cannot fail: we hold the sender.
        let _ = self.0.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    /// The cloud with these faults.
    pub fn around(&self, cloud: &Cloud) -> Cloud {
        Cloud {
            compute: Arc::new(Faulty::new(cloud.compute.clone(), self.clone())),
            balancer: Arc::new(Faulty::new(cloud.balancer.clone(), self.clone())),
            objects: Arc::new(Faulty::new(cloud.objects.clone(), self.clone())),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn through<'a, T>(
        &self,
        operation: Operation,
        act: impl Fn() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        if *self.0.crashed.borrow() {
            return std::future::pending().await;
        }
        let fault = self.plan().draw(operation);
        match fault {
            None => act().await,
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::Lose) => {
                let _ = act().await;
                Err(Error::Ambiguous(format!("the answer to {operation:?} was lost")))
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                act().await
            }
            Some(Fault::Repeat) => {
                let _ = act().await;
                act().await
            }
            Some(Fault::Crash(moment)) => {
                if moment == Moment::AfterEffect {
                    let _ = act().await;
                }
                self.0.crashed.send_replace(true);
                std::future::pending().await
            }
        }
    }
}

impl Plan {
    fn draw(&mut self, operation: Operation) -> Option<Fault> {
        let calls = self.calls.entry(operation).or_default();
        *calls += 1;
        let nth = *calls;
        let said = self.at.remove(&(operation, nth)).or_else(|| self.each.get(&operation).cloned());
        said.or_else(|| {
            let (seed, percent) = self.random?;
            let number = mix(mix(seed ^ mix(operation as u64 + 1)) ^ nth);
            if number % 100 >= percent {
                return None;
            }
            let time = Duration::from_millis((number >> 40) % 20);
            Some(match (number >> 32) % 5 {
                0 => Fault::Fail(Error::Throttled { after: time }),
                1 => Fault::Fail(Error::Failed(format!("{operation:?} failed, as the seed {seed} says"))),
                2 => Fault::Lose,
                3 => Fault::Delay(time),
                _ => Fault::Repeat,
            })
        })
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): neighbouring numbers become unrelated ones.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// An implementation of a contract, behind faults.
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Faults,
}

impl<T: ?Sized> Faulty<T> {
    pub fn new(inner: Arc<T>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<T: Compute + ?Sized> Compute for Faulty<T> {
    async fn find_image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        self.faults.through(Operation::FindImage, || self.inner.find_image(key)).await
    }
    async fn image(&self, id: &ImageId) -> Result<ImageRecord, Error> {
        self.faults.through(Operation::Image, || self.inner.image(id)).await
    }
    async fn certify_image(&self, id: &ImageId) -> Result<(), Error> {
        self.faults.through(Operation::CertifyImage, || self.inner.certify_image(id)).await
    }
    async fn find_base(&self, base: &Base) -> Result<ImageId, Error> {
        self.inner.find_base(base).await
    }
    async fn certified_images(&self, service: &PipelineName) -> Result<Vec<ImageRecord>, Error> {
        self.inner.certified_images(service).await
    }
    async fn provisioned(&self, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        self.inner.provisioned(request, image).await
    }
    async fn abandon(&self, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        self.inner.abandon(request, image).await
    }
    async fn launch_builder(&self, request: &BuildRequest, image: &ImageRequest) -> Result<Builder, Error> {
        self.faults.through(Operation::LaunchBuilder, || self.inner.launch_builder(request, image)).await
    }
    fn phases(&self) -> &'static [Phase] {
        self.inner.phases()
    }
    async fn carry_out(
        &self,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Error> {
        self.faults.through(Operation::CreateImage, || self.inner.carry_out(phase, request, image)).await
    }
    async fn room_for(&self, launch: &Launch, more: u32) -> Result<(), Error> {
        self.inner.room_for(launch, more).await
    }
    async fn begin_rollout(&self, fleet: &FleetId) -> Result<(), Error> {
        self.inner.begin_rollout(fleet).await
    }
    async fn end_rollout(&self, fleet: &FleetId, last: Option<&Launch>) -> Result<(), Error> {
        self.inner.end_rollout(fleet, last).await
    }
    fn keeps(&self, fleet: &FleetId) -> bool {
        self.inner.keeps(fleet)
    }
    async fn launch(&self, launch: &Launch) -> Result<Instance, Error> {
        self.faults.through(Operation::Launch, || self.inner.launch(launch)).await
    }
    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        self.faults.through(Operation::Instances, || self.inner.instances(fleet)).await
    }
    async fn terminate(&self, id: &InstanceId) -> Result<(), Error> {
        self.faults.through(Operation::Terminate, || self.inner.terminate(id)).await
    }
    async fn ended(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
        self.faults.through(Operation::Ended, || self.inner.ended(running, patience)).await
    }
}

#[async_trait]
impl<T: Balancer + ?Sized> Balancer for Faulty<T> {
    async fn put_listener(&self, listener: &Listener) -> Result<(), Error> {
        self.faults.through(Operation::PutListener, || self.inner.put_listener(listener)).await
    }
    async fn remove_listener(&self, fleet: &FleetId) -> Result<(), Error> {
        self.faults.through(Operation::RemoveListener, || self.inner.remove_listener(fleet)).await
    }
    async fn register(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        self.faults.through(Operation::Register, || self.inner.register(fleet, targets)).await
    }
    async fn stand_by(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        self.faults.through(Operation::StandBy, || self.inner.stand_by(fleet, targets)).await
    }
    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), Error> {
        self.faults.through(Operation::Switch, || self.inner.switch(fleet, to)).await
    }
    async fn deregister(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        self.faults.through(Operation::Deregister, || self.inner.deregister(fleet, targets)).await
    }
    async fn forget(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        self.faults.through(Operation::Forget, || self.inner.forget(fleet, targets)).await
    }
    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, Error> {
        self.faults.through(Operation::Targets, || self.inner.targets(fleet)).await
    }
    async fn changed(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error> {
        self.faults.through(Operation::Changed, || self.inner.changed(fleet, patience)).await
    }
    fn pace(&self) -> Duration {
        self.inner.pace()
    }
    async fn timing(&self, fleet: &FleetId) -> Result<Option<Timing>, Error> {
        self.inner.timing(fleet).await
    }
    async fn url(&self, listener: &Listener) -> Result<String, Error> {
        self.inner.url(listener).await
    }
}

#[async_trait]
impl<T: Objects + ?Sized> Objects for Faulty<T> {
    async fn put(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error> {
        self.faults.through(Operation::Put, || self.inner.put(key, file, digest)).await
    }
    async fn get(&self, key: &str, to: &Path) -> Result<(), Error> {
        self.faults.through(Operation::Get, || self.inner.get(key, to)).await
    }
    async fn digest(&self, key: &str) -> Result<Option<Digest>, Error> {
        self.faults.through(Operation::Digest, || self.inner.digest(key)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.faults.through(Operation::List, || self.inner.list(prefix)).await
    }
    fn location(&self, key: &str) -> String {
        self.inner.location(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::local::LocalObjects;

    struct Room {
        directory: tempfile::TempDir,
        inner: Arc<LocalObjects>,
    }

    impl Room {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("file"), "content").unwrap();
            let inner = Arc::new(LocalObjects::new(directory.path().join("objects")));
            Self { directory, inner }
        }

        async fn put(&self, faults: &Faults) -> Result<(), Error> {
            let faulty = Faulty::new(self.inner.clone(), faults.clone());
            faulty.put("key", &self.directory.path().join("file"), &Digest::of(b"content")).await
        }

        async fn is_there(&self) -> bool {
            self.inner.digest("key").await.unwrap().is_some()
        }
    }

    #[tokio::test]
    async fn a_failed_call_does_nothing_and_the_next_one_works() {
        let room = Room::new();
        let fault = Fault::Fail(Error::NoCapacity("none".to_owned()));
        let faults = Faults::none().at(Operation::Put, 1, fault);
        assert!(matches!(room.put(&faults).await, Err(Error::NoCapacity(_))));
        assert!(!room.is_there().await);
        assert!(room.put(&faults).await.is_ok());
        assert_eq!(faults.calls(Operation::Put), 2);
    }

    #[tokio::test]
    async fn a_lost_answer_is_ambiguous_and_the_effect_is_there() {
        let room = Room::new();
        let faults = Faults::none().each(Operation::Put, Fault::Lose);
        assert!(matches!(room.put(&faults).await, Err(Error::Ambiguous(_))));
        assert!(room.is_there().await);
    }

    #[tokio::test]
    async fn after_a_crash_nothing_answers_and_nothing_happens() {
        for moment in [Moment::BeforeEffect, Moment::AfterEffect] {
            let room = Room::new();
            let faults = Faults::none().at(Operation::Put, 1, Fault::Crash(moment));
            tokio::select! {
                _ = room.put(&faults) => panic!("a crashed call answered"),
                () = faults.crashed() => {}
            }
            assert_eq!(room.is_there().await, moment == Moment::AfterEffect);
            let again = room.put(&faults);
            assert!(futures_util::FutureExt::now_or_never(again).is_none());
        }
    }

    #[test]
    fn a_seed_gives_the_same_faults_and_about_as_many_as_asked_for() {
        let draw = |seed| {
            let faults = Faults::seeded(seed, 30);
            let mut plan = faults.plan();
            (0..1000).map(|_| format!("{:?}", plan.draw(Operation::Launch))).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let faults = draw(7).iter().filter(|fault| *fault != "None").count();
        assert!((200..400).contains(&faults), "{faults}");
    }
}

//! Instances: one for each key, seen, ended, and known to have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::computing::{name, tags};
use super::{PATIENCE, eventually};
use crate::cloud::{Compute, Error, Instance, InstanceState, Launch};
use crate::ids::{Digest, FleetId, ImageId, InstanceId};

/// A service that runs until it is ended.
const SERVICE: &str = "exec sleep 3600";

/// What is known of an instance that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Its exit code, and the last it said.
    WithOutput,
    /// That it did: what runs in a machine is the machine's own affair.
    Alone,
}

/// What [`Compute`] promises of instances. `image` answers an image that starts with a command; `ending`
/// sees to it that an instance ends by itself, where its command alone does not. The fleets are those
/// of the service `shop` in `staging`, `production` and `qa`.
pub async fn instances<C: Compute + ?Sized>(
    compute: &C,
    image: impl AsyncFn(&str) -> ImageId,
    ending: impl AsyncFn(&Instance),
    ends: Ends,
) {
    let suite = Suite { compute, image, ending, ends };
    suite.instances().await;
    suite.ends().await;
}

struct Suite<'a, C: ?Sized, I, E> {
    compute: &'a C,
    image: I,
    ending: E,
    ends: Ends,
}

fn fleet(environment: &str) -> FleetId {
    FleetId::new(name("shop"), name(environment))
}

impl<C: Compute + ?Sized, I: AsyncFn(&str) -> ImageId, E: AsyncFn(&Instance)> Suite<'_, C, I, E> {
    fn launch(&self, key: &str, instance: &str, image: &ImageId, fleet: FleetId) -> Launch {
        Launch {
            key: name(key),
            name: instance.to_owned(),
            fleet,
            image: image.clone(),
            env: BTreeMap::from([("FLAVOUR".to_owned(), "plain".to_owned())]),
            release: Digest::of(key.as_bytes()),
            tags: tags(key),
        }
    }

    async fn listed(&self, fleet: &FleetId) -> Vec<Instance> {
        self.compute.instances(fleet).await.expect("instances are listed")
    }

    async fn state(&self, fleet: &FleetId, id: &InstanceId) -> Option<InstanceState> {
        self.listed(fleet).await.into_iter().find(|instance| instance.id == *id).map(|found| found.state)
    }

    async fn instances(&self) {
        let (staging, production) = (fleet("staging"), fleet("production"));
        let image = (self.image)(SERVICE).await;
        assert!(self.listed(&staging).await.is_empty());

        let launch = self.launch("launch-1", "shop-staging-1-1", &image, staging.clone());
        let first = self.compute.launch(&launch).await.expect("an instance is launched");
        let told = (&first.key, &first.fleet, &first.image, &first.release, first.name.as_str());
        assert_eq!(told, (&launch.key, &staging, &image, &launch.release, "shop-staging-1-1"));
        let again = self.compute.launch(&launch).await.expect("launched again");
        assert_eq!((&again.id, again.address), (&first.id, first.address), "one key is one instance");
        eventually("it runs", async || {
            (self.state(&staging, &first.id).await? == InstanceState::Running).then_some(())
        })
        .await;
        let listed = self.listed(&staging).await;
        assert_eq!(listed, [Instance { state: InstanceState::Running, ..first.clone() }]);
        assert!(self.listed(&production).await.is_empty(), "a fleet has only its own");

        let soon = Duration::from_millis(20);
        let waited = Instant::now();
        self.compute.ended(std::slice::from_ref(&first.id), soon).await.expect("an end is awaited");
        assert!(waited.elapsed() >= soon, "while it runs only the patience ends the wait");

        let other = Launch { release: Digest::of(b"other"), ..launch.clone() };
        let conflict = self.compute.launch(&other).await;
        assert!(matches!(conflict, Err(Error::Conflict(_))), "a key is for one release: {conflict:?}");
        let unknown = Launch { image: name("img-unknown"), key: name("launch-9"), ..launch.clone() };
        let missing = self.compute.launch(&unknown).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "an unknown image is not found: {missing:?}");
        assert_eq!(self.listed(&staging).await.len(), 1, "what failed left nothing");

        let race = self.launch("launch-2", "shop-production-1-1", &image, production.clone());
        let launched = join_all((0..8).map(|_| self.compute.launch(&race))).await;
        let ids: Vec<InstanceId> =
            launched.into_iter().map(|launched| launched.expect("all find it").id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "one key at the same time is one instance: {ids:?}");
        let second = self.launch("launch-3", "shop-production-1-2", &image, production.clone());
        let second = self.compute.launch(&second).await.expect("another key is another instance");
        let listed = self.listed(&production).await;
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_ne!(listed[0].address, listed[1].address, "each has an address of its own");

        let watched = [ids[0].clone(), second.id.clone()];
        let end = async {
            let told = self.compute.ended(&watched, PATIENCE);
            tokio::time::timeout(PATIENCE / 2, told).await.expect("an end wakes whoever awaits it")
        };
        let (told, terminated) = tokio::join!(end, self.compute.terminate(&ids[0]));
        told.and(terminated).expect("the end of one of them is told");
        let told = self.compute.ended(&watched, PATIENCE);
        let told =
            tokio::time::timeout(PATIENCE / 2, told).await.expect("one that has ended is told at once");
        told.expect("it is told");
        for _ in 0..2 {
            self.compute.terminate(&ids[0]).await.expect("it is terminated, and again");
            let left = self.listed(&production).await;
            assert_eq!(left.iter().map(|left| &left.id).collect::<Vec<_>>(), [&second.id]);
        }
        let gone = self.compute.launch(&race).await.expect("the key is still known");
        assert_eq!(
            (&gone.id, &gone.state),
            (&ids[0], &InstanceState::Terminated),
            "it is not launched again"
        );
        assert_eq!(self.listed(&production).await.len(), 1);

        let both = [&first.id, &second.id];
        for done in join_all(both.map(|id| self.compute.terminate(id))).await {
            done.expect("it is terminated");
        }
        self.compute.terminate(&name("shop-never-was")).await.expect("one that never was is fine");
        assert!(self.listed(&staging).await.is_empty() && self.listed(&production).await.is_empty());
    }

    async fn ends(&self) {
        let fleet = fleet("qa");
        let image = (self.image)("echo cannot open the shop; exit 3").await;
        let launch = self.launch("launch-4", "shop-qa-1-1", &image, fleet.clone());
        let instance = self.compute.launch(&launch).await.expect("it is launched");
        let failed = async || match self.state(&fleet, &instance.id).await? {
            InstanceState::Failed { reason } => Some(reason),
            _ => None,
        };
        (self.ending)(&instance).await;
        let reason = eventually("an instance that ended by itself has failed", failed).await;
        match self.ends {
            Ends::WithOutput => {
                assert!(reason.contains("cannot open the shop"), "the reason has what it said: {reason}");
                assert!(reason.contains("exit code 3"), "the reason has the exit code: {reason}");
            }
            Ends::Alone => assert!(!reason.is_empty(), "there is a reason"),
        }
        let again = self.compute.launch(&launch).await.expect("launched again");
        assert!(matches!(again.state, InstanceState::Failed { .. }), "it is found as it is, not restarted");
        self.compute.terminate(&instance.id).await.expect("a failed one is terminated");
        assert!(self.listed(&fleet).await.is_empty());
    }
}

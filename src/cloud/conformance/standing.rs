//! What a balancer says of its targets, and does with them: promises that hold wherever the targets are,
//! whether this process could send requests through the balancer or not.

use std::net::SocketAddr;
use std::time::Duration;

use super::PATIENCE;
use crate::cloud::{Balancer, Error, Listener, Role, Target, TargetState};
use crate::ids::InstanceId;

type Member = (InstanceId, SocketAddr);

/// The promises of [`Balancer`] about states and roles. `start` starts an instance of the listener's
/// fleet, by a name, which is well; the balancer has somewhere to stand by that gets no requests.
pub async fn targets<B: Balancer + ?Sized>(
    balancer: &B,
    listener: &Listener,
    start: impl AsyncFn(&'static str) -> Member,
) {
    let suite = Suite { balancer, listener };
    suite.comes_and_goes(&start).await;
    suite.is_switched(&start).await;
    suite.is_removed().await;
}

struct Suite<'a, B: ?Sized> {
    balancer: &'a B,
    listener: &'a Listener,
}

impl<B: Balancer + ?Sized> Suite<'_, B> {
    async fn all(&self) -> Vec<Target> {
        self.balancer.targets(&self.listener.fleet).await.expect("targets are told")
    }

    async fn find(&self, id: &InstanceId) -> Option<Target> {
        self.all().await.into_iter().find(|target| target.id == *id)
    }

    /// Waits, as a rollout does.
    async fn until(&self, id: &InstanceId, what: &str, is: impl Fn(&Target) -> bool) {
        let waiting = async {
            while !self.find(id).await.is_some_and(|target| is(&target)) {
                self.balancer.changed(&self.listener.fleet, PATIENCE).await.expect("changes are awaited");
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("{id} is not {what}: {:?}", self.all().await);
        }
    }

    async fn healthy(&self, id: &InstanceId) {
        self.until(id, "healthy", |target| target.state == TargetState::Healthy).await;
    }

    async fn drained(&self, id: &InstanceId) {
        self.until(id, "drained", |target| target.state == TargetState::Drained).await;
    }

    async fn register(&self, targets: &[Member]) {
        self.balancer.register(&self.listener.fleet, targets).await.expect("targets are registered");
    }

    async fn deregister(&self, id: &InstanceId) {
        let ids = std::slice::from_ref(id);
        self.balancer.deregister(&self.listener.fleet, ids).await.expect("targets are deregistered");
    }

    async fn comes_and_goes(&self, start: &impl AsyncFn(&'static str) -> Member) {
        let fleet = &self.listener.fleet;
        for _ in 0..2 {
            self.balancer.put_listener(self.listener).await.expect("a listener is put, and again");
        }
        let one = start("one").await;
        assert_eq!(self.all().await, [], "who was never registered is no target");
        self.register(std::slice::from_ref(&one)).await;
        let told = self.find(&one.0).await.expect("who is registered is listed at once");
        assert_eq!((told.address, told.role), (one.1, Role::Serving));
        self.healthy(&one.0).await;
        let two = start("two").await;
        self.register(&[one.clone(), two.clone()]).await;
        let told = self.find(&one.0).await.map(|target| target.state);
        assert_eq!(told, Some(TargetState::Healthy), "registering a target again leaves it as it is");
        self.healthy(&two.0).await;
        self.balancer.put_listener(self.listener).await.expect("a listener is put again");
        assert_eq!(self.all().await.len(), 2, "putting the listener again leaves the targets");

        for _ in 0..2 {
            self.deregister(&one.0).await;
            let told = self.find(&one.0).await.map(|target| target.state);
            assert!(
                matches!(told, Some(TargetState::Draining { .. } | TargetState::Drained)),
                "from the answer on it drains: {told:?}"
            );
        }
        self.drained(&one.0).await;
        self.drained(&one.0).await;
        let told = self.find(&two.0).await.map(|target| target.state);
        assert_eq!(told, Some(TargetState::Healthy), "others are left alone");
        for _ in 0..2 {
            let gone = [one.0.clone(), "i-neverwas".parse().expect("a legal id")];
            self.balancer.forget(fleet, &gone).await.expect("it is forgotten, and again");
            let left = self.all().await;
            assert_eq!(left.iter().map(|target| &target.id).collect::<Vec<_>>(), [&two.0]);
        }
        let waiting = self.balancer.changed(fleet, Duration::from_millis(20));
        let waited = tokio::time::timeout(PATIENCE, waiting).await.expect("patience ends");
        waited.expect("also where nothing changes");
        self.register(std::slice::from_ref(&one)).await;
        self.healthy(&one.0).await;
        self.deregister(&one.0).await;
        self.drained(&one.0).await;
        self.balancer.forget(fleet, std::slice::from_ref(&one.0)).await.expect("it is forgotten");
    }

    /// `(state, role)` of each by its name, where they are healthy.
    async fn roles(&self, ids: [&InstanceId; 2]) -> [Option<(TargetState, Role)>; 2] {
        let all = self.all().await;
        ids.map(|id| all.iter().find(|target| target.id == *id).map(|target| (target.state, target.role)))
    }

    async fn is_switched(&self, start: &impl AsyncFn(&'static str) -> Member) {
        let fleet = &self.listener.fleet;
        let [blue] = &self.all().await[..] else { panic!("one is left: {:?}", self.all().await) };
        let (blue, green) = (blue.id.clone(), start("green").await);
        for _ in 0..2 {
            let targets = std::slice::from_ref(&green);
            self.balancer.stand_by(fleet, targets).await.expect("it stands by, and again");
        }
        let told = self.find(&green.0).await.map(|target| target.role);
        assert_eq!(told, Some(Role::Standby), "from the answer on it is listed so");
        self.healthy(&green.0).await;
        self.register(std::slice::from_ref(&green)).await;
        let (healthy, ids) = (TargetState::Healthy, [&blue, &green.0]);
        let before = [Some((healthy, Role::Serving)), Some((healthy, Role::Standby))];
        assert_eq!(self.roles(ids).await, before, "registered again it stands by all the same");

        let unknown: InstanceId = "i-neverwas".parse().expect("a legal id");
        let refused = self.balancer.switch(fleet, &[green.0.clone(), unknown]).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "all or nothing: {refused:?}");
        assert_eq!(self.roles(ids).await, before, "nothing has changed");
        for _ in 0..2 {
            let to = std::slice::from_ref(&green.0);
            self.balancer.switch(fleet, to).await.expect("it is switched, and again");
            let after = [Some((healthy, Role::Standby)), Some((healthy, Role::Serving))];
            assert_eq!(self.roles(ids).await, after);
        }
        self.balancer.switch(fleet, std::slice::from_ref(&blue)).await.expect("it is switched back");
        assert_eq!(self.roles(ids).await, before);
        self.deregister(&green.0).await;
        self.drained(&green.0).await;
    }

    async fn is_removed(&self) {
        for _ in 0..2 {
            self.balancer.remove_listener(&self.listener.fleet).await.expect("it is removed, and again");
            assert_eq!(self.all().await, [], "with all its targets");
        }
    }
}

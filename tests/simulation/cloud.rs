//! A cloud that is made up: what is in it, and how that changes with time alone. It has one of two
//! tempers, see [`Temper`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use windlass::cloud::{
    BuildRequest, ImageRecord, Instance, InstanceState, Listener, Role, Target, TargetState,
};
use windlass::ids::{Digest, FleetId, ImageId, InstanceId};

use crate::clock;
use crate::draft::{Scenario, Temper};
use crate::random::Random;

mod balancer;
mod compute;
mod objects;

pub use compute::Reached;

/// What there is.
pub struct Ground {
    pub temper: Temper,
    seed: u64,
    no_room: Vec<(Duration, Duration)>,
    /// Nothing dies by itself after this.
    quiet_at: Duration,
    state: Mutex<State>,
    /// Told of every change that somebody makes.
    changed: Notify,
}

#[derive(Default)]
struct State {
    images: BTreeMap<Digest, ImageRecord>,
    /// Whose instances turn out well, whatever the seed says.
    good: BTreeSet<ImageId>,
    builders: BTreeMap<String, BuildRequest>,
    servers: BTreeMap<InstanceId, Server>,
    fleets: BTreeMap<FleetId, Served>,
    objects: BTreeMap<String, (Digest, Vec<u8>)>,
    /// Who served in good health, by the last that a process was told.
    told: BTreeMap<(u32, FleetId), BTreeSet<InstanceId>>,
}

/// An instance.
#[derive(Clone)]
struct Server {
    instance: Instance,
    /// The process that launched it sees it at once.
    launched_by: u32,
    seen_at: Duration,
    runs_at: Duration,
    serves_at: Option<Duration>,
    dies_at: Option<Duration>,
    ended: bool,
}

/// A fleet behind its balancer.
struct Served {
    listener: Listener,
    targets: BTreeMap<InstanceId, Registered>,
}

#[derive(Clone)]
struct Registered {
    address: SocketAddr,
    at: Duration,
    role: Role,
    drains: Option<Drain>,
}

#[derive(Clone)]
struct Drain {
    since: Timestamp,
    until: Duration,
}

impl Ground {
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            temper: scenario.temper,
            seed,
            no_room: scenario.no_room.clone(),
            quiet_at: scenario.quiet_at,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn has_changed(&self) {
        self.changed.notify_waiters();
    }

    fn is_distant(&self) -> bool {
        self.temper == Temper::Distant
    }

    /// How an instance of this image turns out.
    fn server(&self, instance: Instance, by: u32, now: Duration, good: bool) -> Server {
        let mut random = Random::of(self.seed, &format!("image {}", instance.image));
        let quality = if good { 99 } else { random.below(100) };
        let mut random = Random::of(self.seed, &format!("launch {}", instance.key));
        let (boot, start, unseen) = match self.temper {
            Temper::Local => (random.between(0, 1000), random.between(0, 5000), 0),
            Temper::Distant => {
                (random.between(10_000, 90_000), random.between(1000, 60_000), random.below(9000))
            }
        };
        let runs_at = now + Duration::from_millis(boot);
        let serves_at = runs_at + Duration::from_millis(start);
        // Of the image, or of this one alone.
        let dies_at = match (quality, random.below(100)) {
            (0..8, _) => Some(runs_at + Duration::from_millis(random.below(20_000))),
            (_, 0..5) if !good => {
                Some(runs_at + Duration::from_secs(random.below(1800))).filter(|at| *at < self.quiet_at)
            }
            _ => None,
        };
        Server {
            instance,
            launched_by: by,
            seen_at: now + Duration::from_millis(unseen),
            runs_at,
            serves_at: (!(8..18).contains(&quality)).then_some(serves_at),
            dies_at,
            ended: false,
        }
    }

    /// An image that somebody made; all of its instances turn out well.
    pub fn has(&self, image: ImageRecord) {
        let mut state = self.state();
        state.good.insert(image.id.clone());
        state.images.insert(image.key.clone(), image);
    }

    /// An instance ends by itself, now.
    pub fn dies(&self, id: &InstanceId) {
        if let Some(server) = self.state().servers.get_mut(id) {
            server.dies_at = Some(clock::elapsed());
        }
        self.has_changed();
    }

    /// Instances that were not ended, each with the key it was launched under, its release and whether
    /// it serves in good health.
    pub fn standing(&self, fleet: &FleetId) -> Vec<(Instance, bool)> {
        let (state, now) = (self.state(), clock::elapsed());
        let there = state.servers.values().filter(|server| server.instance.fleet == *fleet && !server.ended);
        let healthy = |server: &Server| {
            let found = state.fleets.get(fleet).and_then(|served| {
                Some(target(
                    served,
                    &server.instance.id,
                    served.targets.get(&server.instance.id)?,
                    Some(server),
                    now,
                ))
            });
            found.is_some_and(|t| t.state == TargetState::Healthy && t.role == Role::Serving)
        };
        there
            .map(|server| (Instance { state: server.state(now), ..server.instance.clone() }, healthy(server)))
            .collect()
    }

    /// Every fleet that anything was ever launched for.
    pub fn fleets(&self) -> BTreeSet<FleetId> {
        self.state().servers.values().map(|server| server.instance.fleet.clone()).collect()
    }
}

impl Server {
    fn state(&self, now: Duration) -> InstanceState {
        match self {
            _ if self.ended => InstanceState::Terminated,
            _ if self.is_dead(now) => {
                InstanceState::Failed { reason: "it ended with exit code 1".to_owned() }
            }
            _ if now < self.runs_at => InstanceState::Pending,
            _ => InstanceState::Running,
        }
    }

    fn is_dead(&self, now: Duration) -> bool {
        self.dies_at.is_some_and(|at| at <= now)
    }

    fn is_seen(&self, by: u32, now: Duration) -> bool {
        self.launched_by == by || self.seen_at <= now
    }
}

/// When what is known of a target changes by itself: it turns healthy, or unhealthy; it has drained.
struct Turns {
    unhealthy_at_first: Duration,
    healthy: Option<Duration>,
    unhealthy: Option<Duration>,
}

fn turns(served: &Served, target: &Registered, server: Option<&Server>) -> Turns {
    let health = &served.listener.health;
    let bad = health.interval * health.unhealthy;
    let good = health.interval * health.healthy;
    let dies = server.and_then(|server| if server.ended { Some(Duration::ZERO) } else { server.dies_at });
    let healthy = server.and_then(|server| server.serves_at).map(|at| at.max(target.at) + good);
    Turns {
        unhealthy_at_first: target.at + bad,
        healthy: healthy.filter(|at| dies.is_none_or(|dies| *at < dies)),
        unhealthy: dies.map(|dies| dies.max(target.at) + bad),
    }
}

fn target(
    served: &Served,
    id: &InstanceId,
    target: &Registered,
    server: Option<&Server>,
    now: Duration,
) -> Target {
    let turns = turns(served, target, server);
    let passed = |at: Option<Duration>| at.is_some_and(|at| at <= now);
    let state = match &target.drains {
        Some(drain) if drain.until <= now => TargetState::Drained,
        Some(drain) => TargetState::Draining { open_requests: 1, since: drain.since },
        None if passed(turns.unhealthy) => TargetState::Unhealthy,
        None if passed(turns.healthy) => TargetState::Healthy,
        None if turns.unhealthy_at_first <= now => TargetState::Unhealthy,
        None => TargetState::Initial,
    };
    let reason = (state == TargetState::Unhealthy).then(|| "connection refused".to_owned());
    Target { id: id.clone(), address: target.address, state, role: target.role, reason }
}

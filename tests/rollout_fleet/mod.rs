//! A simulated fleet: machines that boot, serve, fail and drain, a balancer that checks them, and the
//! faults that strike them.

use jiff::{SignedDuration, Timestamp};
use windlass::ids::{Digest, InstanceId};
use windlass::rollout::{Check, Life, Member, Observed, Operation, Rolling, Traffic};

/// In ticks of one second, as everything here.
pub const PATIENCE: u32 = 12;
pub const DRAIN: u32 = 4;
/// Good answers before a target is healthy, bad ones before it is unhealthy.
pub const CHECKS: u32 = 2;

/// How instances of a release turn out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quality {
    /// Running after some ticks, healthy some ticks later, within the patience.
    Good {
        boot: u32,
        start: u32,
    },
    NeverHealthy,
    CrashesAfter(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The member ends by itself.
    Crash(usize),
    /// The member fails its checks for so many ticks.
    Flap(usize, u32),
    /// The next operations are not carried out.
    Lost,
    /// Only the first so many of the next operations are: whoever carried them out was killed.
    Cut(usize),
    /// The next launch is carried out twice.
    Repeated,
    /// The next observation is so many ticks old.
    Stale(usize),
    /// Whoever plans is away for so many ticks.
    Away(u32),
    Cancel,
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub size: u32,
    pub rolling: Rolling,
    /// What is there at the start: release, and whether it is healthy.
    pub before: Vec<(Which, bool)>,
    pub first: bool,
    pub target: Quality,
    /// How relaunched members of the source turn out.
    pub source: Quality,
    /// By the tick at which they strike.
    pub faults: Vec<(u32, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Which {
    Target,
    Source,
    Leftover,
}

impl Which {
    pub fn release(self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub member: Member,
    pub quality: Quality,
    /// It takes no traffic before this tick.
    pub serves_from: u32,
    pub crashes_at: Option<u32>,
    pub sick_until: u32,
    /// Consecutive answers that differ from what the balancer says.
    pub streak: u32,
    pub drained_at: u32,
}

pub struct World {
    pub tick: u32,
    pub machines: Vec<Machine>,
    pub launched: u32,
    pub scene: Scene,
    /// One for each tick.
    pub seen: Vec<Observed>,
    pub repeated: usize,
}

pub fn at(tick: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + i64::from(tick))
}

/// Members that were there at the start were launched long before it.
pub const LONG_AGO: u32 = 0;
pub const START: u32 = 10_000;

impl World {
    pub fn new(scene: Scene) -> Self {
        let mut world = Self { tick: START, machines: vec![], launched: 0, scene, seen: vec![], repeated: 0 };
        for (which, healthy) in world.scene.before.clone() {
            world.launch(&which.release());
            let machine = world.machines.last_mut().unwrap();
            machine.member.launched_at = at(LONG_AGO);
            machine.member.life = Life::Running;
            machine.serves_from = START;
            machine.crashes_at = None;
            machine.quality =
                if healthy { Quality::Good { boot: 0, start: 0 } } else { Quality::NeverHealthy };
            machine.member.traffic =
                if healthy { Traffic::Healthy } else { Traffic::Unhealthy("status 503".into()) };
        }
        world
    }

    pub fn launch(&mut self, release: &Digest) {
        self.launched += 1;
        let quality = match *release == Which::Target.release() {
            true => self.scene.target,
            false => self.scene.source,
        };
        let (boot, start) = match quality {
            Quality::Good { boot, start } => (boot, start),
            _ => (1, 1),
        };
        let crashes_at = match quality {
            Quality::CrashesAfter(ticks) => Some(self.tick + 1 + ticks),
            _ => None,
        };
        self.machines.push(Machine {
            member: Member {
                id: format!("m-{}", self.launched).parse().unwrap(),
                release: release.clone(),
                life: Life::Pending,
                traffic: Traffic::Unregistered,
                launched_at: at(self.tick),
            },
            quality,
            serves_from: self.tick + boot + start,
            crashes_at,
            sick_until: 0,
            streak: 0,
            drained_at: 0,
        });
    }

    pub fn machine(&mut self, id: &InstanceId) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.member.id == *id)
    }

    /// Time passes: machines boot and crash, the balancer checks.
    pub fn step(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        for machine in &mut self.machines {
            let boot = match machine.quality {
                Quality::Good { boot, .. } => boot,
                _ => 1,
            };
            if machine.member.life == Life::Pending && at(tick) >= machine.member.launched_at + secs(boot) {
                machine.member.life = Life::Running;
            }
            if machine.crashes_at == Some(tick) {
                machine.member.life = Life::Failed("exit code 1".into());
            }
            let answers = machine.member.life == Life::Running
                && machine.quality != Quality::NeverHealthy
                && tick >= machine.serves_from
                && tick >= machine.sick_until;
            let differs = match &machine.member.traffic {
                Traffic::Initial | Traffic::Standby(Check::Initial) => true,
                Traffic::Healthy | Traffic::Standby(Check::Healthy) => !answers,
                Traffic::Unhealthy(_) | Traffic::Standby(Check::Unhealthy(_)) => answers,
                _ => false,
            };
            machine.streak = if differs { machine.streak + 1 } else { 0 };
            if machine.streak >= CHECKS {
                machine.streak = 0;
                let refused = || "connection refused".to_owned();
                machine.member.traffic = match (&machine.member.traffic, answers) {
                    (Traffic::Standby(_), true) => Traffic::Standby(Check::Healthy),
                    (Traffic::Standby(_), false) => Traffic::Standby(Check::Unhealthy(refused())),
                    (_, true) => Traffic::Healthy,
                    (_, false) => Traffic::Unhealthy(refused()),
                };
            }
            if let Traffic::Draining { open_requests } = &mut machine.member.traffic {
                *open_requests = u64::from(machine.drained_at.saturating_sub(tick));
                if tick >= machine.drained_at {
                    machine.member.traffic = Traffic::Drained;
                }
            }
        }
        self.record();
    }

    pub fn record(&mut self) {
        let members = self.machines.iter().map(|machine| machine.member.clone()).collect();
        self.seen.push(Observed { now: at(self.tick), members });
    }

    /// How many take traffic, in the eyes of whoever planned: its own acts since the observation
    /// count, what else happened meanwhile it could not know.
    pub fn capacity(&self, observed: &Observed) -> usize {
        let serves = |now: &Member| {
            let seen = observed.members.iter().find(|seen| seen.id == now.id).unwrap_or(now);
            !matches!(now.traffic, Traffic::Draining { .. } | Traffic::Drained) && healthy(seen)
        };
        self.machines.iter().filter(|machine| serves(&machine.member)).count()
    }

    /// As the balancer does it: all or nothing, and only to those that are healthy.
    fn switch(&mut self, to: &[InstanceId]) {
        let well = |id: &InstanceId| {
            let found = self.machines.iter().find(|machine| machine.member.id == *id);
            found.is_some_and(|m| {
                matches!(m.member.traffic, Traffic::Healthy | Traffic::Standby(Check::Healthy))
            })
        };
        if !to.iter().all(well) {
            return;
        }
        for machine in &mut self.machines {
            let traffic = &mut machine.member.traffic;
            *traffic = match (to.contains(&machine.member.id), traffic.clone()) {
                (true, Traffic::Standby(_)) => Traffic::Healthy,
                (false, Traffic::Initial) => Traffic::Standby(Check::Initial),
                (false, Traffic::Healthy) => Traffic::Standby(Check::Healthy),
                (false, Traffic::Unhealthy(why)) => Traffic::Standby(Check::Unhealthy(why)),
                (_, other) => other,
            };
        }
    }

    pub fn carry_out(&mut self, operation: &Operation, floor: usize, observed: &Observed) {
        match operation {
            Operation::Launch { release, count } => {
                for _ in 0..*count {
                    self.launch(release);
                }
            }
            Operation::Register { id } => {
                if let Some(machine) = self.machine(id)
                    && machine.member.traffic == Traffic::Unregistered
                {
                    machine.member.traffic = Traffic::Initial;
                }
            }
            Operation::StandBy { id } => {
                if let Some(machine) = self.machine(id)
                    && machine.member.traffic == Traffic::Unregistered
                {
                    machine.member.traffic = Traffic::Standby(Check::Initial);
                }
            }
            Operation::Switch { to } => self.switch(to),
            Operation::Drain { id } => {
                let before = self.capacity(observed);
                let tick = self.tick;
                if let Some(machine) = self.machine(id)
                    && !matches!(machine.member.traffic, Traffic::Draining { .. } | Traffic::Drained)
                {
                    let open = u64::from(DRAIN);
                    machine.member.traffic = Traffic::Draining { open_requests: open };
                    machine.drained_at = tick + DRAIN;
                }
                let after = self.capacity(observed);
                assert!(
                    after == before || after >= floor,
                    "draining {id} took the healthy capacity from {before} to {after}, below {floor}"
                );
            }
            Operation::Terminate { id } => {
                if let Some(machine) = self.machine(id) {
                    let member = &machine.member;
                    assert!(
                        matches!(member.life, Life::Failed(_))
                            || matches!(member.traffic, Traffic::Drained | Traffic::Unregistered),
                        "{id} was terminated while it was {:?}",
                        member.traffic
                    );
                }
                self.machines.retain(|machine| machine.member.id != *id);
            }
        }
    }
}

pub fn secs(ticks: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(ticks))
}

pub fn healthy(member: &Member) -> bool {
    member.traffic == Traffic::Healthy && !matches!(member.life, Life::Failed(_))
}

pub fn active(member: &Member) -> bool {
    !matches!(member.life, Life::Failed(_))
        && !matches!(member.traffic, Traffic::Draining { .. } | Traffic::Drained)
}

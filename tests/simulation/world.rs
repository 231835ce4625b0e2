//! Everything that outlives a process of Windlass: the store, the steps' processes, the cloud; and what
//! is known of all that happened.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use windlass::config::Settings;
use windlass::ids::FleetId;
use windlass::rollout::Strategy;
use windlass::store::memory::Memory;

use crate::clock;
use crate::cloud::Ground;
use crate::draft::Scenario;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::runner::Machine;

pub struct World {
    pub seed: u64,
    pub scenario: Scenario,
    /// For the files of stages and logs.
    pub directory: PathBuf,
    pub settings: Arc<Settings>,
    pub memory: Memory,
    pub machine: Machine,
    pub ground: Ground,
    ledger: Mutex<Ledger>,
    /// How often things have happened.
    times: Mutex<HashMap<String, u64>>,
    /// Nothing goes wrong any more.
    quiet: AtomicBool,
    /// Effects and writes that were begun or done, each counted before and after it is.
    moments: AtomicU64,
    /// The process dies at this one.
    dies_at: Option<u64>,
    trace: Mutex<Trace>,
    broken: Mutex<Vec<String>>,
}

/// What happened, in its order.
#[derive(Default)]
pub struct Trace {
    lines: Option<Vec<String>>,
    /// Of all that happened, whether its lines are kept or not.
    pub count: u64,
}

/// What is wanted of a simulation, besides its seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Keep what happened.
    pub traced: bool,
    /// Kill the process at this moment.
    pub dies_at: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl World {
    pub fn new(seed: u64, scenario: Scenario, directory: PathBuf, wanted: Wanted) -> Arc<Self> {
        let path = directory.join("windlass.yaml");
        std::fs::write(&path, &scenario.settings).expect("the directory is writable");
        let settings =
            Settings::read(&path).unwrap_or_else(|problems| panic!("{problems}\n{}", scenario.settings));
        Arc::new(Self {
            seed,
            settings: Arc::new(settings),
            directory,
            memory: Memory::new(),
            machine: Machine::default(),
            ground: Ground::new(seed, &scenario),
            scenario,
            ledger: Mutex::default(),
            times: Mutex::default(),
            quiet: AtomicBool::new(false),
            moments: AtomicU64::new(0),
            dies_at: wanted.dies_at,
            trace: Mutex::new(Trace { lines: wanted.traced.then(Vec::new), count: 0 }),
            broken: Mutex::default(),
        })
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Numbers for the next time that `what` happens. They depend on nothing else, so that it does not
    /// matter which of two things comes first that have nothing to do with each other.
    pub fn next(&self, what: &str) -> Random {
        let mut times = lock(&self.times);
        if let Some(time) = times.get_mut(what) {
            *time += 1;
            return Random::of(self.seed ^ *time, what);
        }
        times.insert(what.to_owned(), 0);
        Random::of(self.seed, what)
    }

    /// Numbers that belong to one thing.
    pub fn fate(&self, of: &str) -> Random {
        Random::of(self.seed, of)
    }

    /// Whether something that happens so often of a thousand times happens now to `what`.
    pub fn happens(&self, thousandths: u64, what: &str) -> bool {
        !self.is_quiet() && thousandths > 0 && self.next(what).chance(thousandths)
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    pub fn calm_down(&self) {
        self.quiet.store(true, Ordering::SeqCst);
    }

    /// How many moments there were at which the process could have died.
    pub fn moments(&self) -> u64 {
        self.moments.load(Ordering::SeqCst)
    }

    /// Notes what happened.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        let mut trace = lock(&self.trace);
        trace.count += 1;
        if let Some(lines) = &mut trace.lines {
            lines.push(format!("{:>11.3} {}", clock::elapsed().as_secs_f64(), line()));
        }
    }

    pub fn trace(&self) -> Vec<String> {
        lock(&self.trace).lines.clone().unwrap_or_default()
    }

    pub fn happenings(&self) -> u64 {
        lock(&self.trace).count
    }

    /// A promise was broken.
    pub fn broken(&self, what: String) {
        self.tell(|| format!("BROKEN {what}"));
        lock(&self.broken).push(format!("after {:.3} s: {what}", clock::elapsed().as_secs_f64()));
    }

    pub fn all_broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    /// How many healthy instances the fleet may not fall below by what Windlass does, where it has
    /// `now` of them.
    pub fn least(&self, fleet: &FleetId, now: usize) -> usize {
        let policy = self.settings.environments.get(&fleet.environment);
        let Some(policy) = policy.and_then(|policy| policy.fleets.get(&fleet.service)) else { return 0 };
        let (floor, size) = match &policy.strategy {
            Strategy::Rolling(rolling) => (rolling.floor as usize, policy.size as usize),
            Strategy::BlueGreen { .. } => (policy.size as usize, policy.size as usize),
        };
        let at_start = self.ledger().healthy_at_start(fleet).unwrap_or(now);
        floor.min(size).min(at_start)
    }

    /// Time passes, as it does for whoever asks over a wire.
    pub async fn latency(&self, what: &str, least: u64, most: u64) {
        let time = self.next(what).between(least, most);
        if time > 0 {
            tokio::time::sleep(Duration::from_millis(time)).await;
        }
    }
}

/// One process of Windlass, as far as the world is concerned.
pub struct Life {
    pub world: Arc<World>,
    pub number: u32,
    dead: watch::Sender<bool>,
}

impl Life {
    pub fn new(world: Arc<World>, number: u32) -> Arc<Self> {
        Arc::new(Self { world, number, dead: watch::Sender::new(false) })
    }

    pub fn is_over(&self) -> bool {
        *self.dead.borrow()
    }

    pub fn end(&self, why: &str) {
        if !self.dead.send_replace(true) {
            self.world.tell(|| format!("process {} dies: {why}", self.number));
        }
    }

    /// Returns when it has died.
    pub async fn over(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Never returns in a process that has died.
    pub async fn alive(&self) {
        if self.is_over() {
            std::future::pending().await
        }
    }

    /// A moment at which the process may die: before something is done, and after.
    pub async fn moment(&self, what: &str) {
        self.alive().await;
        let moment = self.world.moments.fetch_add(1, Ordering::SeqCst) + 1;
        if self.world.dies_at == Some(moment) || self.world.happens(self.world.scenario.chaos.crash, what) {
            self.end(what);
        }
        self.alive().await;
    }
}

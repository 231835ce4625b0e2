//! From a seed to what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use windlass::ids::RunId;
use windlass::run::command::Act;
use windlass::run::event::Ending;

use crate::clock;
use crate::draft::{ENVIRONMENTS, Scenario, Weather, Whim};
use crate::people::Person;
use crate::process::Process;
use crate::random::Random;
use crate::verdict;
use crate::world::{Wanted, World};

/// Longest that everything may take to end when nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often somebody looks whether there is something to decide.
const LOOK: Duration = Duration::from_secs(60);

/// What came of a seed.
pub struct Report {
    pub seed: u64,
    pub broken: Vec<String>,
    pub trace: Vec<String>,
    pub happenings: u64,
    pub moments: u64,
    pub processes: u32,
    pub took: Duration,
    pub simulated: Duration,
    /// How each run ended, and each of its stages.
    pub ends: BTreeMap<RunId, (Option<Ending>, Vec<String>)>,
}

/// Simulates a seed, in a thread of its own.
pub fn simulate(seed: u64, weather: Weather, wanted: Wanted) -> Report {
    let begun = Instant::now();
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    let simulation = thread.spawn(move || {
        let place = ["/dev/shm", "/tmp"].iter().find(|place| std::path::Path::new(place).is_dir());
        let directory = tempfile::Builder::new().prefix("windlass-sim-").tempdir_in(place.unwrap_or(&"."));
        let directory = directory.expect("there is room for files");
        clock::begin(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let scenario = Scenario::of(seed, weather);
        let world = World::new(seed, scenario, directory.path().to_owned(), wanted);
        let processes = runtime.block_on(live(world.clone()));
        let ends = world.ledger().ends();
        Report {
            seed,
            broken: world.all_broken(),
            trace: world.trace(),
            happenings: world.happenings(),
            moments: world.moments(),
            processes,
            took: Duration::ZERO,
            simulated: clock::elapsed(),
            ends,
        }
    });
    let mut report = match simulation.expect("a thread").join() {
        Ok(report) => report,
        Err(_) => panic!("the simulation of seed {seed} itself panicked"),
    };
    report.took = begun.elapsed();
    report
}

/// The process that there is, and those before it.
struct House {
    world: Arc<World>,
    process: watch::Sender<Option<Arc<Process>>>,
    /// Those that have not noticed yet that there is another.
    old: Vec<Arc<Process>>,
    begun: u32,
}

async fn live(world: Arc<World>) -> u32 {
    let mut house =
        House { world: world.clone(), process: watch::Sender::new(None), old: Vec::new(), begun: 0 };
    house.begin();
    let person = Person { world: world.clone(), process: house.process.subscribe() };
    for (at, whim) in world.scenario.whims.clone() {
        house.until(at).await;
        match whim {
            Whim::Kill => house.replace().await,
            whim => drop(tokio::spawn(person.clone().follows(whim))),
        }
    }
    house.until(world.scenario.quiet_at).await;
    world.tell(|| "nothing goes wrong any more".to_owned());
    world.calm_down();
    for old in house.old.drain(..) {
        old.life.end("it is old");
    }
    if world.scenario.chaos.crash > 0 || world.scenario.chaos.cloud > 0 {
        house.kill("a last time");
        house.begin();
    }
    let end = async {
        settle(&world, person).await;
        verdict::at_the_end(&world).await;
    };
    tokio::select! {
        biased;
        () = house.until(clock::elapsed() + PATIENCE * 9) => {}
        () = end => {}
    }
    house.kill("all is over");
    house.begun
}

impl House {
    fn begin(&mut self) {
        self.begun += 1;
        self.process.send_replace(Some(Process::begin(&self.world, self.begun)));
    }

    fn current(&self) -> Option<Arc<Process>> {
        self.process.borrow().clone()
    }

    fn kill(&self, why: &str) {
        if let Some(process) = self.process.send_replace(None) {
            process.life.end(why);
        }
    }

    /// Lets time pass, and starts the process again whenever it has died.
    async fn until(&mut self, at: Duration) {
        loop {
            let left = at.saturating_sub(clock::elapsed());
            let process = self.current();
            let over = async {
                if let Some(process) = &process {
                    process.life.over().await
                }
            };
            tokio::select! {
                biased;
                () = over => {
                    self.kill("it died");
                    let pause = self.world.next("a pause").below(if self.world.scenario.chaos.crash > 0 { 20_000 } else { 20 });
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    self.begin();
                }
                () = tokio::time::sleep(left) => return,
            }
        }
    }

    /// Another process takes over, before the one before has gone where the seed wants that.
    async fn replace(&mut self) {
        if !self.world.scenario.chaos.overlap {
            self.kill("somebody kills it");
            return;
        }
        let Some(old) = self.process.send_replace(None) else { return };
        self.begin();
        let time = self.world.next("both").between(1, 120);
        tokio::spawn({
            let old = old.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(time)).await;
                old.life.end("another one has taken over");
            }
        });
        self.old.push(old);
    }
}

/// Lets everything come to its end; people decide what they have to.
async fn settle(world: &Arc<World>, mut person: Person) {
    for n in 0..ENVIRONMENTS.len() {
        person.unlock(n).await;
    }
    let mut random = Random::of(world.seed, "decisions");
    let until = clock::elapsed() + PATIENCE;
    loop {
        tokio::time::sleep(LOOK).await;
        let unfinished = world.ledger().unfinished();
        if unfinished.is_empty() {
            return;
        }
        for run in &unfinished {
            for environment in person.gates(run) {
                let act = match random.below(10) {
                    _ if world.scenario.weather == Weather::Fair => Act::Promote { environment },
                    0 => Act::Reject { environment, reason: "no".to_owned() },
                    1 => Act::Cancel { reason: "no".to_owned() },
                    _ => Act::Promote { environment },
                };
                person.ask(run, act).await;
            }
        }
        if clock::elapsed() > until {
            return verdict::stands_still(world, &person, unfinished).await;
        }
    }
}

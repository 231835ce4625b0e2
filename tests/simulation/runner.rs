//! Shell steps without shells: each is a fate of its own, by its name, and outlives the process that
//! asked for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use windlass::ids::StepId;
use windlass::runner::{Error, Exit, ExitStatus, Runner, StartStep};

use crate::world::{Life, World};

/// The machine on which steps run.
#[derive(Default)]
pub struct Machine(Mutex<BTreeMap<StepId, Process>>);

#[derive(Clone)]
struct Process {
    exit: watch::Sender<Option<Exit>>,
    /// Somebody wants it to end, after this grace.
    end: watch::Sender<Option<Ending>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cancel {
        grace: Duration,
    },
    /// The runner died, and the next one ended what it left.
    Lose,
}

/// How a step turns out.
#[derive(Debug)]
struct Fate {
    takes: Duration,
    status: ExitStatus,
    /// It takes no notice of SIGTERM.
    traps: bool,
}

impl Fate {
    fn of(world: &World, step: &StepId) -> Self {
        let mut random = world.fate(&format!("step {step}"));
        let takes = match random.below(40) {
            0 => Duration::from_secs(random.between(60, 900)),
            1..16 => Duration::from_millis(random.between(0, 60)),
            _ => Duration::from_millis(random.between(100, 30_000)),
        };
        let status = match random.below(100) {
            0..6 => ExitStatus::Code { code: random.between(1, 3) as i32 },
            6 => ExitStatus::Signal { signal: 9 },
            7 => ExitStatus::NotStarted { message: "no memory".to_owned() },
            _ => ExitStatus::Code { code: 0 },
        };
        Self { takes, status, traps: random.chance(200) }
    }
}

impl Machine {
    fn all(&self) -> MutexGuard<'_, BTreeMap<StepId, Process>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What runs now.
    pub fn running(&self, wanted: impl Fn(&StepId) -> bool) -> Vec<StepId> {
        let all = self.all();
        let running = all.iter().filter(|(step, process)| wanted(step) && process.exit.borrow().is_none());
        running.map(|(step, _)| step.clone()).collect()
    }

    /// The runner dies, and all that runs with it.
    pub fn is_lost(&self) {
        for process in self.all().values() {
            process.end.send_replace(Some(Ending::Lose));
        }
    }
}

/// The runner as a process of Windlass reaches it.
pub struct Reached(pub Arc<Life>);

impl Reached {
    async fn ask(&self, what: &str, step: &StepId) -> Result<(), Error> {
        let what = format!("{what} {step}");
        self.0.moment(&what).await;
        self.0.world.latency(&what, 0, 4).await;
        self.0.alive().await;
        // Whether a step that is to end can be told so is another matter: the client sees to that.
        let unreached = self.0.world.happens(self.0.world.scenario.chaos.runner, &what);
        match unreached && !what.starts_with("cancel") {
            true => Err(Error::Unreachable("it is busy".to_owned())),
            false => Ok(()),
        }
    }

    async fn ended(&self, step: &StepId, process: &Process) -> Exit {
        let mut exits = process.exit.subscribe();
        let exit = match exits.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone(),
            Err(_) => None,
        };
        self.0.moment(&format!("the end of {step}")).await;
        match exit {
            Some(exit) => exit,
            None => std::future::pending().await,
        }
    }

    fn find(&self, step: &StepId) -> Option<Process> {
        self.0.world.machine.all().get(step).cloned()
    }

    fn start(&self, start: &StartStep) -> Process {
        let world = &self.0.world;
        let known = self.find(&start.step);
        let allowed = world.ledger().may_execute(&start.step);
        // Of two processes the slower may ask for what the other has recorded the end of meanwhile; the runner
        // answers for the one start that there was. Whoever is alone knows that end.
        let asks_late = known.is_some() && world.scenario.chaos.overlap;
        allowed.unwrap_or_else(|broken| {
            if !asks_late {
                world.broken(broken)
            }
        });
        if let Some(process) = known {
            return process;
        }
        let of_stage = |other: &StepId| {
            other.attempt.run == start.step.attempt.run && other.attempt.stage == start.step.attempt.stage
        };
        for other in world.machine.running(of_stage) {
            world.broken(format!("{} is executed while {other} runs", start.step));
        }
        world.tell(|| format!("process {} executes {}", self.0.number, start.step));
        let process = Process { exit: watch::Sender::new(None), end: watch::Sender::new(None) };
        world.machine.all().insert(start.step.clone(), process.clone());
        tokio::spawn(live(world.clone(), start.clone(), process.clone()));
        process
    }
}

/// The life of a step's process.
async fn live(world: Arc<World>, start: StartStep, process: Process) {
    let fate = Fate::of(&world, &start.step);
    let started_at = Timestamp::now();
    let mut end = process.end.subscribe();
    let told = async {
        match end.wait_for(Option::is_some).await.map(|ending| *ending) {
            Ok(Some(ending)) => ending,
            _ => std::future::pending().await,
        }
    };
    let status = tokio::select! {
        biased;
        ending = told => match ending {
            Ending::Lose => ExitStatus::Lost { message: "the runner was killed".to_owned() },
            Ending::Cancel { grace } => {
                tokio::time::sleep(if fate.traps { grace } else { Duration::from_millis(50) }).await;
                ExitStatus::Cancelled
            }
        },
        () = tokio::time::sleep(fate.takes) => {
            if fate.status == (ExitStatus::Code { code: 0 }) {
                effect(&start);
            }
            fate.status
        }
    };
    world.tell(|| format!("{} has ended: {status:?}", start.step));
    process.exit.send_replace(Some(Exit {
        status,
        started_at,
        finished_at: Timestamp::now(),
        log_bytes: 7,
        flooded: None,
    }));
}

/// What the author's command leaves in its workspace: `make FILE` makes a file.
fn effect(start: &StartStep) {
    if let Some(file) = start.run.strip_prefix("make ") {
        let path = start.directory.join(file);
        // So that some runs make what others made before.
        let content = start.step.attempt.run.number % 3;
        let _ = std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")));
        let _ = std::fs::write(path, format!("the content {content}"));
    }
}

#[async_trait]
impl Runner for Reached {
    async fn run(&self, start: &StartStep) -> Result<Exit, Error> {
        self.ask("start", &start.step).await?;
        let process = self.start(start);
        self.0.moment(&format!("{} started", start.step)).await;
        Ok(self.ended(&start.step, &process).await)
    }

    async fn wait(&self, step: &StepId) -> Result<Exit, Error> {
        self.ask("wait for", step).await?;
        let process = self.find(step).ok_or_else(|| Error::Unknown(step.clone()))?;
        Ok(self.ended(step, &process).await)
    }

    async fn cancel(&self, step: &StepId, grace: Duration) -> Result<Exit, Error> {
        self.ask("cancel", step).await?;
        let process = self.find(step).ok_or_else(|| Error::Unknown(step.clone()))?;
        process.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(Ending::Cancel { grace });
            first
        });
        self.0.moment(&format!("{step} told to end")).await;
        Ok(self.ended(step, &process).await)
    }
}

//! People, who ask things of whatever process there is, and remember what they were told.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use windlass::engine::{Error, Target};
use windlass::ids::{EnvironmentName, FleetId, RunId};
use windlass::run::command::Act;
use windlass::run::event::{Actor, Commit, Origin, RunEvent, Trigger};
use windlass::run::replay::Selection;
use windlass::store::{Event, Store};

use crate::draft::{ENVIRONMENTS, Whim};
use crate::process::Process;
use crate::random::Random;
use crate::world::World;

/// Somebody who asks.
#[derive(Clone)]
pub struct Person {
    pub world: Arc<World>,
    /// The process that answers now.
    pub process: watch::Receiver<Option<Arc<Process>>>,
}

fn environment(n: usize) -> EnvironmentName {
    ENVIRONMENTS[n].parse().expect("a legal name")
}

impl Person {
    fn actor() -> Actor {
        Actor::unverified("ada")
    }

    /// The process that there is, once there is one.
    async fn process(&mut self) -> Arc<Process> {
        let there = |process: &Option<Arc<Process>>| process.as_ref().is_some_and(|p| !p.life.is_over());
        match self.process.wait_for(there).await.map(|process| process.clone()) {
            Ok(Some(process)) => process,
            _ => std::future::pending().await,
        }
    }

    /// Does what comes to somebody's mind.
    pub async fn follows(mut self, whim: Whim) {
        match whim {
            Whim::Start { pipeline, commit, reference, key } => {
                self.start(pipeline, commit, reference, key).await
            }
            Whim::Cancel { nth } => self.act(nth, |_| Act::Cancel { reason: "a whim".to_owned() }).await,
            Whim::Reject { nth } => {
                let reject = |environment| Act::Reject { environment, reason: "a whim".to_owned() };
                let gate = self.run(nth).and_then(|run| self.gates(&run).into_iter().next());
                if let Some(gate) = gate {
                    self.act(nth, |_| reject(gate.clone())).await;
                }
            }
            Whim::Replay { nth, how } => self.act(nth, |person| person.replay(nth, how)).await,
            Whim::Promote => {
                let runs = self.world.ledger().unfinished();
                for run in runs {
                    for environment in self.gates(&run) {
                        self.ask(&run, Act::Promote { environment }).await;
                    }
                }
            }
            Whim::Lock { environment: n } => {
                let process = self.process().await;
                let (target, actor) = (Target::Environment(environment(n)), Self::actor());
                let _ = process.ask(process.engine.lock(&target, &actor, "a whim")).await;
            }
            Whim::Unlock { environment: n } => self.unlock(n).await,
            Whim::Rollback { pipeline, environment: n } => {
                let service = self.world.scenario.pipelines[pipeline].0.parse().expect("a legal name");
                let fleet = FleetId::new(service, environment(n));
                let process = self.process().await;
                let actor = Self::actor();
                let asked = process.engine.rollback(&fleet, &actor, "a whim");
                if let Some(Ok(run)) = process.ask(asked).await {
                    self.world.tell(|| format!("somebody rolls {fleet} back: {run}"));
                    let _ = process.ask(process.engine.drive(&run)).await;
                }
            }
            Whim::LoseRunner => {
                self.world.tell(|| "the runner is lost".to_owned());
                self.world.machine.is_lost();
            }
            Whim::Jump { seconds } => {
                self.world.tell(|| format!("the clock jumps by {seconds} s"));
                crate::clock::jump(seconds);
            }
            // The simulation does that itself.
            Whim::Kill => {}
        }
    }

    pub async fn unlock(&mut self, n: usize) {
        loop {
            let process = self.process().await;
            let (target, actor) = (Target::Environment(environment(n)), Self::actor());
            let asked = process.engine.unlock(&target, &actor);
            match process.ask(asked).await {
                Some(Ok(()) | Err(Error::NotNow(_))) => return,
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Starts a run, and asks until it is told that there is one: under the same key there is one only.
    async fn start(&mut self, pipeline: usize, commit: u64, reference: Option<&'static str>, key: String) {
        let (name, text) = &self.world.scenario.pipelines[pipeline];
        let commit = Commit {
            sha: format!("{commit:040}").parse().expect("a legal name"),
            branch: "main".to_owned(),
            author: "Eve <eve@example.com>".to_owned(),
            message: "Work".to_owned(),
        };
        let origin = Origin {
            settings_path: Some(self.world.directory.join("windlass.yaml").display().to_string()),
            source: Some("/source".to_owned()),
            commit: Some(commit),
            reference: reference.map(str::to_owned),
            trigger: Trigger::Push { delivery: key.clone() },
            ..Origin::new(text.clone(), "/shop.yaml", Actor::unverified("octocat"))
        };
        let name: windlass::ids::PipelineName = name.parse().expect("a legal name");
        loop {
            let process = self.process().await;
            let asked = process.engine.create(name.clone(), origin.clone(), Some(key.clone()));
            if let Some(Ok(run)) = process.ask(asked).await {
                if !self.world.ledger().runs.contains_key(&run) {
                    self.world.broken(format!("{run} was told to have been created, and there is none"));
                }
                let _ = process.ask(process.engine.drive(&run)).await;
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn run(&self, nth: u64) -> Option<RunId> {
        let ledger = self.world.ledger();
        let count = ledger.runs.len().max(1);
        ledger.runs.keys().nth(nth as usize % count).cloned()
    }

    /// Where the run stands and somebody has to decide.
    pub fn gates(&self, run: &RunId) -> Vec<EnvironmentName> {
        let ledger = self.world.ledger();
        let Some(state) = ledger.runs.get(run).filter(|state| state.cancel.is_none()) else {
            return Vec::new();
        };
        let open = state
            .gates
            .iter()
            .filter(|(_, gate)| gate.undecided().is_some() && gate.stages.iter().any(|i| state.is_ready(*i)));
        open.map(|(environment, _)| environment.clone()).collect()
    }

    fn replay(&self, nth: u64, how: u64) -> Act {
        let mut random = Random::new(how);
        let stage = self.run(nth).and_then(|run| {
            let ledger = self.world.ledger();
            let stages = &ledger.runs.get(&run)?.pipeline.stages;
            Some(random.pick(stages).name.clone())
        });
        let selection = match (random.below(3), stage) {
            (0, _) | (_, None) => Selection::Failed,
            (1, Some(stage)) => Selection::Stage(stage),
            (_, Some(stage)) => Selection::From(stage),
        };
        Act::Replay { selection, edits: Vec::new() }
    }

    async fn act(&mut self, nth: u64, act: impl Fn(&Self) -> Act) {
        if let Some(run) = self.run(nth) {
            let act = act(self);
            self.ask(&run, act).await;
        }
    }

    /// Asks once. What was answered with yes has to be in the journal.
    pub async fn ask(&mut self, run: &RunId, act: Act) {
        let process = self.process().await;
        let since = Timestamp::now();
        let Some(answer) = process.ask(process.engine.act(run, act.clone(), Self::actor())).await else {
            return;
        };
        let said = answer.as_ref().map(|()| "yes".to_owned()).unwrap_or_else(ToString::to_string);
        self.world.tell(|| format!("somebody asks {run} for {act:?}: {said}"));
        if answer.is_err() {
            return;
        }
        let stream = windlass::ids::StreamId::Run(run.clone());
        let recorded = self.world.memory.read(&stream, 0).await.unwrap_or_default();
        let does = |event: &Event| match (event, &act) {
            (Event::Run(RunEvent::CancelRequested { .. }), Act::Cancel { .. }) => true,
            (
                Event::Run(RunEvent::Promoted { environment, .. } | RunEvent::Approved { environment, .. }),
                Act::Promote { environment: asked },
            ) => environment == asked,
            (Event::Run(RunEvent::Rejected { environment, .. }), Act::Reject { environment: asked, .. }) => {
                environment == asked
            }
            (Event::Run(RunEvent::Replayed { .. }), Act::Replay { .. }) => true,
            _ => false,
        };
        if !recorded.iter().any(|recorded| does(&recorded.event)) {
            self.world
                .broken(format!("{act:?} was told to be done to {run} at {since}, and no record says so"));
        }
    }
}

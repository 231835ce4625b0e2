//! What the journals say, folded as they are written; and whether each event may follow what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use windlass::ids::{AttemptId, FleetId, RunId, StepId, StreamId};
use windlass::run::decide::Waits;
use windlass::run::event::{Ending, FleetEvent, RunEvent};
use windlass::run::fleet::FleetState;
use windlass::run::state::{Phase, RunState, StepPhase};
use windlass::run::view;
use windlass::store::{Append, Event, Row};

/// Beyond what a stage says of itself, an attempt that was told to stop may take so long.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Ledger {
    pub runs: BTreeMap<RunId, RunState>,
    pub fleets: BTreeMap<FleetId, FleetState>,
    /// Steps whose intent is recorded, and whether they have ended.
    steps: BTreeMap<StepId, bool>,
    /// Keys of launches whose intent is recorded.
    launches: BTreeSet<String>,
    /// Attempts that were told to stop: until when they have to have ended, in which process.
    stops: BTreeMap<AttemptId, (Duration, u32)>,
}

/// Something that ended, by the word of the journal.
pub enum Ended {
    Attempt { id: AttemptId, forced: bool },
    Run(RunId),
}

/// What came of an append.
#[derive(Default)]
pub struct Taken {
    pub broken: Vec<String>,
    pub ended: Vec<Ended>,
}

impl Ledger {
    pub fn create(&mut self, run: &RunId, at: jiff::Timestamp, event: &RunEvent) -> Result<(), String> {
        if self.runs.contains_key(run) {
            return Err(format!("{run} was created twice"));
        }
        let state = RunState::begin(at, event).map_err(|illegal| format!("{run}: {illegal}"))?;
        self.runs.insert(run.clone(), state);
        Ok(())
    }

    /// Takes in what the store has taken, by the process of that number.
    pub fn take(&mut self, batch: &[Append], now: Duration, process: u32) -> Taken {
        let mut taken = Taken::default();
        for append in batch {
            for (at, event) in &append.events {
                match (&append.stream, event) {
                    (StreamId::Run(run), Event::Run(event)) => {
                        self.take_run(run, *at, event, now, process, &mut taken);
                    }
                    (StreamId::Fleet(fleet), Event::Fleet(event)) => {
                        self.take_fleet(fleet, *at, event, &mut taken)
                    }
                    _ => {}
                }
            }
            if let (StreamId::Run(run), Row::Run(row)) = (&append.stream, &append.row)
                && let Some(state) = self.runs.get(run)
            {
                let status = view::status(state, &Waits::at_gates(state));
                let wrong =
                    row.ended != state.ending.is_some() || (row.ended && row.status != status.as_str());
                if wrong {
                    taken
                        .broken
                        .push(format!("the row of {run} says {}, and its journal {status:?}", row.status));
                }
            }
        }
        taken
    }

    fn take_run(
        &mut self,
        run: &RunId,
        at: jiff::Timestamp,
        event: &RunEvent,
        now: Duration,
        process: u32,
        taken: &mut Taken,
    ) {
        let Some(state) = self.runs.get_mut(run) else {
            return taken.broken.push(format!("{run} goes on and was never created"));
        };
        let attempt = |stage: &windlass::ids::StageName, attempt: u32| AttemptId {
            run: run.clone(),
            stage: stage.clone(),
            attempt,
        };
        if let RunEvent::AttemptStarted { stage, .. } = event {
            let found = state.pipeline.stages.iter().position(|known| known.name == *stage);
            if found.is_some_and(|i| state.stages[i].phase == Phase::Succeeded) {
                taken.broken.push(format!("{run} starts {stage} again, which has succeeded"));
            }
            if state.cancel.is_some() {
                taken.broken.push(format!("{run} starts {stage}, and somebody has cancelled the run"));
            }
            for before in found.iter().flat_map(|i| state.graph.ancestors(*i).iter()) {
                if !state.stages[before].phase.is_final() {
                    let name = &state.pipeline.stages[before].name;
                    taken.broken.push(format!("{run} starts {stage} before {name} has ended"));
                }
            }
        }
        if let Err(illegal) = state.apply(at, event) {
            return taken.broken.push(format!("the journal of {run} cannot be followed: {illegal}"));
        }
        match event {
            RunEvent::StepStarted { stage, attempt: number, step, .. } => {
                self.steps.insert(StepId { attempt: attempt(stage, *number), step: *step }, false);
            }
            RunEvent::StepSucceeded { stage, attempt: number, step, .. }
            | RunEvent::StepFailed { stage, attempt: number, step, .. } => {
                self.steps.insert(StepId { attempt: attempt(stage, *number), step: *step }, true);
            }
            RunEvent::StepNoted { key, value, .. } if key == "launches" => {
                let noted = value.as_array().into_iter().flatten();
                self.launches.extend(noted.filter_map(|launch| Some(launch["key"].as_str()?.to_owned())));
            }
            RunEvent::AttemptSucceeded { stage, attempt: number, .. } => {
                self.attempt_ends(attempt(stage, *number), false, now, process, taken);
            }
            RunEvent::AttemptFailed { stage, attempt: number, failure } => {
                let forced = failure.message.contains("by force");
                self.attempt_ends(attempt(stage, *number), forced, now, process, taken);
            }
            RunEvent::Ended { .. } => taken.ended.push(Ended::Run(run.clone())),
            _ => {}
        }
    }

    fn attempt_ends(&mut self, id: AttemptId, forced: bool, now: Duration, process: u32, taken: &mut Taken) {
        if let Some((until, told_by)) = self.stops.remove(&id)
            && told_by == process
            && now > until + SLACK
        {
            let late = (now - until).as_secs_f64();
            taken.broken.push(format!("{id} ended {late:.1} s later than it had to, told to stop"));
        }
        taken.ended.push(Ended::Attempt { id, forced });
    }

    fn take_fleet(&mut self, fleet: &FleetId, at: jiff::Timestamp, event: &FleetEvent, taken: &mut Taken) {
        let state = self.fleets.entry(fleet.clone()).or_default();
        match event {
            FleetEvent::Held { run, .. } => {
                if let Some(holder) = state.holder.as_ref().filter(|holder| *holder != run) {
                    taken.broken.push(format!("{run} takes {fleet}, which {holder} holds"));
                }
            }
            FleetEvent::RolloutStarted { run, .. } => {
                if state.holder.as_ref() != Some(run) {
                    taken.broken.push(format!("{run} turns {fleet} over and does not hold it"));
                }
                if let Some(other) =
                    state.rollout.as_ref().filter(|other| other.end.is_none() && other.run != *run)
                {
                    taken.broken.push(format!("{run} turns {fleet} over while {} does", other.run));
                }
            }
            FleetEvent::RepairStarted { launches, .. } => {
                self.launches.extend(launches.iter().map(|launch| launch.key.to_string()));
                if state.is_rolling() {
                    taken.broken.push(format!("{fleet} is repaired while it is turned over"));
                }
            }
            _ => {}
        }
        state.apply(at, event);
    }

    /// An attempt was told to stop, and has so long.
    pub fn told_to_stop(&mut self, id: AttemptId, now: Duration, bound: Duration, process: u32) {
        self.stops.entry(id).or_insert((now + bound, process));
    }

    /// Whether a step may be executed now: its intent is recorded, and its end is not.
    pub fn may_execute(&self, step: &StepId) -> Result<(), String> {
        match self.steps.get(step) {
            Some(false) => Ok(()),
            Some(true) => Err(format!("{step} is executed, and its end is recorded already")),
            None => Err(format!("{step} is executed, and its intent is not recorded")),
        }
    }

    /// Whether a launch under this key may be asked for.
    pub fn may_launch(&self, key: &str) -> Result<(), String> {
        match self.launches.contains(key) {
            true => Ok(()),
            false => Err(format!("an instance is launched under {key}, and no record intends that")),
        }
    }

    /// Whether some step of the attempt with this key is under way.
    pub fn is_working(&self, key: &str) -> bool {
        self.steps.iter().any(|(step, ended)| !ended && step.attempt.key().as_str() == key)
    }

    /// How many instances were healthy when the rollout under way began.
    pub fn healthy_at_start(&self, fleet: &FleetId) -> Option<usize> {
        let rollout = self.fleets.get(fleet)?.rollout.as_ref().filter(|rollout| rollout.end.is_none())?;
        let run = self.runs.get(&rollout.run)?;
        let i = run.pipeline.stages.iter().position(|stage| stage.name == rollout.stage)?;
        match &run.stages[i].attempts.get(rollout.attempt as usize - 1)?.steps.first()?.phase {
            StepPhase::Succeeded { result } => Some(result["healthy"].as_u64()? as usize),
            _ => None,
        }
    }

    /// How each run ended, and each of its stages.
    pub fn ends(&self) -> BTreeMap<RunId, (Option<Ending>, Vec<String>)> {
        let stages = |state: &RunState| {
            let stages = state.pipeline.stages.iter().zip(&state.stages);
            stages.map(|(stage, state)| format!("{} {:?}", stage.name, state.phase)).collect()
        };
        self.runs.iter().map(|(run, state)| (run.clone(), (state.ending, stages(state)))).collect()
    }

    pub fn unfinished(&self) -> Vec<RunId> {
        self.runs.iter().filter(|(_, state)| state.ending.is_none()).map(|(run, _)| run.clone()).collect()
    }
}

//! An attempt under way: its steps, its journal, its logs, and whether it has to stop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};

use super::Work;
use crate::cloud::hearing::{self, Hearer};
use crate::ids::{FleetId, StepId};
use crate::log;
use crate::run::decide::Stop;
use crate::run::event::{Failure, FleetEvent, RunEvent};
use crate::run::report::Report;
use crate::run::state::{StepPhase, StepState};

/// Something an attempt wants in the journals: all of it or nothing.
#[derive(Debug)]
pub struct Entry {
    pub events: Vec<RunEvent>,
    pub fleet: Vec<(FleetId, FleetEvent)>,
    /// Answered when it is durable, or cannot be written any more.
    pub done: oneshot::Sender<Result<(), Failure>>,
}

/// The way into the journals; the engine's loop is at the other end.
#[derive(Debug, Clone)]
pub struct Journal(mpsc::UnboundedSender<Box<Entry>>);

impl Journal {
    pub fn new(to: mpsc::UnboundedSender<Box<Entry>>) -> Self {
        Self(to)
    }

    async fn record(&self, events: Vec<RunEvent>, fleet: Vec<(FleetId, FleetEvent)>) -> Result<(), Failure> {
        let gone = || Failure::infrastructure("the engine went away");
        let (done, durable) = oneshot::channel();
        self.0.send(Box::new(Entry { events, fleet, done })).map_err(|_| gone())?;
        durable.await.map_err(|_| gone())?
    }
}

/// An attempt under way.
pub struct Attempt {
    pub work: Arc<Work>,
    /// The data directory.
    pub data: PathBuf,
    journal: Journal,
    stop: watch::Receiver<Option<Stop>>,
    /// Steps that were begun or answered from the journal so far.
    taken: u32,
    /// The success of the last step, on its way: it is written together with what comes next.
    deferred: Vec<RunEvent>,
}

/// What comes next in an attempt; see [`Attempt::next`].
pub enum Next<T> {
    Done(T),
    Do(Box<Step>),
}

/// A step under way.
pub struct Step {
    pub id: StepId,
    /// Notes of an earlier process that was ended in the middle of it.
    notes: std::collections::BTreeMap<String, serde_json::Value>,
    journal: Journal,
    log: Arc<StepLog>,
}

/// The log of a step, which a cloud writes to as well.
struct StepLog {
    step: StepId,
    writer: Mutex<log::Writer>,
}

impl Attempt {
    pub fn new(work: Work, data: &Path, journal: Journal, stop: watch::Receiver<Option<Stop>>) -> Self {
        Self { work: Arc::new(work), data: data.to_owned(), journal, stop, taken: 0, deferred: Vec::new() }
    }

    /// The next step: its result, if the journal knows that it succeeded, or the step to be done,
    /// whose intent is durable when this returns. Hand it to [`Attempt::finish`] when it is done.
    pub async fn next<T: DeserializeOwned>(&mut self, name: &str) -> Result<Next<T>, Failure> {
        if let Some(StepPhase::Succeeded { result }) = self.recorded().map(|step| &step.phase) {
            let result = serde_json::from_value(result.clone()).map_err(|error| {
                Failure::infrastructure(format!("the recorded result of “{name}” cannot be read: {error}"))
            })?;
            self.taken += 1;
            return Ok(Next::Done(result));
        }
        Ok(Next::Do(Box::new(self.begin(name).await?)))
    }

    /// What the journal knows of the next step.
    fn recorded(&self) -> Option<&StepState> {
        self.work.recorded.get(self.taken as usize)
    }

    /// Passes over the next step, if the journal knows that it succeeded.
    pub fn passes_over_success(&mut self) -> bool {
        let succeeded = self.recorded().is_some_and(|step| matches!(step.phase, StepPhase::Succeeded { .. }));
        self.taken += u32::from(succeeded);
        succeeded
    }

    /// Passes over the steps that the journal knows to have ended, and answers the name of the one
    /// that an earlier process left under way.
    pub fn pass_over_ended(&mut self) -> Option<String> {
        while let Some(step) = self.recorded() {
            if step.phase == StepPhase::Running {
                return Some(step.name.clone());
            }
            self.taken += 1;
        }
        None
    }

    /// The step that an earlier process left under way and this one has not come to.
    pub fn left_over(&self) -> Option<StepId> {
        let last = self.work.recorded.len() as u32;
        let running = self.work.recorded.last().is_some_and(|step| step.phase == StepPhase::Running);
        (running && self.taken < last).then(|| StepId { attempt: self.work.id.clone(), step: last })
    }

    /// Begins the next step: its intent is durable when this returns.
    pub async fn begin(&mut self, name: &str) -> Result<Step, Failure> {
        let notes = self.recorded().map(|step| step.notes.clone()).unwrap_or_default();
        let id = self.intend(name).await?;
        let log = log::Writer::open(&log::path(&self.data, &id), [] as [&str; 0]).map_err(|error| {
            Failure::infrastructure(format!("the log of {id} cannot be written: {error}"))
        })?;
        let log = Arc::new(StepLog { step: id.clone(), writer: Mutex::new(log) });
        Ok(Step { id, notes, journal: self.journal.clone(), log })
    }

    /// Ends a step that was begun.
    pub async fn finish<T: Serialize>(
        &mut self,
        mut step: Step,
        done: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Err(failure) = &done {
            step.say(&failure.message);
        }
        let log_bytes = step.log.length();
        let result = done.as_ref().map(|value| serde_json::to_value(value).unwrap_or_default());
        let result = result.map_err(Clone::clone);
        self.ended(&step.id, result, None, log_bytes);
        done
    }

    /// Takes down how a step ended. It is written with what comes next: the next step's intent, or
    /// the end of the attempt.
    pub fn ended(
        &mut self,
        id: &StepId,
        done: Result<serde_json::Value, Failure>,
        exit_code: Option<i32>,
        log_bytes: u64,
    ) {
        let (stage, attempt, step) = (id.attempt.stage.clone(), id.attempt.attempt, id.step);
        self.deferred.push(match done {
            Ok(result) => RunEvent::StepSucceeded { stage, attempt, step, exit_code, log_bytes, result },
            Err(failure) => RunEvent::StepFailed { stage, attempt, step, failure, exit_code, log_bytes },
        });
    }

    /// Records the intent of the next step; durable when this returns. This alone is enough for a
    /// step whose log belongs to the runner.
    pub async fn intend(&mut self, name: &str) -> Result<StepId, Failure> {
        let id = self.next_step();
        if self.recorded().is_none() {
            let mut events = std::mem::take(&mut self.deferred);
            events.push(RunEvent::StepStarted {
                stage: id.attempt.stage.clone(),
                attempt: id.attempt.attempt,
                step: id.step,
                name: name.to_owned(),
            });
            self.journal.record(events, Vec::new()).await?;
        }
        self.taken += 1;
        Ok(id)
    }

    /// Records facts of a fleet, durable when this returns.
    pub async fn record_fleet(&mut self, fleet: &FleetId, event: FleetEvent) -> Result<(), Failure> {
        let events = std::mem::take(&mut self.deferred);
        self.journal.record(events, vec![(fleet.clone(), event)]).await
    }

    /// The step that would be begun next.
    fn next_step(&self) -> StepId {
        StepId { attempt: self.work.id.clone(), step: self.taken + 1 }
    }

    /// Takes down what the attempt's reports say. It is written together with the attempt's end, and so
    /// exactly once.
    pub fn reported(&mut self, report: Report) {
        let id = &self.work.id;
        let (stage, attempt) = (id.stage.clone(), id.attempt);
        self.deferred.push(RunEvent::Reported { stage, attempt, report: Box::new(report) });
    }

    /// Adds a line to the log of the last step, which has ended, unless an earlier process did.
    pub fn add_to_last_log(&mut self, line: &str) {
        let id = StepId { attempt: self.work.id.clone(), step: self.taken };
        match add_line(&log::path(&self.data, &id), line) {
            Err(error) => tracing::warn!(step = %id, %error, "a line of a step's log could not be written"),
            Ok(length) => {
                if let Some(
                    RunEvent::StepSucceeded { log_bytes, .. } | RunEvent::StepFailed { log_bytes, .. },
                ) = self.deferred.last_mut()
                {
                    *log_bytes = length;
                }
            }
        }
    }

    /// What has to be written with the attempt's end.
    pub fn into_deferred(self) -> Vec<RunEvent> {
        self.deferred
    }

    /// Whether the attempt has to stop, and why.
    pub fn stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// A receiver that tells when the attempt has to stop.
    pub fn stop_signal(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.clone()
    }

    /// Fails when the attempt has to stop: for between two effects.
    pub fn check_stop(&self) -> Result<(), Failure> {
        match self.stop() {
            None => Ok(()),
            Some(stop) => Err(stopped(stop)),
        }
    }

    /// Waits for `work`, but gives up when the attempt has to stop. For work that may be dropped at
    /// any moment.
    pub async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        unless_stopped(self.stop.clone(), work).await
    }
}

/// Adds a line to a log that does not end with it, and answers how long the log is then.
fn add_line(path: &Path, line: &str) -> std::io::Result<u64> {
    let line = line.replace(char::is_control, " ");
    let mut writer = log::Writer::open(path, [] as [&str; 0])?;
    if !log::ends_with_line(path, &line)? {
        // The last line of a step may lack its end.
        if writer.length() > 0 && !log::ends_with_line(path, "")? {
            writer.line("")?;
        }
        writer.line(&line)?;
    }
    Ok(writer.length())
}

/// Waits for `work`, but gives up when `stop` says so.
pub async fn unless_stopped<T>(
    mut stop: watch::Receiver<Option<Stop>>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        why = stopping(&mut stop) => Err(stopped(why)),
        done = work => done,
    }
}

/// Returns when the attempt has to stop.
pub async fn stopping(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        // The engine is gone and will say nothing more: this process is about to end.
        _ => std::future::pending().await,
    }
}

/// The failure of what was stopped.
pub fn stopped(stop: Stop) -> Failure {
    use crate::run::event::Cause;
    match stop {
        Stop::Cancelled => Failure::new(Cause::Cancelled, "cancelled"),
        Stop::TimedOut => Failure::new(Cause::Timeout, "stopped at its timeout"),
    }
}

impl StepLog {
    fn length(&self) -> u64 {
        self.writer().length()
    }

    fn writer(&self) -> MutexGuard<'_, log::Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearer for StepLog {
    fn say(&self, line: &str) {
        let now = Timestamp::now();
        // Names and messages come from outside: none of them steers a terminal.
        let line = line.replace(char::is_control, " ");
        if let Err(error) = self.writer().line(format_args!("{now:.3} {line}")) {
            tracing::warn!(step = %self.step, %error, "a line of a step's log could not be written");
        }
    }
}

impl Step {
    /// Writes a line to the step's log, with the time.
    pub fn say(&mut self, line: &str) {
        self.log.say(line);
    }

    /// Does `work`; what a cloud says in it goes to the step's log.
    pub async fn heard<T>(&self, work: impl Future<Output = T>) -> T {
        hearing::heard(self.hearer(), work).await
    }

    /// Whoever writes to the step's log.
    pub fn hearer(&self) -> Arc<dyn Hearer> {
        self.log.clone()
    }

    /// What was noted under `key` in this step, by this process or the one before.
    pub fn noted<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.notes.get(key).and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// Notes a fact that is needed after a crash; durable when this returns.
    pub async fn note<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), Failure> {
        let value = serde_json::to_value(value).unwrap_or_default();
        let event = RunEvent::StepNoted {
            stage: self.id.attempt.stage.clone(),
            attempt: self.id.attempt.attempt,
            step: self.id.step,
            key: key.to_owned(),
            value: value.clone(),
        };
        self.journal.record(vec![event], Vec::new()).await?;
        self.notes.insert(key.to_owned(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_added_once_and_to_no_other_line() {
        let directory = tempfile::tempdir().unwrap();
        for (name, said) in [("cut", "it broke off"), ("whole", "it broke off\n"), ("silent", "")] {
            let log = directory.path().join(name);
            std::fs::write(&log, said).unwrap();
            for _ in 0..2 {
                add_line(&log, "3 tests failed").unwrap();
            }
            let before = said.lines().map(|line| format!("{line}\n")).collect::<String>();
            assert_eq!(std::fs::read_to_string(log).unwrap(), before + "3 tests failed\n");
        }
    }
}

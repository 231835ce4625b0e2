//! PURE. One journal: that its events are all there, are understood, and can be followed; and what it
//! names.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Area, Finding, Judge, RESTORE};
use crate::ids::{Digest, FleetId, ImageId, RunId, StepId, StreamId};
use crate::journal::{fleet_row, run_row};
use crate::run::decide::Waits;
use crate::run::event::{FleetEvent, Outcome, RunEvent};
use crate::run::fleet::FleetState;
use crate::run::state::RunState;
use crate::store::Event;
use crate::store::sqlite::Entry;

/// A clock that is further ahead than any time zone's mistake makes it.
const AHEAD: SignedDuration = SignedDuration::from_hours(25);

/// What a step that uploads an artifact answers, in every version.
#[derive(Deserialize)]
struct Uploaded {
    object: String,
    object_digest: Digest,
}

/// What a bake answers when it has chosen what the image is made of, in every version.
#[derive(Deserialize)]
struct Recipe {
    base: Option<Content>,
    files: Vec<Content>,
}

#[derive(Deserialize)]
struct Content {
    digest: Digest,
}

/// What one attempt of a stage uploaded so far.
#[derive(Default)]
struct Uploads(Vec<((String, u32), Uploaded)>);

impl Judge {
    /// Takes in one journal, whole.
    pub fn journal(&mut self, name: &str, entries: Vec<Entry>) {
        self.looked.events += entries.len() as u64;
        let Ok(stream) = name.parse::<StreamId>() else {
            let problem = "there is no such journal: it names no run, fleet or environment";
            self.found(Finding::error(Area::Journal, name, problem).advice(RESTORE));
            return;
        };
        let (events, whole) = self.readable(name, entries);
        match stream {
            StreamId::Run(run) => self.run(run, events, whole),
            StreamId::Fleet(fleet) => self.fleet(fleet, events, whole),
            StreamId::Environment(_) => {}
        }
    }

    /// The events that are there and are understood, and whether those are all.
    fn readable(&mut self, name: &str, entries: Vec<Entry>) -> (Vec<(Timestamp, Event)>, bool) {
        let latest = self.now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        let mut events = Vec::with_capacity(entries.len());
        let (mut next, mut whole, mut ahead) = (1, true, None);
        for entry in entries {
            let nth = entry.sequence;
            if nth != next {
                let problem = format!("event {next} is missing: the next one there is {nth}");
                self.found(Finding::error(Area::Journal, name, problem).advice(RESTORE));
                whole = false;
            }
            next = nth.saturating_add(1);
            match (entry.at, entry.event) {
                (Ok(at), Ok(event)) => {
                    if at > latest && ahead.is_none() {
                        ahead = Some((nth, at));
                    }
                    events.push((at, event));
                }
                (Err(why), _) | (_, Err(why)) => {
                    let problem = format!("event {nth} cannot be read: {why}");
                    let advice = "use the version of Windlass that wrote it, or restore a backup";
                    self.found(Finding::error(Area::Journal, name, problem).advice(advice));
                    whole = false;
                }
            }
        }
        if let Some((nth, at)) = ahead {
            let problem = format!("event {nth} was recorded at {at:.0}, which is in the future");
            let advice = "the clock was wrong then, or is now; what waits for a time may wait too long";
            self.found(Finding::warning(Area::Journal, name, problem).advice(advice));
        }
        (events, whole)
    }

    fn run(&mut self, id: RunId, events: Vec<(Timestamp, Event)>, whole: bool) {
        self.looked.runs += 1;
        let stream = format!("run:{id}");
        let events: Vec<(Timestamp, RunEvent)> = events
            .into_iter()
            .filter_map(|(at, event)| match event {
                Event::Run(event) => Some((at, event)),
                Event::Fleet(_) | Event::Environment(_) => None,
            })
            .collect();
        self.named_by_run(&id, &events);
        if !whole {
            return drop(self.runs.insert(id, None));
        }
        let state = match RunState::fold(events.iter().map(|(at, event)| (*at, event))) {
            Ok(state) if state.id == id => state,
            Ok(state) => {
                let problem = format!("it begins as the journal of {}", state.id);
                self.found(Finding::error(Area::Journal, stream, problem).advice(RESTORE));
                return drop(self.runs.insert(id, None));
            }
            Err(illegal) => {
                let problem = format!("it cannot be followed: {illegal}");
                self.found(Finding::error(Area::Journal, stream, problem).advice(RESTORE));
                return drop(self.runs.insert(id, None));
            }
        };
        let row = run_row(&state, &Waits::default());
        if !row.ended {
            for i in 0..state.stages.len() {
                if let Some(image) = state.outcome(i).and_then(|outcome| outcome.image.as_ref()) {
                    self.needs.images.entry(image.id.clone()).or_insert_with(|| id.to_string());
                }
            }
        }
        self.runs.insert(id, Some(row));
    }

    fn named_by_run(&mut self, run: &RunId, events: &[(Timestamp, RunEvent)]) {
        let mut uploads = Uploads::default();
        for (_, event) in events {
            match event {
                RunEvent::StepSucceeded { stage, attempt, step, log_bytes, result, .. } => {
                    self.log(run, stage.as_str(), *attempt, *step, *log_bytes);
                    if let Ok(uploaded) = Uploaded::deserialize(result) {
                        uploads.0.push(((stage.to_string(), *attempt), uploaded));
                    }
                    if let Ok(Recipe { base, files }) = Recipe::deserialize(result) {
                        for content in base.into_iter().chain(files) {
                            self.needs.artifacts.entry(content.digest).or_insert_with(|| run.clone());
                        }
                    }
                }
                RunEvent::StepFailed { stage, attempt, step, log_bytes, .. } => {
                    self.log(run, stage.as_str(), *attempt, *step, *log_bytes);
                }
                RunEvent::AttemptSucceeded { stage, attempt, outcome } => {
                    let of = (stage.to_string(), *attempt);
                    let (mine, rest) = uploads.0.into_iter().partition(|(by, _)| *by == of);
                    uploads = Uploads(rest);
                    self.outcome(run, outcome, mine);
                }
                _ => {}
            }
        }
    }

    fn log(&mut self, run: &RunId, stage: &str, attempt: u32, step: u32, bytes: u64) {
        let Ok(stage) = stage.parse() else { return };
        if bytes > 0 {
            let attempt = crate::ids::AttemptId { run: run.clone(), stage, attempt };
            self.needs.logs.insert(StepId { attempt, step }, bytes);
        }
    }

    fn outcome(&mut self, run: &RunId, outcome: &Outcome, uploads: Vec<((String, u32), Uploaded)>) {
        for artifact in &outcome.artifacts {
            self.needs.artifacts.entry(artifact.digest.clone()).or_insert_with(|| run.clone());
        }
        if let Some(image) = &outcome.image {
            self.needs.known_images.insert(image.id.clone());
        }
        // Elsewhere, they are not ours to look at.
        let local = outcome.outputs.get("manifest").is_some_and(|place| place.starts_with("file://"));
        for (_, uploaded) in uploads.into_iter().filter(|_| local) {
            self.needs.objects.insert(uploaded.object, (uploaded.object_digest, run.clone()));
        }
    }

    fn fleet(&mut self, id: FleetId, events: Vec<(Timestamp, Event)>, whole: bool) {
        self.looked.fleets += 1;
        let events: Vec<(Timestamp, FleetEvent)> = events
            .into_iter()
            .filter_map(|(at, event)| match event {
                Event::Fleet(event) => Some((at, event)),
                Event::Run(_) | Event::Environment(_) => None,
            })
            .collect();
        for (_, event) in &events {
            if let FleetEvent::RolloutStarted { image, .. } = event {
                self.needs.known_images.insert(image.id.clone());
            }
        }
        if !whole {
            return drop(self.fleets.insert(id, None));
        }
        let state = FleetState::fold(events.iter().map(|(at, event)| (*at, event)));
        let rolling =
            state.rollout.as_ref().filter(|_| state.is_rolling()).map(|rollout| &rollout.to.image.id);
        let standby = state.held_at(self.now).map(|standby| &standby.image.id);
        let current = state.current.as_ref().map(|current| &current.image.id);
        for image in [current, rolling, standby].into_iter().flatten().cloned().collect::<Vec<ImageId>>() {
            self.needs.images.insert(image, format!("the fleet {id}"));
        }
        let row = fleet_row(&id, events.last().map(|(at, event)| (*at, event)));
        self.fleets.insert(id, Some(row));
    }
}

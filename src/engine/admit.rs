//! How a driver lets its run into environments: gathers the facts for [`admission`], and does what it
//! says.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Error;
use super::drive::Driver;
use super::policy::frozen;
use super::turn::{Draft, illegal};
use crate::ids::{EnvironmentName, FleetId, RunId};
use crate::journal::load_run;
use crate::run::admission::{self, Facts, Verdict};
use crate::run::decide::{Held, WaitKind};
use crate::run::event::{FleetEvent, RunEvent, Trigger};
use crate::run::fleet::FleetState;
use crate::run::lanes::Standing;
use crate::run::state::StepPhase;

impl Driver {
    /// Notes where the run stands, for the others of its pipeline.
    pub(super) fn publish(&self) {
        match self.state.ending {
            Some(_) => self.shared.lanes.remove(&self.run),
            None => {
                let standing = Standing::of(&self.state, &self.places, &self.queued);
                self.shared.lanes.publish(&self.run, standing);
            }
        }
    }

    /// Gives way to a newer run, where that is due.
    pub(super) fn give_way(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Error> {
        let pipeline = &self.run.pipeline;
        let newer = self.shared.lanes.ask(pipeline, |lanes| admission::superseded(&self.state, lanes));
        match newer {
            Some((by, reason)) => self.record(now, RunEvent::Superseded { by, reason }, draft),
            None => Ok(()),
        }
    }

    fn record(&mut self, now: Timestamp, event: RunEvent, draft: &mut Draft) -> Result<(), Error> {
        self.state.apply(now, &event).map_err(|broken| illegal(&self.run, broken))?;
        draft.events.push((now, event));
        Ok(())
    }

    /// Lets the run into the environments that `decide` asks for, or finds out why not. Answers
    /// whether there is more to decide.
    pub(super) async fn enter(
        &mut self,
        now: Timestamp,
        draft: &mut Draft,
        expected: &mut BTreeMap<FleetId, u64>,
    ) -> Result<bool, Error> {
        let mut held = false;
        for (environment, stage) in std::mem::take(&mut draft.decision.enter) {
            let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
            let (verdict, seen) = match self.fleets.contains_key(&fleet) {
                true => (Verdict::Enter, None),
                false => self.verdict(now, &environment, stage).await?,
            };
            self.queued.remove(&environment);
            let name = self.state.pipeline.stages[stage].name.clone();
            let wait = match verdict {
                Verdict::Enter => {
                    self.take(now, &fleet, seen.as_deref(), draft, expected);
                    self.record(now, RunEvent::EnvironmentEntered { environment, stage: name }, draft)?;
                    return Ok(true);
                }
                Verdict::Superseded { by, reason } => {
                    self.record(now, RunEvent::Superseded { by, reason }, draft)?;
                    return Ok(true);
                }
                Verdict::Refuse(failure) => {
                    let attempt = self.state.attempt_number(stage) + 1;
                    self.record(now, RunEvent::AttemptRefused { stage: name, attempt, failure }, draft)?;
                    return Ok(true);
                }
                Verdict::Ask { why, back } => {
                    let mut shipment = self.looked.remove(&environment).unwrap_or_default();
                    shipment.rollback |= back;
                    shipment.note = Some(why);
                    let shipment = Box::new(shipment);
                    self.record(now, RunEvent::GateReached { environment, stage: name, shipment }, draft)?;
                    return Ok(true);
                }
                Verdict::Survey => {
                    let reason = format!("waiting to know whether {environment} runs something newer");
                    draft.survey.push((environment.clone(), stage));
                    Held { kind: WaitKind::Survey, reason, until: None }
                }
                Verdict::Held(holder) => {
                    let reason = self.held_by(&fleet, &holder).await;
                    Held { kind: WaitKind::Gate, reason, until: None }
                }
                Verdict::Wait { reason, until, queued } => {
                    if queued {
                        self.queued.insert(environment.clone());
                    }
                    Held { kind: WaitKind::Gate, reason, until }
                }
            };
            if let Some(place) = self.places.get_mut(&environment) {
                place.held = Some(wait);
                held = true;
            }
        }
        if held {
            // Once more, so that what waits says for whom. It asks for nothing that is held.
            self.decide(now, draft)?;
        }
        Ok(false)
    }

    /// Whether the run may enter, and the fleet as it was when that was found out: what is written on
    /// the strength of it has to follow that very state.
    async fn verdict(
        &self,
        now: Timestamp,
        environment: &EnvironmentName,
        stage: usize,
    ) -> Result<(Verdict, Option<Arc<FleetState>>), Error> {
        let (store, known) = (self.shared.parts.store.as_ref(), &self.shared.known);
        let service = &self.run.pipeline;
        let place = self.places.get(environment);
        let fleet = match place {
            Some(place) if place.has_fleet => {
                let fleet = FleetId::new(service.clone(), environment.clone());
                Some(known.fleet(store, &fleet).await?)
            }
            _ => None,
        };
        let around = known.environment(store, environment).await?;
        let quarantine = match self.state.ancestor_image(stage) {
            Some(image) => known.quarantine(store, service, &image.id).await?,
            None => None,
        };
        let frozen = frozen(&self.settings, environment, now);
        let verdict = self.shared.lanes.ask(service, |lanes| {
            admission::admit(&Facts {
                state: &self.state,
                environment,
                asks: place.map_or(crate::run::decide::Asks::Nothing, |place| place.asks),
                fleet: fleet.as_deref(),
                around: &around,
                frozen: frozen.as_ref(),
                lanes,
                shipment: self.looked.get(environment),
                quarantine: quarantine.as_ref(),
            })
        });
        Ok((verdict, fleet))
    }

    /// Takes hold of the fleet, where there is one. With a rollback's hold goes what it goes back from.
    fn take(
        &mut self,
        now: Timestamp,
        fleet: &FleetId,
        seen: Option<&FleetState>,
        draft: &mut Draft,
        expected: &mut BTreeMap<FleetId, u64>,
    ) {
        let Some(mut state) = seen.cloned() else { return };
        expected.insert(fleet.clone(), state.sequence);
        let mut events = vec![FleetEvent::Held { run: self.run.clone(), service: fleet.service.clone() }];
        if let Trigger::Rollback { from, .. } = &self.state.origin.trigger {
            let name = state.current.as_ref().map_or(from.as_str(), |current| current.image.name.as_str());
            let reason = match self.state.origin.params.get(super::acts::REASON) {
                Some(reason) => format!("{} rolled back from it: {reason}", self.run),
                None => format!("{} rolled back from it", self.run),
            };
            let (image, name, actor) = (from.clone(), name.to_owned(), self.state.origin.actor.clone());
            events.push(FleetEvent::Quarantined { image, name, actor, reason });
        }
        for event in events {
            state.apply(now, &event);
            draft.fleets.entry(fleet.clone()).or_default().push((now, event));
        }
        self.fleets.insert(fleet.clone(), state);
    }

    /// Who holds the fleet, and what they are doing with it.
    async fn held_by(&self, fleet: &FleetId, holder: &RunId) -> String {
        let Ok(state) = load_run(self.shared.parts.store.as_ref(), holder).await else {
            return format!("waiting for {fleet}: {holder} holds it");
        };
        if self.shared.runs().get(holder).is_none() {
            return format!(
                "waiting for {fleet}: {holder} holds it and was interrupted; \
                 windlass resume {holder} carries it on"
            );
        }
        let doing = state.running().find_map(|i| {
            let step = state.stages[i].attempts.last()?.steps.last()?;
            (step.phase == StepPhase::Running).then(|| format!("is at “{}”", step.name))
        });
        let promoted = state.gates.get(&fleet.environment).and_then(|gate| gate.promoted.as_ref());
        let promoted = promoted.map(|(at, actor)| format!(", promoted by {} at {at:.0}", actor.name));
        format!(
            "waiting for {fleet}: {holder} {}{}",
            doing.unwrap_or_else(|| "holds it".to_owned()),
            promoted.unwrap_or_default()
        )
    }
}

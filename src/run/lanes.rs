//! PURE. Where the unfinished runs of one pipeline stand: what a run has to know of the others.
//!
//! A *lane* is all runs of one pipeline and ref. Each answer takes a look or two at a sorted set,
//! however many runs there are; and each change names the few for whom it may change anything: whoever is
//! the first now, and those that give way to what came.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::decide::{Asks, Place};
use super::state::{Gate, Hold, Phase, RunState};
use crate::ids::EnvironmentName;
use crate::pipeline::model::Queue;

/// Where a run stands with an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stand {
    /// It will not come there by itself: its way there failed, or a person has to decide before.
    Away,
    /// It may come there without anybody's help.
    Coming,
    /// At the gate, and nobody has decided.
    AtGate,
    /// At the gate and let through, and one that is ahead of it has not passed.
    Queued,
    /// It would enter if the fleet were free.
    Wants,
    Holds,
    /// It was there.
    Left,
}

impl Stand {
    /// Whether the run is there and not inside.
    pub fn waits(self) -> bool {
        matches!(self, Self::AtGate | Self::Queued | Self::Wants)
    }
}

/// Where a run gives way to a newer one of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Yields {
    #[default]
    Nowhere,
    /// Where it waits for an environment, to one that came there.
    AtGates,
    /// Nothing of it has started: to any that came.
    Anywhere,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub reference: Option<String>,
    /// Takes a fleet back, and goes before the others.
    pub rollback: bool,
    pub yields: Yields,
    pub places: BTreeMap<EnvironmentName, Stand>,
}

impl Standing {
    /// Reads it off a run. `queued` are the environments where one that is ahead has not passed.
    pub fn of(
        state: &RunState,
        places: &BTreeMap<EnvironmentName, Place>,
        queued: &BTreeSet<EnvironmentName>,
    ) -> Self {
        let stand = |environment: &EnvironmentName| {
            let Some(gate) = state.gates.get(environment) else { return Stand::Away };
            let asks = places.get(environment).is_some_and(|place| place.asks == Asks::Promotion);
            let ready = || gate.stages.iter().any(|i| state.is_ready(*i));
            let over = gate.rejected.is_some() || state.cancel.is_some() || state.superseded.is_some();
            match gate.hold {
                Hold::Held => Stand::Holds,
                Hold::Left => Stand::Left,
                Hold::NotYet if over => Stand::Away,
                Hold::NotYet if gate.undecided().is_some() && ready() => Stand::AtGate,
                Hold::NotYet if gate.promoted.is_none() && asks => Stand::Away,
                Hold::NotYet if queued.contains(environment) && ready() => Stand::Queued,
                Hold::NotYet if ready() => Stand::Wants,
                Hold::NotYet if gate.stages.iter().any(|i| comes_by_itself(state, places, *i)) => {
                    Stand::Coming
                }
                Hold::NotYet => Stand::Away,
            }
        };
        Self {
            reference: state.origin.reference.clone(),
            rollback: state.rolls_back_from().is_some(),
            yields: yields(state),
            places: state.gates.keys().map(|name| (name.clone(), stand(name))).collect(),
        }
    }
}

/// The same conditions as in [`super::admission::superseded`], as far as they last.
fn yields(state: &RunState) -> Yields {
    let over = state.ending.is_some() || state.cancel.is_some() || state.superseded.is_some();
    let wanted = !state.replays.is_empty() || state.rolls_back_from().is_some();
    match state.pipeline.queue {
        _ if over || wanted || state.origin.reference.is_none() => Yields::Nowhere,
        Queue::Every => Yields::Nowhere,
        Queue::Newest if state.has_started() => Yields::AtGates,
        Queue::Newest => Yields::Anywhere,
    }
}

/// Whether nothing on the stage's way failed, and nobody has to decide on it.
fn comes_by_itself(state: &RunState, places: &BTreeMap<EnvironmentName, Place>, i: usize) -> bool {
    let ancestors = state.graph.ancestors(i);
    let on_the_way = |stage: usize| stage == i || ancestors.contains(stage);
    let waits_for_a_person = |environment: &EnvironmentName, gate: &Gate| {
        let asks =
            places.get(environment).map(|place| place.asks == Asks::Promotion || gate.needs_a_person());
        asks == Some(true) && gate.promoted.is_none() && gate.hold == Hold::NotYet
    };
    // As long as all is well there is nothing to follow: this is asked after every event.
    let asked = state.gates.iter().filter(|(environment, gate)| waits_for_a_person(environment, gate));
    if !state.unwell().any(on_the_way)
        && !asked.flat_map(|(_, gate)| &gate.stages).any(|stage| on_the_way(*stage))
    {
        return true;
    }
    let mut blocked = vec![false; state.stages.len()];
    for stage in state.graph.order().iter().copied().filter(|stage| on_the_way(*stage)) {
        let phase = &state.stages[stage].phase;
        let (model, _) = state.stage(stage);
        let gate = model
            .environment
            .as_ref()
            .and_then(|environment| Some(waits_for_a_person(environment, state.gates.get(environment)?)));
        blocked[stage] = match phase {
            Phase::Succeeded => false,
            phase if phase.is_final() => true,
            _ if gate == Some(true) => true,
            _ => model.condition.is_none() && state.graph.needs(stage).iter().any(|need| blocked[*need]),
        };
    }
    !blocked[i]
}

/// The unfinished runs of one pipeline, by number.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    runs: BTreeMap<u64, Standing>,
    lanes: HashMap<String, Lane>,
    /// Those that would enter if the fleet were free: rollbacks first, then by number.
    wants: BTreeMap<EnvironmentName, BTreeSet<(Order, u64)>>,
}

/// Rollbacks come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Rollback,
    Usual,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    runs: BTreeSet<u64>,
    /// By environment: runs that are or were at its gate.
    reached: BTreeMap<EnvironmentName, BTreeSet<u64>>,
    /// By environment: runs that were let through its gate.
    admitted: BTreeMap<EnvironmentName, BTreeSet<u64>>,
    /// By environment: runs that may still come there by themselves.
    coming: BTreeMap<EnvironmentName, BTreeSet<u64>>,
    /// By environment: runs that wait there, and give way.
    yielding: BTreeMap<EnvironmentName, BTreeSet<u64>>,
    /// Runs that give way wherever they are.
    idle: BTreeSet<u64>,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Anything is another way now.
    pub new: bool,
    /// Runs that should look again, also the one that changed.
    pub concerned: BTreeSet<u64>,
}

impl Lanes {
    /// Notes where a run stands now.
    pub fn publish(&mut self, number: u64, standing: Standing) -> Change {
        if self.runs.get(&number) == Some(&standing) {
            return Change::default();
        }
        self.change(number, Some(standing))
    }

    /// A run has ended, or nobody drives it any more.
    pub fn remove(&mut self, number: u64) -> Change {
        match self.runs.contains_key(&number) {
            true => self.change(number, None),
            false => Change::default(),
        }
    }

    fn change(&mut self, number: u64, new: Option<Standing>) -> Change {
        let places: BTreeSet<(Option<String>, EnvironmentName)> = self
            .runs
            .get(&number)
            .iter()
            .copied()
            .chain(&new)
            .flat_map(|run| run.places.keys().map(|place| (run.reference.clone(), place.clone())))
            .collect();
        let heads = |lanes: &Self| -> Vec<Heads> {
            places.iter().map(|(reference, place)| lanes.heads(reference.as_deref(), place)).collect()
        };
        let lane_of = |run: &Standing| self.lanes.get(run.reference.as_ref()?);
        let comes =
            new.as_ref().is_some_and(|new| lane_of(new).is_none_or(|lane| !lane.runs.contains(&number)));
        let before = heads(self);
        self.take_out(number);
        if let Some(new) = new {
            self.put_in(number, new);
        }
        let mut concerned = BTreeSet::new();
        for ((reference, place), (was, is)) in places.iter().zip(before.into_iter().zip(heads(self))) {
            // Whoever is the first now.
            for (was, is) in [(was.wants, is.wants), (was.coming, is.coming)] {
                concerned.extend(is.filter(|_| is != was));
            }
            let lane = reference.as_ref().and_then(|reference| self.lanes.get(reference));
            let Some(yielding) = lane.and_then(|lane| lane.yielding.get(place)) else { continue };
            // Whoever gives way to what came further; also the one that came to wait behind it.
            for (was, is) in [(was.reached, is.reached), (was.admitted, is.admitted)] {
                if let Some(newest) = is.filter(|_| is > was) {
                    concerned.extend(yielding.range(..newest));
                }
            }
            if is.reached > Some(number) && yielding.contains(&number) {
                concerned.insert(number);
            }
        }
        let lane = self.runs.get(&number).and_then(|run| self.lanes.get(run.reference.as_ref()?));
        if let Some(lane) = lane.filter(|lane| comes && lane.runs.last() == Some(&number)) {
            concerned.extend(lane.idle.range(..number));
        }
        Change { new: true, concerned }
    }

    fn heads(&self, reference: Option<&str>, environment: &EnvironmentName) -> Heads {
        let lane = reference.and_then(|reference| self.lanes.get(reference));
        let last = |sets: &Sets| sets.get(environment)?.last().copied();
        Heads {
            wants: self.wants.get(environment).and_then(|wants| wants.first()).map(|(_, first)| *first),
            coming: lane.and_then(|lane| lane.coming.get(environment)?.first().copied()),
            reached: lane.and_then(|lane| last(&lane.reached)),
            admitted: lane.and_then(|lane| last(&lane.admitted)),
        }
    }

    fn put_in(&mut self, number: u64, standing: Standing) {
        let order = if standing.rollback { Order::Rollback } else { Order::Usual };
        for (environment, stand) in &standing.places {
            if *stand == Stand::Wants {
                self.wants.entry(environment.clone()).or_default().insert((order, number));
            }
        }
        if let Some(reference) = &standing.reference {
            let lane = self.lanes.entry(reference.clone()).or_default();
            lane.runs.insert(number);
            if standing.yields == Yields::Anywhere {
                lane.idle.insert(number);
            }
            for (environment, stand) in &standing.places {
                for (set, belongs) in lane.sets(*stand, standing.yields) {
                    if belongs {
                        set.entry(environment.clone()).or_default().insert(number);
                    }
                }
            }
        }
        self.runs.insert(number, standing);
    }

    fn take_out(&mut self, number: u64) {
        let Some(old) = self.runs.remove(&number) else { return };
        let order = if old.rollback { Order::Rollback } else { Order::Usual };
        for wants in self.wants.values_mut() {
            wants.remove(&(order, number));
        }
        let Some(reference) = old.reference else { return };
        if let Some(lane) = self.lanes.get_mut(&reference) {
            lane.runs.remove(&number);
            lane.idle.remove(&number);
            for set in [&mut lane.reached, &mut lane.admitted, &mut lane.coming, &mut lane.yielding] {
                for runs in set.values_mut() {
                    runs.remove(&number);
                }
            }
            if lane.runs.is_empty() {
                self.lanes.remove(&reference);
            }
        }
    }

    /// Who takes the environment's fleet once it is free.
    pub fn next(&self, environment: &EnvironmentName) -> Option<u64> {
        Some(self.wants.get(environment)?.first()?.1)
    }

    /// Whether the run waits, and for nobody who is before it: what it waits for is elsewhere.
    pub fn leads(&self, number: u64) -> bool {
        let Some(standing) = self.runs.get(&number) else { return false };
        let reference = standing.reference.as_deref();
        standing.places.iter().filter(|(_, stand)| stand.waits()).any(|(environment, _)| {
            let heads = self.heads(reference, environment);
            heads.wants == Some(number) || heads.coming == Some(number)
        })
    }

    /// The runs, by number.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &Standing)> {
        self.runs.iter().map(|(number, standing)| (*number, standing))
    }

    pub fn standing(&self, number: u64) -> Option<&Standing> {
        self.runs.get(&number)
    }

    /// The newest run of the ref that came after `number`.
    pub fn newer(&self, reference: &str, number: u64) -> Option<u64> {
        self.lanes.get(reference)?.runs.last().copied().filter(|newest| *newest > number)
    }

    /// The newest run of the ref after `number` that is or was at the environment's gate.
    pub fn newer_at(&self, reference: &str, number: u64, environment: &EnvironmentName) -> Option<u64> {
        let reached = self.lanes.get(reference)?.reached.get(environment)?;
        reached.last().copied().filter(|newest| *newest > number)
    }

    /// The same, of those that were let through.
    pub fn newer_admitted(&self, reference: &str, number: u64, environment: &EnvironmentName) -> Option<u64> {
        let admitted = self.lanes.get(reference)?.admitted.get(environment)?;
        admitted.last().copied().filter(|newest| *newest > number)
    }

    /// The first run of the ref before `number` that may still come to the environment by itself.
    pub fn ahead(&self, reference: &str, number: u64, environment: &EnvironmentName) -> Option<u64> {
        let coming = self.lanes.get(reference)?.coming.get(environment)?;
        coming.first().copied().filter(|first| *first < number)
    }

    /// Who else takes the environment's fleet before the run does, once it is free.
    pub fn goes_before(&self, rollback: bool, number: u64, environment: &EnvironmentName) -> Option<u64> {
        let order = if rollback { Order::Rollback } else { Order::Usual };
        let first = self.wants.get(environment)?.first()?;
        (*first < (order, number)).then_some(first.1)
    }
}

type Sets = BTreeMap<EnvironmentName, BTreeSet<u64>>;

/// The ends of the sets for one environment and lane.
#[derive(Debug, Clone, Copy)]
struct Heads {
    wants: Option<u64>,
    coming: Option<u64>,
    reached: Option<u64>,
    admitted: Option<u64>,
}

impl Lane {
    /// Which sets a run that stands so belongs to.
    fn sets(&mut self, stand: Stand, yields: Yields) -> [(&mut Sets, bool); 4] {
        let reached = stand >= Stand::AtGate;
        let admitted = stand >= Stand::Queued;
        let coming = matches!(stand, Stand::Coming | Stand::Queued | Stand::Wants);
        let yielding = stand.waits() && yields != Yields::Nowhere;
        [
            (&mut self.reached, reached),
            (&mut self.admitted, admitted),
            (&mut self.coming, coming),
            (&mut self.yielding, yielding),
        ]
    }
}

#[cfg(test)]
mod tests;

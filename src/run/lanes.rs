//! PURE. Where the unfinished runs of one pipeline stand: what a run has to know of the others.
//!
//! A *lane* is all runs of one pipeline and ref. Each answer takes a look or two at a sorted set,
//! however many runs there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::decide::{Asks, Place};
use super::state::{Hold, Phase, RunState};
use crate::ids::EnvironmentName;

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

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    pub reference: Option<String>,
    /// Takes a fleet back, and goes before the others.
    pub rollback: bool,
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
            let ready = gate.stages.iter().any(|i| state.is_ready(*i));
            let over = gate.rejected.is_some() || state.cancel.is_some() || state.superseded.is_some();
            match gate.hold {
                Hold::Held => Stand::Holds,
                Hold::Left => Stand::Left,
                Hold::NotYet if over => Stand::Away,
                Hold::NotYet if ready && gate.undecided().is_some() => Stand::AtGate,
                Hold::NotYet if gate.promoted.is_none() && asks => Stand::Away,
                Hold::NotYet if ready && queued.contains(environment) => Stand::Queued,
                Hold::NotYet if ready => Stand::Wants,
                Hold::NotYet if gate.stages.iter().any(|i| comes_by_itself(state, places, *i)) => {
                    Stand::Coming
                }
                Hold::NotYet => Stand::Away,
            }
        };
        Self {
            reference: state.origin.reference.clone(),
            rollback: state.rolls_back_from().is_some(),
            places: state.gates.keys().map(|name| (name.clone(), stand(name))).collect(),
        }
    }
}

/// Whether nothing on the stage's way failed, and nobody has to decide on it.
fn comes_by_itself(state: &RunState, places: &BTreeMap<EnvironmentName, Place>, i: usize) -> bool {
    let mut blocked = vec![false; state.stages.len()];
    let ancestors = state.graph.ancestors(i);
    for stage in state.graph.order().iter().copied().filter(|s| *s == i || ancestors.contains(*s)) {
        let phase = &state.stages[stage].phase;
        let (model, _) = state.stage(stage);
        let gate = model.environment.as_ref().and_then(|environment| {
            let place = places.get(environment)?;
            let gate = state.gates.get(environment)?;
            let asks = place.asks == Asks::Promotion || gate.needs_a_person();
            Some(asks && gate.promoted.is_none() && gate.hold == Hold::NotYet)
        });
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
}

impl Lanes {
    /// Notes where a run stands now. Answers whether that is new.
    pub fn publish(&mut self, number: u64, standing: Standing) -> bool {
        if self.runs.get(&number) == Some(&standing) {
            return false;
        }
        self.remove(number);
        let order = if standing.rollback { Order::Rollback } else { Order::Usual };
        for (environment, stand) in &standing.places {
            if *stand == Stand::Wants {
                self.wants.entry(environment.clone()).or_default().insert((order, number));
            }
        }
        if let Some(reference) = &standing.reference {
            let lane = self.lanes.entry(reference.clone()).or_default();
            lane.runs.insert(number);
            for (environment, stand) in &standing.places {
                for (set, belongs) in lane.sets(*stand) {
                    if belongs {
                        set.entry(environment.clone()).or_default().insert(number);
                    }
                }
            }
        }
        self.runs.insert(number, standing);
        true
    }

    /// A run has ended, or nobody drives it any more. Answers whether it was known.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(old) = self.runs.remove(&number) else { return false };
        let order = if old.rollback { Order::Rollback } else { Order::Usual };
        for wants in self.wants.values_mut() {
            wants.remove(&(order, number));
        }
        let Some(reference) = old.reference else { return true };
        if let Some(lane) = self.lanes.get_mut(&reference) {
            lane.runs.remove(&number);
            for set in [&mut lane.reached, &mut lane.admitted, &mut lane.coming] {
                for runs in set.values_mut() {
                    runs.remove(&number);
                }
            }
            if lane.runs.is_empty() {
                self.lanes.remove(&reference);
            }
        }
        true
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

impl Lane {
    /// Which sets a run that stands so belongs to.
    fn sets(&mut self, stand: Stand) -> [(&mut Sets, bool); 3] {
        let reached = stand >= Stand::AtGate;
        let admitted = stand >= Stand::Queued;
        let coming = matches!(stand, Stand::Coming | Stand::Queued | Stand::Wants);
        [(&mut self.reached, reached), (&mut self.admitted, admitted), (&mut self.coming, coming)]
    }
}

#[cfg(test)]
mod tests;

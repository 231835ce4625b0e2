//! PURE. Which instances a fleet's journal does not explain.

use super::{Health, Judge, Run, Sentence, ends, stays, unknown};
use crate::cloud::inventory::Thing;
use crate::ids::RunId;

impl Judge<'_> {
    /// Whether the journal of its fleet knows what the instance runs: whoever keeps a fleet alive
    /// launches also long after the run has ended.
    pub(super) fn is_of_fleet(&self, thing: &Thing) -> bool {
        let fleet = thing.fleet.as_ref().and_then(|fleet| self.facts.fleets.get(fleet));
        let known = fleet.zip(thing.release.as_ref());
        known.is_some_and(|(fleet, release)| fleet.releases.contains(release))
    }

    /// An instance goes when its fleet's journal has no use for it, and the fleet is whole without it:
    /// nothing here lowers what serves.
    pub(super) fn instance(&self, thing: &Thing, id: &RunId, run: &Run) -> Sentence {
        if let Some(keeper) = &thing.keeper {
            return stays(format!("{keeper} looks after it"));
        }
        let Some(name) = &thing.fleet else { return unknown("it does not say which fleet it is of") };
        let Some(fleet) = self.facts.fleets.get(name) else {
            return unknown(format!("{name} has no journal here: it may be of another data directory"));
        };
        let Some(release) = &thing.release else { return unknown("it does not say what it runs") };
        if run.ended_at.is_none() {
            return stays(format!("{id} has not ended"));
        }
        if let Some(busy) = &fleet.busy {
            return stays(busy.clone());
        }
        if fleet.standby.as_ref().is_some_and(|standby| standby.release == *release) {
            return stays(format!("it stands by for {name}"));
        }
        let Some(current) = &fleet.current else {
            return ends(format!("{name} runs nothing: it was taken down, or nothing ever went in"));
        };
        if current.release == *release {
            return stays(format!("it is what {name} runs"));
        }
        match fleet.health {
            Health::Serving { healthy, size } if healthy >= size => {
                ends(format!("{name} runs {}, and is whole without it", current.image))
            }
            Health::Serving { healthy, size } => stays(format!(
                "{name} is not whole, {healthy} of {size} serve: windlass serve sees to that first"
            )),
            Health::Unknown => stays(format!("it cannot be seen whether {name} is whole without it")),
        }
    }
}

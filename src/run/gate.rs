//! PURE. At the gate of an environment: for whom a run waits there, and who decided before it came.

use super::decide::{Asks, Place, Wait, WaitKind};
use super::event::Actor;
use super::state::{Gate, RunState};
use crate::ids::EnvironmentName;

/// `place` is `None` for whoever does not know the settings.
pub(super) fn wait_for_promotion(
    state: &RunState,
    environment: &EnvironmentName,
    place: Option<&Place>,
) -> Wait {
    let gate = state.gates.get(environment);
    let given = gate.map_or(0, |gate| gate.approvals.len());
    let who = match place.map_or(1, |place| place.rules.count as usize) {
        count @ 2.. => format!("{} more of {count} people", count.saturating_sub(given)),
        _ => "somebody".to_owned(),
    };
    let mut reason = format!(
        "waiting for {who} to promote it to {environment}: windlass promote {} {environment}",
        state.id
    );
    if place.is_some_and(|place| !place.rules.automation) && state.origin.promote.covers(environment) {
        reason
            .push_str("; the settings want people to decide there, so a command line's word does not count");
    }
    if let (Some(Place { asks: Asks::Nothing, .. }), Some(why)) =
        (place, gate.and_then(Gate::undecided).and_then(|ships| ships.note.as_ref()))
    {
        reason.push_str(&format!(" ({why})"));
    }
    Wait { kind: WaitKind::Gate, reason }
}

/// Who decided on the environment before the run came there, so that nobody is waited for.
pub(super) fn decided_beforehand(
    state: &RunState,
    environment: &EnvironmentName,
    place: &Place,
) -> Option<Actor> {
    if state.rolls_back_from().is_some() {
        return Some(state.origin.actor.clone());
    }
    // What was decided beforehand was one rollout: a replay of it needs another word.
    let shipped = state.gates.get(environment).is_some_and(|gate| gate.shipped);
    let covered = place.rules.automation && state.origin.promote.covers(environment) && !shipped;
    covered.then(Actor::command_line_policy)
}

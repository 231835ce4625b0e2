//! All at once: the new members stand by until every one of them is healthy, and one switch turns the
//! traffic over.
//!
//! Read off one observation, like the rest:
//!
//! 1. Launch what is missing, all of it; what runs is registered to stand by. The old members serve.
//! 2. When as many as there are to be are healthy: the switch. It is one act, so that there is no
//!    moment at which nobody serves, or some of both.
//! 3. Whoever stood by before this rollout and is in nobody's way back goes; after the switch the old
//!    members too, unless they are held.
//!
//! Where there is nothing to switch from (the first rollout, or the release that is there already) it is
//! a rollout by batches. So is the way back, after one more switch where old members stand by.

use std::time::Duration;

use jiff::Timestamp;

use super::plan::{by_batches, deadline};
use super::words::{self, Way};
use super::{
    Check, Desired, Direction, End, Life, Member, Move, Observed, Operation, Phase, Progress, Rolling,
    Traffic,
};

/// The next move towards `desired`, seeing `observed`.
pub(super) fn plan(observed: &Observed, desired: &Desired, hold: Duration) -> Move {
    let whole = Rolling { batch: desired.size.max(1), surge: desired.size.max(1), floor: desired.size };
    match (&desired.source, &desired.direction) {
        (None, _) => by_batches(observed, desired, &whole),
        (Some(source), _) if *source == desired.target => {
            by_batches(observed, desired, &Rolling { batch: 1, surge: 1, floor: desired.size })
        }
        (Some(_), Direction::Forward) => Forward::new(observed, desired, hold).plan(),
        (Some(_), Direction::Back { .. }) => {
            switch_back(observed, desired).unwrap_or_else(|| by_batches(observed, desired, &whole))
        }
    }
}

/// What a member is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ended,
    Drained,
    Leaving,
    /// Not healthy, and its time to become so is over.
    Sick,
    Coming,
    /// Healthy, and stands by.
    Waiting,
    Serving,
}

impl Standing {
    fn is_ready(self) -> bool {
        self >= Self::Waiting
    }
}

fn standing(member: &Member, now: Timestamp, desired: &Desired) -> Standing {
    let late = now >= deadline(member, desired);
    match (&member.life, &member.traffic) {
        (Life::Failed(_), _) => Standing::Ended,
        (_, Traffic::Drained) => Standing::Drained,
        (_, Traffic::Draining { .. }) => Standing::Leaving,
        (_, Traffic::Healthy) => Standing::Serving,
        (_, Traffic::Standby(Check::Healthy)) => Standing::Waiting,
        // As in a rollout by batches: what was never checked has nothing held against it.
        (Life::Running, Traffic::Unregistered | Traffic::Initial | Traffic::Standby(Check::Initial)) => {
            Standing::Coming
        }
        _ if late => Standing::Sick,
        _ => Standing::Coming,
    }
}

/// Whether the balancer would send it requests.
fn is_in_service(member: &Member) -> bool {
    matches!(member.traffic, Traffic::Initial | Traffic::Healthy | Traffic::Unhealthy(_))
        && !matches!(member.life, Life::Failed(_))
}

/// The one operation by which a member that serves nobody goes.
fn dismiss(member: &Member) -> Operation {
    let id = member.id.clone();
    match member.traffic {
        Traffic::Unregistered => Operation::Terminate { id },
        _ => Operation::Drain { id },
    }
}

struct Forward<'a> {
    /// Of the target, the most useful first, the oldest first among equals.
    ours: Vec<(&'a Member, Standing)>,
    others: Vec<(&'a Member, Standing)>,
    desired: &'a Desired,
    size: usize,
    now: Timestamp,
    hold: Duration,
}

impl<'a> Forward<'a> {
    fn new(observed: &'a Observed, desired: &'a Desired, hold: Duration) -> Self {
        let stand = |member: &'a Member| (member, standing(member, observed.now, desired));
        let (mut ours, others): (Vec<_>, Vec<_>) =
            observed.members.iter().map(stand).partition(|(member, _)| member.release == desired.target);
        ours.sort_by_key(|(member, standing)| (std::cmp::Reverse(*standing), member.launched_at, &member.id));
        Self { ours, others, desired, size: desired.size as usize, now: observed.now, hold }
    }

    fn plan(&self) -> Move {
        if let Some(reason) = self.failure() {
            return Move::TurnBack { reason };
        }
        let mut operations = self.over();
        let (phase, due) = match self.switch() {
            // Alone: what it says is true of this observation.
            Some(switch) => (Phase::Switch, vec![switch]),
            None if self.switched() => (Phase::End, [self.surplus(), self.old()].concat()),
            None => (Phase::BringUp, [self.bring_up(), self.surplus(), self.leftovers()].concat()),
        };
        operations.extend(due);
        let progress = self.progress(phase);
        if !operations.is_empty() {
            return Move::Act { operations, progress };
        }
        if self.switched() && self.others.iter().all(|(member, _)| self.is_held(member)) && self.is_alone() {
            return Move::Done(End::Completed);
        }
        let of = |wanted: Standing, members: &[(&'a Member, Standing)]| -> Vec<&'a Member> {
            members.iter().filter(|(_, standing)| *standing == wanted).map(|(member, _)| *member).collect()
        };
        let leaving = [of(Standing::Leaving, &self.ours), of(Standing::Leaving, &self.others)].concat();
        match words::awaited(Way::Forward, &of(Standing::Coming, &self.ours), &leaving) {
            Some(reason) => Move::Wait { reason, until: self.patience_ends(), progress },
            None => {
                let ready: Vec<_> = self.ready().collect();
                let sick = of(Standing::Sick, &self.ours);
                Move::TurnBack { reason: words::stranded(&ready, &sick, self.size) }
            }
        }
    }

    /// A member that this rollout launched and that came to nothing.
    fn failure(&self) -> Option<String> {
        let failed = self.ours.iter().find(|(member, standing)| {
            let ending = matches!(member.traffic, Traffic::Draining { .. } | Traffic::Drained);
            member.launched_at >= self.desired.started_at
                && !ending
                && matches!(standing, Standing::Ended | Standing::Sick)
        });
        failed.map(|(member, _)| words::failed(member, self.desired.patience))
    }

    fn ready(&self) -> impl Iterator<Item = &'a Member> {
        self.ours.iter().filter(|(_, standing)| standing.is_ready()).map(|(member, _)| *member)
    }

    /// Those that are to serve: as many as there are to be, once they are ready.
    fn chosen(&self) -> Option<Vec<&'a Member>> {
        let chosen: Vec<_> = self.ready().take(self.size).collect();
        (chosen.len() == self.size && self.size > 0).then_some(chosen)
    }

    /// Whether exactly the chosen serve.
    fn switched(&self) -> bool {
        self.chosen().is_some_and(|chosen| {
            let is_chosen = |member: &Member| chosen.iter().any(|one| one.id == member.id);
            let all = self.ours.iter().chain(&self.others);
            chosen.iter().all(|member| is_in_service(member))
                && all.map(|(member, _)| *member).all(|member| is_chosen(member) || !is_in_service(member))
        })
    }

    /// Rule 2.
    fn switch(&self) -> Option<Operation> {
        let chosen = self.chosen().filter(|_| !self.switched())?;
        Some(Operation::Switch { to: chosen.iter().map(|member| member.id.clone()).collect() })
    }

    /// Rule 1.
    fn bring_up(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let surplus = self.surplus();
        for (member, standing) in &self.ours {
            if surplus.contains(&dismiss(member)) {
                continue;
            }
            let id = member.id.clone();
            match (standing, &member.life, &member.traffic) {
                (Standing::Coming, Life::Running, Traffic::Unregistered) => {
                    operations.push(Operation::StandBy { id });
                }
                // From before this rollout: another one takes its place, and nothing is held against
                // the release.
                (Standing::Sick, _, _) => operations.push(dismiss(member)),
                _ => {}
            }
        }
        let there = self.ours.iter().filter(|(_, standing)| *standing >= Standing::Coming).count();
        if let count @ 1.. = self.size.saturating_sub(there) {
            operations.push(Operation::Launch { release: self.desired.target.clone(), count: count as u32 });
        }
        operations
    }

    /// What ended by itself, or has drained.
    fn over(&self) -> Vec<Operation> {
        let all = self.ours.iter().chain(&self.others);
        let over = all.filter(|(_, standing)| *standing <= Standing::Drained);
        over.map(|(member, _)| Operation::Terminate { id: member.id.clone() }).collect()
    }

    /// More than enough of our own: those that are the least use, and serve nobody.
    fn surplus(&self) -> Vec<Operation> {
        let there = self.ours.iter().filter(|(_, standing)| *standing >= Standing::Coming);
        let surplus = there.skip(self.size).filter(|(member, _)| !is_in_service(member));
        surplus.map(|(member, _)| dismiss(member)).collect()
    }

    /// Rule 3 before the switch: of neither release, and serving nobody.
    fn leftovers(&self) -> Vec<Operation> {
        let source = self.desired.source.as_ref();
        let idle = self.others.iter().filter(|(member, standing)| {
            *standing >= Standing::Sick && !is_in_service(member) && Some(&member.release) != source
        });
        idle.map(|(member, _)| dismiss(member)).collect()
    }

    /// Rule 3 after the switch.
    fn old(&self) -> Vec<Operation> {
        let there = self.others.iter().filter(|(_, standing)| *standing >= Standing::Sick);
        there.filter(|(member, _)| !self.is_held(member)).map(|(member, _)| dismiss(member)).collect()
    }

    fn is_held(&self, member: &Member) -> bool {
        !self.hold.is_zero()
            && Some(&member.release) == self.desired.source.as_ref()
            && member.life == Life::Running
            && matches!(member.traffic, Traffic::Standby(_))
    }

    /// Whether no others of our own are there than those that serve.
    fn is_alone(&self) -> bool {
        self.ours.len() == self.size
    }

    fn progress(&self, phase: Phase) -> Progress {
        let batch = match phase {
            Phase::Batch | Phase::BringUp => 1,
            Phase::Switch => 2,
            Phase::End => 3,
        };
        let (ready, remaining) = (self.ready().count() as u32, self.others.len() as u32);
        Progress { phase, batch, batches: 3, ready, remaining }
    }

    fn patience_ends(&self) -> Option<Timestamp> {
        let coming = self.ours.iter().filter(|(_, standing)| *standing == Standing::Coming);
        coming.map(|(m, _)| deadline(m, self.desired)).filter(|deadline| *deadline > self.now).min()
    }
}

/// On the way back, old members that stand by serve again: alone where they are as many as there are
/// to be, or as serve now; else beside those that serve.
fn switch_back(observed: &Observed, desired: &Desired) -> Option<Move> {
    let (old, new): (Vec<_>, Vec<_>) = observed
        .members
        .iter()
        .filter(|member| !matches!(member.life, Life::Failed(_)))
        .partition(|member| Some(&member.release) == desired.source.as_ref());
    let is = |wanted: Traffic| move |member: &&&Member| member.traffic == wanted;
    let waiting: Vec<_> = old.iter().filter(is(Traffic::Standby(Check::Healthy))).copied().collect();
    if waiting.is_empty() {
        return None;
    }
    let mut to: Vec<&Member> = old.iter().filter(is(Traffic::Healthy)).copied().chain(waiting).collect();
    let serving: Vec<&Member> = new.iter().filter(is(Traffic::Healthy)).copied().collect();
    let ready = to.len() as u32;
    if to.len() < (desired.size as usize).min(serving.len()) {
        to.extend(serving);
    }
    let progress =
        Progress { phase: Phase::Switch, batch: 1, batches: 1, ready, remaining: new.len() as u32 };
    let to = to.into_iter().map(|member| member.id.clone()).collect();
    Some(Move::Act { operations: vec![Operation::Switch { to }], progress })
}

#[cfg(test)]
mod tests;

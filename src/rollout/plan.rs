//! The plan itself.
//!
//! Forward and back are one procedure, moving the fleet to a release: the target, or the source. It
//! has four rules, all read off one observation:
//!
//! 1. Launch what is missing, a batch at a time and within the surge; register what runs.
//! 2. For each member of that release that is ready, one of the others may go: as long as the release
//!    is not complete, ready and others together stay as many as the fleet is meant to have.
//! 3. What serves nobody goes first; what serves goes only by draining.
//! 4. A member that ended by itself, or has drained, is terminated.
//!
//! The ways differ in what a failure means. Forward, it turns the rollout back. On the way back there
//! is nowhere to turn to: a few relaunches, then an honest end.

use jiff::Timestamp;

use super::blue_green;
use super::words::{self, Way};
use super::{
    Desired, Direction, End, Life, Member, Move, Observed, Operation, Phase, Progress, Rolling, Strategy,
    Traffic,
};
use crate::ids::Digest;

/// So many members of the source, launched on the way back, may fail before it is given up. One may
/// be bad luck, and two; by the third the reason is not in the instance.
const RELAUNCH_LIMIT: usize = 3;

/// The next move towards `desired`, seeing `observed`.
pub fn plan(observed: &Observed, desired: &Desired) -> Move {
    match &desired.strategy {
        Strategy::Rolling(rolling) => by_batches(observed, desired, rolling),
        Strategy::BlueGreen { hold } => blue_green::plan(observed, desired, *hold),
    }
}

/// The next move, swapping a batch at a time.
pub(super) fn by_batches(observed: &Observed, desired: &Desired, rolling: &Rolling) -> Move {
    let survey = Survey::new(observed, desired, rolling);
    if let (Direction::Forward, Some(reason)) = (&desired.direction, survey.failure()) {
        return Move::TurnBack { reason };
    }
    let operations = survey.operations();
    let progress = survey.progress(&operations);
    if !operations.is_empty() {
        return Move::Act { operations, progress };
    }
    if survey.complete() {
        return Move::Done(match &desired.direction {
            Direction::Forward => End::Completed,
            Direction::Back { reason } => End::RolledBack { reason: reason.clone() },
        });
    }
    if let Some(reason) = words::awaited(survey.way, &survey.coming(), &survey.leaving()) {
        return Move::Wait { reason, until: survey.patience_ends(), progress };
    }
    let left = words::stranded(&survey.ready(), &survey.bad(), survey.size);
    match &desired.direction {
        Direction::Forward => Move::TurnBack { reason: left },
        Direction::Back { reason } => {
            Move::Done(End::Stranded { reason: format!("{reason}; and on the way back {left}") })
        }
    }
}

/// What a member is good for at this moment, in the order in which members are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It ended by itself.
    Ended,
    /// Drained: it may be terminated.
    Left,
    Leaving,
    /// Not healthy, and its time to become so is over.
    Sick,
    /// On its way to being healthy.
    Coming,
    /// Takes traffic.
    Ready,
}

struct Survey<'a> {
    /// Oldest first.
    members: Vec<(&'a Member, Standing)>,
    desired: &'a Desired,
    rolling: &'a Rolling,
    way: Way,
    /// The release that the fleet moves to; `None` when it is to be empty.
    release: Option<&'a Digest>,
    /// How many members of it there are to be.
    size: usize,
    now: Timestamp,
}

impl<'a> Survey<'a> {
    fn new(observed: &'a Observed, desired: &'a Desired, rolling: &'a Rolling) -> Self {
        let (way, release) = match desired.direction {
            Direction::Forward => (Way::Forward, Some(&desired.target)),
            Direction::Back { .. } => (Way::Back, desired.source.as_ref()),
        };
        let mut members: Vec<_> =
            observed.members.iter().map(|member| (member, standing(member, observed.now, desired))).collect();
        members.sort_by_key(|(member, _)| (member.launched_at, &member.id));
        let size = if release.is_some() { desired.size as usize } else { 0 };
        Self { members, desired, rolling, way, release, size, now: observed.now }
    }

    /// Members of the release that the fleet moves to.
    fn ours(&self) -> impl Iterator<Item = (&'a Member, Standing)> {
        self.members.iter().copied().filter(|(member, _)| Some(&member.release) == self.release)
    }

    fn others(&self) -> impl Iterator<Item = (&'a Member, Standing)> {
        self.members.iter().copied().filter(|(member, _)| Some(&member.release) != self.release)
    }

    /// Whether the member was launched by this rollout, so that its failure counts.
    fn fresh(&self, member: &Member) -> bool {
        member.launched_at >= self.desired.started_at
    }

    fn ready(&self) -> Vec<&'a Member> {
        self.ours().filter(|(_, s)| *s == Standing::Ready).map(|(m, _)| m).collect()
    }

    fn coming(&self) -> Vec<&'a Member> {
        self.ours().filter(|(_, s)| *s == Standing::Coming).map(|(m, _)| m).collect()
    }

    fn leaving(&self) -> Vec<&'a Member> {
        self.members.iter().filter(|(_, s)| *s == Standing::Leaving).map(|(m, _)| *m).collect()
    }

    /// Members of the release, launched by this rollout, that came to nothing.
    fn bad(&self) -> Vec<&'a Member> {
        self.ours()
            .filter(|(member, standing)| {
                self.fresh(member)
                    && match standing {
                        // One that we were ending anyway says nothing.
                        Standing::Ended => {
                            !matches!(member.traffic, Traffic::Draining { .. } | Traffic::Drained)
                        }
                        Standing::Sick => true,
                        _ => false,
                    }
            })
            .map(|(member, _)| member)
            .collect()
    }

    fn failure(&self) -> Option<String> {
        self.bad().first().map(|member| words::failed(member, self.desired.patience))
    }

    /// How many members the fleet is meant to have while it is turned over. Where more were healthy
    /// at the start than the size asks for, they go one for one too, not all at once.
    fn level(&self) -> usize {
        self.size.max(self.desired.healthy_at_start as usize)
    }

    /// How many more members may be launched: those that ended by themselves take no room.
    fn room(&self) -> usize {
        let present = self.members.iter().filter(|(_, s)| *s != Standing::Ended).count();
        (self.level() + self.rolling.surge.max(1) as usize).saturating_sub(present)
    }

    /// How many ready members may be drained in all: the promise itself, whatever the rules say.
    fn spare(&self) -> usize {
        let ready = self.members.iter().filter(|(_, s)| *s == Standing::Ready).count();
        let floor = (self.rolling.floor as usize).min(self.size).min(self.desired.healthy_at_start as usize);
        ready.saturating_sub(floor)
    }

    fn complete(&self) -> bool {
        let mut present = self.ours().filter(|(_, standing)| *standing != Standing::Ended);
        self.others().next().is_none()
            && self.ready().len() == self.size
            && present.all(|(_, standing)| standing == Standing::Ready)
    }

    fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (member, standing) in &self.members {
            if self.over(member, *standing) {
                operations.push(Operation::Terminate { id: member.id.clone() });
            }
        }
        let leaving = self.dismissed();
        for (member, _) in self.ours().filter(|(_, standing)| *standing == Standing::Coming) {
            let idle = member.life == Life::Running && member.traffic == Traffic::Unregistered;
            if idle && !leaving.iter().any(|gone| gone.id == member.id) {
                operations.push(Operation::Register { id: member.id.clone() });
            }
        }
        for member in leaving {
            operations.push(match member.traffic {
                // It never took traffic, so there is nothing to drain.
                Traffic::Unregistered => Operation::Terminate { id: member.id.clone() },
                _ => Operation::Drain { id: member.id.clone() },
            });
        }
        if let (Some(release), count @ 1..) = (self.release, self.launches()) {
            operations.push(Operation::Launch { release: release.clone(), count: count as u32 });
        }
        operations
    }

    /// Rule 4. Of the source, what failed on the way back stays: it counts the relaunches.
    fn over(&self, member: &Member, standing: Standing) -> bool {
        match standing {
            Standing::Left => true,
            Standing::Ended => !self.bad().iter().any(|bad| bad.id == member.id),
            _ => false,
        }
    }

    /// Rules 2 and 3: who goes now.
    fn dismissed(&self) -> Vec<&'a Member> {
        let ready = self.ready().len();
        let mut gone = Vec::new();

        let kept = if ready >= self.size { 0 } else { self.level().saturating_sub(ready) };
        let mut others: Vec<_> = self.others().filter(|(_, s)| *s >= Standing::Sick).collect();
        let too_many = others.len().saturating_sub(kept);
        // Leftovers before the source, what serves nobody before what serves, then the oldest.
        let source = self.desired.source.as_ref();
        let rank = |member: &Member, standing| (standing == Standing::Ready, Some(&member.release) == source);
        others.sort_by_key(|(member, standing)| rank(member, *standing));
        for (place, (member, standing)) in others.into_iter().enumerate() {
            // A leftover that serves nobody is only in the way; so is a bad new member on the way
            // back. A member of the source may yet recover, so it keeps its turn.
            let useless = standing != Standing::Ready && Some(&member.release) != source;
            if place < too_many || useless {
                gone.push((member, standing));
            }
        }

        // More than enough of our own: a launch that was repeated, or a smaller size. What failed on
        // the way back stays until nothing is missing, as in rule 4.
        let counts = |member: &Member| ready < self.size && self.bad().iter().any(|bad| bad.id == member.id);
        let mut own: Vec<_> =
            self.ours().filter(|(member, s)| *s >= Standing::Sick && !counts(member)).collect();
        let too_many = own.len().saturating_sub(self.size);
        own.reverse();
        own.sort_by_key(|(_, standing)| *standing);
        for (place, (member, standing)) in own.into_iter().enumerate() {
            // One that was sick before we came makes room when there is none for its replacement.
            let in_the_way = standing == Standing::Sick && self.room() == 0;
            if place < too_many || in_the_way {
                gone.push((member, standing));
            }
        }

        let mut spare = self.spare();
        gone.retain(|(_, standing)| {
            let serves = *standing == Standing::Ready;
            let may = !serves || spare > 0;
            spare -= usize::from(serves && may);
            may
        });
        gone.into_iter().map(|(member, _)| member).collect()
    }

    /// Rule 1: how many members to launch now.
    fn launches(&self) -> usize {
        if self.way == Way::Back && self.bad().len() >= RELAUNCH_LIMIT {
            return 0;
        }
        let coming = self.coming().len();
        let missing = self.size.saturating_sub(self.ready().len() + coming);
        // Forward, a swap is over when the old member is gone. On the way back capacity comes first.
        let swapping = match self.way {
            Way::Forward => coming + self.others().filter(|(_, s)| *s == Standing::Leaving).count(),
            Way::Back => coming,
        };
        missing.min(self.pace().saturating_sub(swapping)).min(self.room())
    }

    /// How many members may be on their way at a time. Where nothing ran before there is nothing to
    /// swap, and no reason to wait.
    fn pace(&self) -> usize {
        match self.desired.source {
            None => self.size,
            Some(_) => self.rolling.batch.max(1) as usize,
        }
    }

    fn progress(&self, operations: &[Operation]) -> Progress {
        let step = match self.desired.source {
            None => self.size.max(1),
            Some(_) => self.pace().min(self.rolling.surge.max(1) as usize),
        };
        let launching: usize = operations
            .iter()
            .map(|operation| match operation {
                Operation::Launch { count, .. } => *count as usize,
                _ => 0,
            })
            .sum();
        let launched = self.ready().len() + self.coming().len() + launching;
        let batches = self.size.div_ceil(step).max(1);
        Progress {
            phase: Phase::Batch,
            batch: launched.div_ceil(step).clamp(1, batches) as u32,
            batches: batches as u32,
            ready: self.ready().len() as u32,
            remaining: self.others().count() as u32,
        }
    }

    /// When the first of those on their way runs out of time.
    fn patience_ends(&self) -> Option<Timestamp> {
        self.coming()
            .iter()
            .map(|member| deadline(member, self.desired))
            .filter(|deadline| *deadline > self.now)
            .min()
    }
}

/// When a member must be healthy.
pub(super) fn deadline(member: &Member, desired: &Desired) -> Timestamp {
    member.launched_at.saturating_add(desired.patience).unwrap_or(Timestamp::MAX)
}

fn standing(member: &Member, now: Timestamp, desired: &Desired) -> Standing {
    let late = now >= deadline(member, desired);
    match (&member.life, &member.traffic) {
        (Life::Failed(_), _) => Standing::Ended,
        (_, Traffic::Drained) => Standing::Left,
        (_, Traffic::Draining { .. }) => Standing::Leaving,
        (_, Traffic::Healthy) => Standing::Ready,
        // What another rollout left: it serves nobody, and swapping by batches does not switch.
        (_, Traffic::Standby(_)) => Standing::Sick,
        // Before it was checked nothing can be held against it, however old it is: whoever should
        // have registered it may have been away.
        (Life::Running, Traffic::Unregistered | Traffic::Initial) => Standing::Coming,
        (Life::Running, Traffic::Unhealthy(_)) | (Life::Pending, _) if late => Standing::Sick,
        (Life::Running, Traffic::Unhealthy(_)) | (Life::Pending, _) => Standing::Coming,
    }
}

#[cfg(test)]
mod tests;

//! Keeping a fleet as it is: the same [`plan`], with nowhere to go.
//!
//! What differs from a rollout: no member counts as new, so that one that fails is replaced and
//! nothing is turned back; all that is missing comes at once; a member that became unwell has its
//! patience again before it is replaced, as it may recover; and as long as nobody is well, those that
//! run stay: an answer from a sick instance is better than none.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{
    Desired, Direction, Life, Member, Move, Observed, Operation, Phase, Progress, Rolling, Strategy, Traffic,
    plan,
};
use crate::ids::{Digest, InstanceId};

/// What a fleet is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub release: Digest,
    pub size: u32,
    /// A member that is not healthy for so long has failed.
    pub patience: Duration,
    /// A release whose members stand by and are left so: the way back.
    pub held: Option<Digest>,
    /// Since when members have been unhealthy, as far as somebody saw.
    pub unwell: BTreeMap<InstanceId, Timestamp>,
}

/// The next move to keep the fleet: acts, waits, or is content ([`Move::Done`]). It never turns back.
pub fn keep(observed: &Observed, kept: &Kept) -> Move {
    let observed = patient(observed, kept);
    let desired = Desired {
        target: kept.release.clone(),
        source: None,
        size: kept.size,
        // Replacements stand beside what they replace, and one more may always come.
        strategy: Strategy::Rolling(Rolling {
            batch: kept.size.max(1),
            surge: kept.size.saturating_add(1),
            floor: kept.size,
        }),
        direction: Direction::Forward,
        started_at: Timestamp::MAX,
        patience: kept.patience,
        healthy_at_start: kept.size,
    };
    match plan(&observed, &desired) {
        Move::Act { operations, progress } => {
            let operations = spare_the_last(operations, &observed, kept);
            match operations.is_empty() {
                false => Move::Act { operations, progress },
                true => wait(&observed, kept, progress),
            }
        }
        Move::TurnBack { reason: _ } => wait(
            &observed,
            kept,
            Progress { phase: Phase::Batch, batch: 1, batches: 1, ready: 0, remaining: 0 },
        ),
        other => other,
    }
}

fn wait(observed: &Observed, kept: &Kept, progress: Progress) -> Move {
    let ready = observed.members.iter().filter(|member| member.traffic == Traffic::Healthy).count();
    let reason = format!("{ready} of {} instances are healthy", kept.size);
    Move::Wait { reason, until: None, progress }
}

/// Leaves out who stands by, and counts the patience of those who became unwell from then on.
fn patient(observed: &Observed, kept: &Kept) -> Observed {
    let mut observed = observed.clone();
    let held = |member: &Member| {
        Some(&member.release) == kept.held.as_ref()
            && member.life == Life::Running
            && matches!(member.traffic, Traffic::Standby(_))
    };
    observed.members.retain(|member| !held(member));
    for member in &mut observed.members {
        if let (Traffic::Unhealthy(_), Some(since)) = (&member.traffic, kept.unwell.get(&member.id)) {
            member.launched_at = member.launched_at.max(*since);
        }
    }
    observed
}

/// Leaves out what would take away those that run while nobody is well.
fn spare_the_last(operations: Vec<Operation>, observed: &Observed, kept: &Kept) -> Vec<Operation> {
    if observed.members.iter().any(|member| member.traffic == Traffic::Healthy) {
        return operations;
    }
    let unwell = |traffic: &Traffic| matches!(traffic, Traffic::Unhealthy(_));
    let mut running: Vec<_> = observed
        .members
        .iter()
        .filter(|member| member.life == Life::Running && unwell(&member.traffic))
        .filter(|member| member.release == kept.release)
        .collect();
    running.sort_by_key(|member| (member.launched_at, &member.id));
    let spared: Vec<&InstanceId> = running.into_iter().take(kept.size as usize).map(|m| &m.id).collect();
    let spares = |operation: &Operation| match operation {
        Operation::Drain { id } | Operation::Terminate { id } => spared.contains(&id),
        _ => false,
    };
    operations.into_iter().filter(|operation| !spares(operation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Check, End};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn member(n: u32, life: Life, traffic: Traffic) -> Member {
        let id = format!("shop-production-1-{n}").parse().unwrap();
        Member { id, release: digest("now"), life, traffic, launched_at: at(0) }
    }

    fn well(n: u32) -> Member {
        member(n, Life::Running, Traffic::Healthy)
    }

    fn unwell(n: u32) -> Member {
        member(n, Life::Running, Traffic::Unhealthy("answered 503".to_owned()))
    }

    fn kept(unwell_since: &[(u32, i64)]) -> Kept {
        let unwell = unwell_since
            .iter()
            .map(|(n, since)| (format!("shop-production-1-{n}").parse().unwrap(), at(*since)));
        Kept {
            release: digest("now"),
            size: 3,
            patience: Duration::from_secs(60),
            held: None,
            unwell: unwell.collect(),
        }
    }

    fn acts(members: &[Member], seconds: i64, kept: &Kept) -> Vec<Operation> {
        match keep(&Observed { now: at(seconds), members: members.to_vec() }, kept) {
            Move::Act { operations, .. } => operations,
            _ => Vec::new(),
        }
    }

    fn launch(count: u32) -> Operation {
        Operation::Launch { release: digest("now"), count }
    }

    #[test]
    fn a_whole_fleet_is_left_alone() {
        let members = [well(1), well(2), well(3)];
        let observed = Observed { now: at(5), members: members.to_vec() };
        assert_eq!(keep(&observed, &kept(&[])), Move::Done(End::Completed));
    }

    #[test]
    fn one_that_ended_is_replaced_at_once_however_young_it_was() {
        let ended = member(3, Life::Failed("killed".to_owned()), Traffic::Healthy);
        let operations = acts(&[well(1), well(2), ended.clone()], 1, &kept(&[]));
        assert_eq!(operations, [Operation::Terminate { id: ended.id }, launch(1)]);
    }

    #[test]
    fn after_a_reboot_all_come_at_once() {
        assert_eq!(acts(&[], 1, &kept(&[])), [launch(3)]);
    }

    #[test]
    fn one_that_became_unwell_has_its_patience() {
        let members = [well(1), well(2), unwell(3)];
        let kept = kept(&[(3, 1_000)]);
        assert_eq!(acts(&members, 1_059, &kept), []);
        assert_eq!(acts(&members, 1_060, &kept), [launch(1)]);
    }

    #[test]
    fn while_nobody_is_well_those_that_run_stay() {
        let kept = kept(&[(1, 0), (2, 0), (3, 0)]);
        // Replacements were launched, and did not do better.
        let mut members: Vec<Member> = (1..=6).map(unwell).collect();
        members.push(member(7, Life::Running, Traffic::Initial));
        let operations = acts(&members, 200, &kept);
        let gone: Vec<&str> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Drain { id } | Operation::Terminate { id } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(gone, ["shop-production-1-6", "shop-production-1-5", "shop-production-1-4"]);
    }

    #[test]
    fn who_stands_by_is_left_so_while_it_is_held_and_ended_afterwards() {
        let old = Member {
            release: digest("before"),
            ..member(9, Life::Running, Traffic::Standby(Check::Healthy))
        };
        let members = [well(1), well(2), well(3), old.clone()];
        let held = Kept { held: Some(digest("before")), ..kept(&[]) };
        let observed = Observed { now: at(5), members: members.to_vec() };
        assert_eq!(keep(&observed, &held), Move::Done(End::Completed));
        assert_eq!(acts(&members, 5, &kept(&[])), [Operation::Drain { id: old.id.clone() }]);
        let died = Member { life: Life::Failed("killed".to_owned()), ..old.clone() };
        assert_eq!(acts(&[well(1), well(2), well(3), died], 5, &held), [Operation::Terminate { id: old.id }]);
    }
}

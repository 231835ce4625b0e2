use proptest::prelude::*;

use super::*;

const PLACES: [&str; 2] = ["production", "staging"];
const STANDS: [Stand; 7] =
    [Stand::Away, Stand::Coming, Stand::AtGate, Stand::Queued, Stand::Wants, Stand::Holds, Stand::Left];

fn place(i: usize) -> EnvironmentName {
    PLACES[i].parse().unwrap()
}

/// A run that comes, moves or goes.
fn change() -> impl Strategy<Value = (u64, Option<Standing>)> {
    let standing = (prop::option::of(0..2_u8), prop::bool::weighted(0.2), [0..7_usize, 0..7], 0..3_usize);
    let standing = standing.prop_map(|(reference, rollback, stands, yields)| Standing {
        reference: reference.map(|n| format!("refs/heads/{n}")),
        rollback,
        yields: [Yields::Nowhere, Yields::AtGates, Yields::Anywhere][yields],
        places: (0..2).map(|i| (place(i), STANDS[stands[i]])).collect(),
    });
    (1..8_u64, prop::option::weighted(0.8, standing))
}

/// The same questions, answered by looking at every run.
struct Naive<'a>(&'a BTreeMap<u64, Standing>);

impl Naive<'_> {
    fn newest(&self, reference: &str, after: u64, is: impl Fn(&Standing) -> bool) -> Option<u64> {
        let of_lane = |standing: &Standing| standing.reference.as_deref() == Some(reference) && is(standing);
        self.0.iter().rev().find(|(n, s)| **n > after && of_lane(s)).map(|(n, _)| *n)
    }
}

proptest! {
    /// Whatever comes and goes in whatever order, the sorted sets answer as a look at all of it does.
    #[test]
    fn the_sets_are_true(changes in prop::collection::vec(change(), 1..40)) {
        let (mut lanes, mut all) = (Lanes::default(), BTreeMap::new());
        for (number, standing) in changes {
            match standing {
                Some(standing) => {
                    let new = all.insert(number, standing.clone()).as_ref() != Some(&standing);
                    prop_assert_eq!(lanes.publish(number, standing).new, new);
                }
                None => prop_assert_eq!(lanes.remove(number).new, all.remove(&number).is_some()),
            }
            let naive = Naive(&all);
            for (reference, number, environment) in
                ["refs/heads/0", "refs/heads/1"].iter().flat_map(|r| (0..9).flat_map(move |n| [(r, n, place(0)), (r, n, place(1))]))
            {
                let at = |standing: &Standing| standing.places[&environment];
                prop_assert_eq!(lanes.newer(reference, number), naive.newest(reference, number, |_| true));
                prop_assert_eq!(
                    lanes.newer_at(reference, number, &environment),
                    naive.newest(reference, number, |s| !matches!(at(s), Stand::Away | Stand::Coming))
                );
                prop_assert_eq!(
                    lanes.newer_admitted(reference, number, &environment),
                    naive.newest(reference, number, |s| {
                        matches!(at(s), Stand::Queued | Stand::Wants | Stand::Holds | Stand::Left)
                    })
                );
                let coming = |s: &Standing| matches!(at(s), Stand::Coming | Stand::Queued | Stand::Wants);
                let ahead = all.iter().find(|(n, s)| {
                    **n < number && s.reference.as_deref() == Some(*reference) && coming(s)
                });
                prop_assert_eq!(lanes.ahead(reference, number, &environment), ahead.map(|(n, _)| *n));
            }
            for environment in [place(0), place(1)] {
                let mut wants: Vec<(bool, u64)> = all
                    .iter()
                    .filter(|(_, s)| s.places[&environment] == Stand::Wants)
                    .map(|(n, s)| (!s.rollback, *n))
                    .collect();
                wants.sort_unstable();
                for number in 0..9 {
                    for rollback in [false, true] {
                        let first = wants.first().filter(|first| **first < (!rollback, number));
                        prop_assert_eq!(lanes.goes_before(rollback, number, &environment), first.map(|f| f.1));
                    }
                }
            }
        }
    }
}

/// Of each run whether nobody is before it where it waits, and whether somebody came to whom it gives way.
fn free_to_act(lanes: &Lanes, all: &BTreeMap<u64, Standing>) -> BTreeSet<(u64, usize, &'static str)> {
    let mut found = BTreeSet::new();
    for (number, standing) in all {
        let lane = standing.reference.as_deref();
        if standing.yields == Yields::Anywhere && lane.and_then(|lane| lanes.newer(lane, *number)).is_some() {
            found.insert((*number, 0, "gives way"));
        }
        for i in (0..2).filter(|i| standing.places[&place(*i)].waits()) {
            let (at, stand) = (place(i), standing.places[&place(i)]);
            if stand == Stand::Wants && lanes.goes_before(standing.rollback, *number, &at).is_none() {
                found.insert((*number, i, "takes the fleet"));
            }
            let Some(lane) = lane else { continue };
            if stand != Stand::AtGate && lanes.ahead(lane, *number, &at).is_none() {
                found.insert((*number, i, "is the first of its lane"));
            }
            if standing.yields != Yields::Nowhere {
                if lanes.newer_at(lane, *number, &at).is_some() {
                    found.insert((*number, i, "gives way at the gate"));
                }
                if lanes.newer_admitted(lane, *number, &at).is_some() {
                    found.insert((*number, i, "gives way to what was let in"));
                }
            }
        }
    }
    found
}

proptest! {
    /// Nobody sleeps on: whoever may do after a change what he could not do before it is named by it.
    #[test]
    fn a_change_names_all_whom_it_concerns(changes in prop::collection::vec(change(), 1..40)) {
        let (mut lanes, mut all) = (Lanes::default(), BTreeMap::new());
        for (number, standing) in changes {
            let before = free_to_act(&lanes, &all);
            let change = match standing {
                Some(standing) => {
                    all.insert(number, standing.clone());
                    lanes.publish(number, standing)
                }
                None => {
                    all.remove(&number);
                    lanes.remove(number)
                }
            };
            for (run, _, what) in free_to_act(&lanes, &all).difference(&before) {
                // The one that changed looked at the others itself, right before.
                if *run != number {
                    prop_assert!(change.concerned.contains(run), "{run} {what}: {:?}", change.concerned);
                }
            }
        }
    }
}

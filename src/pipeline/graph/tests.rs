use proptest::prelude::*;

use super::*;

fn members(set: &Set) -> Vec<usize> {
    set.iter().collect()
}

#[test]
fn the_order_is_the_files_where_it_can_be() {
    // 0 ← 3 ← 1, 2 alone
    let graph = Graph::of(vec![vec![], vec![3], vec![], vec![0]]);
    assert_eq!(graph.order(), [0, 2, 3, 1]);
    assert_eq!(graph.levels(), [vec![0, 2], vec![3], vec![1]]);
    assert_eq!(graph.needs(1), [3]);
    assert_eq!(graph.dependents(0), [3]);
    assert_eq!(members(graph.ancestors(1)), [0, 3]);
    assert_eq!(members(&graph.descendants(0)), [1, 3]);
    assert!(graph.is_acyclic());
    assert_eq!(members(graph.ancestors(99)), [0; 0]);
}

#[test]
fn cycles_are_shown_once_and_start_with_the_first_stage() {
    // 1 → 2 → 1, 1 → 4 → 1, 0 behind them, 3 before them
    let graph = Graph::of(vec![vec![1], vec![2, 4], vec![1, 3], vec![], vec![1]]);
    assert_eq!(graph.cycles(), [vec![1, 2], vec![1, 4]]);
    assert_eq!(graph.order(), [3]);
}

#[test]
fn what_lies_between_two_cycles_is_in_none() {
    // 0 ↔ 1 ← 2 ← 3 ↔ 4
    let graph = Graph::of(vec![vec![1], vec![0], vec![1], vec![2, 4], vec![3]]);
    assert_eq!(graph.cycles(), [vec![0, 1], vec![3, 4]]);
}

#[test]
fn five_thousand_stages_cost_no_stack() {
    let size = 5_000;
    let chain = Graph::of((0..size).map(|i| if i == 0 { vec![] } else { vec![i - 1] }).collect());
    assert_eq!(chain.order().len(), size);
    assert_eq!(chain.ancestors(size - 1).iter().count(), size - 1);
    assert_eq!(chain.levels().len(), size);
    let ring = Graph::of((0..size).map(|i| vec![(i + 1) % size]).collect());
    assert_eq!(ring.cycles().len(), 1);
    assert_eq!(ring.cycles()[0].len(), size);
    let fan = Graph::of((0..size).map(|i| if i == size - 1 { (0..i).collect() } else { vec![] }).collect());
    assert_eq!(fan.needs(size - 1).len(), size - 1);
}

fn any_needs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1..24usize).prop_flat_map(|size| {
        let own = proptest::collection::btree_set(0..size, 0..4).prop_map(|set| set.into_iter().collect());
        proptest::collection::vec(own, size)
    })
}

/// Whether `to` can be reached from `from` over one need or more.
fn reaches(needs: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; needs.len()];
    let mut next = needs[from].clone();
    while let Some(stage) = next.pop() {
        if stage == to {
            return true;
        }
        if !std::mem::replace(&mut seen[stage], true) {
            next.extend(&needs[stage]);
        }
    }
    false
}

proptest! {
    #[test]
    fn order_and_ancestors_agree_with_a_plain_search(needs in any_needs()) {
        let graph = Graph::of(needs.clone());
        let size = needs.len();
        for (at, stage) in graph.order().iter().enumerate() {
            for need in &needs[*stage] {
                prop_assert!(graph.order()[..at].contains(need));
            }
            let plain: Vec<usize> = (0..size).filter(|other| reaches(&needs, *stage, *other)).collect();
            prop_assert_eq!(members(graph.ancestors(*stage)), plain);
        }
        for stage in 0..size {
            let plain: Vec<usize> = (0..size).filter(|other| reaches(&needs, *other, stage)).collect();
            prop_assert_eq!(members(&graph.descendants(stage)), plain);
        }
    }

    #[test]
    fn every_stage_of_a_cycle_is_shown_in_a_true_one(needs in any_needs()) {
        let graph = Graph::of(needs.clone());
        let cycles = graph.cycles();
        for cycle in &cycles {
            for (at, stage) in cycle.iter().enumerate() {
                prop_assert!(needs[*stage].contains(&cycle[(at + 1) % cycle.len()]));
            }
        }
        for stage in 0..needs.len() {
            let shown = cycles.iter().any(|cycle| cycle.contains(&stage));
            prop_assert_eq!(shown, reaches(&needs, stage, stage));
        }
        prop_assert_eq!(graph.is_acyclic(), cycles.is_empty());
    }
}

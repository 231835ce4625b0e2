//! Which stage comes before which. Stages are known here by their place in the file, from 0.
//!
//! Nothing recurses, and everything but [`Graph::ancestors`] is linear: a chain of 5,000 stages costs
//! no stack. The ancestors are bit sets, 8 bytes for each 64 stages of each stage.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::model::Pipeline;

#[cfg(test)]
mod tests;

/// How much work looking for cycles may cost, in edges followed. Enough to name every cycle of any
/// file that a person writes.
const CYCLE_WORK: usize = 2_000_000;

/// A set of stages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    words: Vec<u64>,
}

impl Set {
    fn empty(size: usize) -> Self {
        Self { words: vec![0; size.div_ceil(64)] }
    }

    fn insert(&mut self, member: usize) {
        if let Some(word) = self.words.get_mut(member / 64) {
            *word |= 1 << (member % 64);
        }
    }

    fn insert_all(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    pub fn contains(&self, member: usize) -> bool {
        self.words.get(member / 64).is_some_and(|word| word & (1 << (member % 64)) != 0)
    }

    /// The members, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(place * 64 + bit)
            })
        })
    }
}

/// The DAG of a pipeline.
#[derive(Debug, Clone)]
pub struct Graph {
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    order: Vec<usize>,
    ancestors: Vec<Set>,
}

impl Graph {
    /// The graph of a pipeline; stage `i` is `pipeline.stages[i]`.
    pub fn new(pipeline: &Pipeline) -> Self {
        let places: HashMap<_, _> =
            pipeline.stages.iter().enumerate().map(|(i, stage)| (&stage.name, i)).collect();
        let needs = pipeline
            .stages
            .iter()
            .map(|stage| stage.needs.iter().filter_map(|name| places.get(name).copied()).collect());
        Self::of(needs.collect())
    }

    /// The graph in which stage `i` needs `needs[i]`. Places beyond the last stage are left out. Where
    /// there are cycles, the stages in and behind them are in no order; see [`Self::cycles`].
    pub fn of(mut needs: Vec<Vec<usize>>) -> Self {
        let size = needs.len();
        let mut dependents = vec![Vec::new(); size];
        for (stage, list) in needs.iter_mut().enumerate() {
            list.retain(|need| *need < size);
            for need in list {
                dependents[*need].push(stage);
            }
        }
        let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
        // The first in the file of those that may come next: the order is the file's where it can be.
        let mut ready: BinaryHeap<_> = (0..size).filter(|stage| missing[*stage] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(size);
        let mut ancestors = vec![Set::empty(size); size];
        while let Some(Reverse(stage)) = ready.pop() {
            order.push(stage);
            let mut own = Set::empty(size);
            for need in &needs[stage] {
                own.insert_all(&ancestors[*need]);
                own.insert(*need);
            }
            ancestors[stage] = own;
            for dependent in &dependents[stage] {
                missing[*dependent] -= 1;
                if missing[*dependent] == 0 {
                    ready.push(Reverse(*dependent));
                }
            }
        }
        Self { needs, dependents, order, ancestors }
    }

    /// How many stages there are.
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }

    /// The stages that `stage` names in its `needs`.
    pub fn needs(&self, stage: usize) -> &[usize] {
        self.needs.get(stage).map_or(&[], Vec::as_slice)
    }

    /// The stages that name `stage` in their `needs`.
    pub fn dependents(&self, stage: usize) -> &[usize] {
        self.dependents.get(stage).map_or(&[], Vec::as_slice)
    }

    /// Every stage that must be over before `stage` may start.
    pub fn ancestors(&self, stage: usize) -> &Set {
        static NONE: Set = Set { words: Vec::new() };
        self.ancestors.get(stage).unwrap_or(&NONE)
    }

    /// Every stage that waits for `stage`, directly or not.
    pub fn descendants(&self, stage: usize) -> Set {
        let mut found = Set::empty(self.len());
        let mut next = vec![stage];
        while let Some(stage) = next.pop() {
            for dependent in self.dependents(stage) {
                if !found.contains(*dependent) {
                    found.insert(*dependent);
                    next.push(*dependent);
                }
            }
        }
        found
    }

    /// Every stage after all that it needs, and otherwise as in the file.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The stages by level: those that need nothing, those that need only these, and so on.
    pub fn levels(&self) -> Vec<Vec<usize>> {
        let mut level = vec![0; self.len()];
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for stage in &self.order {
            let own = self.needs(*stage).iter().map(|need| level[*need] + 1).max().unwrap_or(0);
            level[*stage] = own;
            if levels.len() <= own {
                levels.resize(own + 1, Vec::new());
            }
            levels[own].push(*stage);
        }
        for level in &mut levels {
            level.sort_unstable();
        }
        levels
    }

    /// Whether every stage has a place in the order.
    pub fn is_acyclic(&self) -> bool {
        self.order.len() == self.len()
    }

    /// Cycles until every stage that is in one has been shown in one; each as the stages in the order
    /// of their needs, starting with the first of the file, and short where there is a choice.
    pub fn cycles(&self) -> Vec<Vec<usize>> {
        if self.is_acyclic() {
            return Vec::new();
        }
        let left = self.tangled();
        let mut shown = Set::empty(self.len());
        let mut cycles = Vec::new();
        let mut work = CYCLE_WORK;
        for stage in (0..self.len()).filter(|stage| left.contains(*stage)) {
            if shown.contains(stage) {
                continue;
            }
            if let Some(mut cycle) = self.shortest_cycle(stage, &left, &mut work) {
                for member in &cycle {
                    shown.insert(*member);
                }
                let first = cycle.iter().enumerate().min_by_key(|(_, stage)| **stage).map_or(0, |(at, _)| at);
                cycle.rotate_left(first);
                cycles.push(cycle);
            }
        }
        cycles
    }

    /// The stages in cycles and between them.
    fn tangled(&self) -> Set {
        let mut left = Set::empty(self.len());
        let mut ordered = Set::empty(self.len());
        self.order.iter().for_each(|stage| ordered.insert(*stage));
        let mut waiting: Vec<usize> = self.dependents.iter().map(Vec::len).collect();
        let mut ends: Vec<usize> = (0..self.len()).filter(|stage| waiting[*stage] == 0).collect();
        let mut behind = Set::empty(self.len());
        while let Some(stage) = ends.pop() {
            behind.insert(stage);
            for need in &self.needs[stage] {
                waiting[*need] -= 1;
                if waiting[*need] == 0 {
                    ends.push(*need);
                }
            }
        }
        for stage in (0..self.len()).filter(|stage| !ordered.contains(*stage) && !behind.contains(*stage)) {
            left.insert(stage);
        }
        left
    }

    fn shortest_cycle(&self, from: usize, left: &Set, work: &mut usize) -> Option<Vec<usize>> {
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(stage) = queue.pop_front() {
            for need in self.needs(stage).iter().filter(|need| left.contains(**need)) {
                *work = work.checked_sub(1)?;
                if *need == from {
                    let mut cycle = vec![stage];
                    let mut at = stage;
                    while at != from {
                        at = *came_from.get(&at)?;
                        cycle.push(at);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                came_from.entry(*need).or_insert_with(|| {
                    queue.push_back(*need);
                    stage
                });
            }
        }
        None
    }
}

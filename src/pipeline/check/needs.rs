//! `needs`: what they name, and that they make no cycle.

use std::collections::HashSet;

use super::super::graph::Graph;
use super::Check;

impl Check<'_> {
    pub(super) fn needs(&mut self) {
        let mut needs = Vec::with_capacity(self.spec.stages.len());
        for (place, stage) in self.spec.stages.iter().enumerate() {
            let mut own = Vec::new();
            let mut seen = HashSet::new();
            for need in &stage.needs {
                let at = need.node.at.clone();
                if need.text == stage.name.text {
                    self.error(at, format!("the stage {:?} needs itself", need.text));
                } else if !seen.insert(need.text) {
                    self.error(at, format!("the stage {:?} is needed twice", need.text));
                } else {
                    match self.stages.get(need.text) {
                        Some(found) => own.push(*found),
                        None => self.unknown_need(need, place),
                    }
                }
            }
            needs.push(own);
        }
        self.graph = Graph::of(needs);
        for cycle in self.graph.cycles() {
            self.cycle(&cycle);
        }
    }

    fn unknown_need(&mut self, need: &super::spec::Text<'_>, place: usize) {
        // A name against the convention is a problem already, and no stage can have it.
        if crate::ids::check_name(need.text).is_err() {
            return;
        }
        let own = self.stage(place).name.text;
        let known = self.stage_names().filter(|name| *name != own);
        let message = format!("unknown stage {:?} in needs", need.text);
        self.problems.unknown(need.node.at.clone(), message, need.text, known);
    }

    fn cycle(&mut self, cycle: &[usize]) {
        let (Some(first), Some(second)) = (cycle.first(), cycle.get(1)) else { return };
        let next = self.stage(*second).name.text;
        let stage = self.stage(*first);
        let at = stage
            .needs
            .iter()
            .find(|need| need.text == next)
            .map_or(stage.name.at.clone(), |need| need.node.at.clone());
        let mut path: Vec<&str> = cycle.iter().map(|place| self.stage(*place).name.text).collect();
        path.push(stage.name.text);
        if path.len() > 12 {
            let more = format!("… {} more …", path.len() - 10);
            path.splice(6..path.len() - 4, [more.as_str()]);
            let shown = path.join(" → ");
            self.error(at, format!("stages need each other in a cycle: {shown}"));
            return;
        }
        let shown = path.join(" → ");
        self.error(at, format!("stages need each other in a cycle: {shown}"));
    }

    /// For each stage whether what comes before it is not fully known.
    pub(super) fn tangled(&self) -> Vec<bool> {
        let mut tangled = vec![true; self.spec.stages.len()];
        for place in self.graph.order() {
            let stage = self.stage(*place);
            let unknown = stage.needs.iter().any(|need| !self.stages.contains_key(need.text));
            tangled[*place] = unknown || self.graph.needs(*place).iter().any(|need| tangled[*need]);
        }
        tangled
    }
}

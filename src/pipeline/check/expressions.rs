//! Expressions: that they can be read, and that what they name exists for their stage.

use std::collections::HashSet;
use std::ops::Range;

use super::super::expression::{Expression, ParseError, Reference, Template, VALUE_LIMIT};
use super::super::spec::{Stage, Text};
use super::super::text;
use super::super::yaml::Locator;
use super::Check;

/// Variables that the runner sets for every step; see "What a shell stage gets" in `windlass reference`.
const RESERVED: &[&str] = &["PATH", "HOME", "TMPDIR"];

impl<'a> Check<'a> {
    pub(super) fn expressions(&mut self) {
        let tangled = self.tangled();
        for (place, stage) in self.spec.stages.iter().enumerate() {
            let ordered = self.is_ordered(place, &tangled);
            // An empty condition is a problem already.
            if let Some(condition) =
                stage.condition.as_ref().filter(|condition| !condition.text.trim().is_empty())
            {
                match Expression::parse(condition.text) {
                    Ok(parsed) => self.references(place, condition, parsed.references(), ordered),
                    Err(errors) => self.unreadable(condition, errors),
                }
            }
            // One that is too long is a problem already.
            for (_, value) in stage.env.iter().filter(|(_, value)| value.text.len() <= VALUE_LIMIT) {
                match Template::parse(value.text) {
                    Ok(parsed) => self.references(place, value, parsed.references(), ordered),
                    Err(errors) => self.unreadable(value, errors),
                }
            }
            self.variables(stage);
        }
    }

    fn unreadable(&mut self, text: &Text<'a>, errors: Vec<ParseError>) {
        let locator = text.node.locator(self.source);
        for error in errors {
            let at = within(&locator, &error.at);
            let problem = match &error.unknown {
                Some((word, known)) => self.problems.unknown(at, error.message, word, known.iter().copied()),
                None => self.problems.error(at, error.message),
            };
            problem.help = error.help;
        }
    }

    fn references(
        &mut self,
        place: usize,
        text: &Text<'a>,
        found: Vec<(&Reference, Range<usize>)>,
        ordered: bool,
    ) {
        let locator = text.node.locator(self.source);
        for (reference, at) in found {
            let at = within(&locator, &at);
            match reference {
                Reference::Param(name) => self.param(at, name),
                Reference::Output { stage, .. } | Reference::Status { stage } => {
                    self.ancestor(place, at, stage, ordered)
                }
                Reference::Environment(_) if self.stage(place).environment.is_none() => {
                    let name = self.stage(place).name.text;
                    self.error(at, format!("the stage {name:?} names no environment"));
                }
                Reference::Environment(_) | Reference::Run(_) | Reference::Commit(_) => {}
            }
        }
    }

    fn param(&mut self, at: Range<usize>, name: &str) {
        if self.params.contains(name) {
            return;
        }
        let known = self.spec.params.iter().map(|param| param.name.text);
        self.problems
            .unknown(at, format!("unknown param {name:?}"), name, known)
            .help("params are declared under `params:` of the pipeline");
    }

    fn ancestor(&mut self, place: usize, at: Range<usize>, name: &str, ordered: bool) {
        let own = self.stage(place).name.text;
        match self.stages.get(name) {
            None => {
                let known = self.stage_names().filter(|known| *known != own);
                self.problems.unknown(at, format!("unknown stage {name:?}"), name, known);
            }
            Some(found) if *found == place => {
                self.error(at, format!("the stage {name:?} cannot read what it has not done yet"));
            }
            Some(found) if ordered && !self.graph.ancestors(place).contains(*found) => {
                let after = self.graph.ancestors(*found).contains(place);
                let message =
                    format!("the stage {name:?} does not come before {own:?}, which cannot read from it");
                self.error(at, message).help(match after {
                    true => format!("{name:?} comes after {own:?}"),
                    false => format!("add {name:?} to `needs`"),
                });
            }
            Some(_) => {}
        }
    }

    /// The names of environment variables: not the runner's, and none twice.
    fn variables(&mut self, stage: &'a Stage<'a>) {
        let env = stage.env.iter().map(|(name, _)| (name.text, name.at.clone()));
        let secrets = stage.secrets.iter().map(|secret| (secret.text, secret.node.at.clone()));
        let mut seen = HashSet::new();
        for (name, at) in env.chain(secrets) {
            if text::variable(name).is_err() {
                continue;
            }
            if RESERVED.contains(&name) || name.starts_with("WINDLASS_") {
                self.error(at, format!("the variable {name} is set by Windlass itself"));
            } else if !seen.insert(name) {
                self.error(at, format!("the variable {name} is given twice"));
            }
        }
    }
}

/// Bytes of the file for bytes of a value.
fn within(locator: &Locator, at: &Range<usize>) -> Range<usize> {
    let start = locator.locate(at.start);
    let end = match at.end > at.start {
        true => locator.locate(at.end - 1) + 1,
        false => start,
    };
    start..end.max(start)
}

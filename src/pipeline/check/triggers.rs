//! `on`: what the patterns allow, where a pull request ends, and that schedules differ.

use std::collections::HashSet;

use super::super::cron;
use super::super::spec::{Kind, PullRequest, Text};
use super::Check;

/// Most patterns in one list: a push asks all of them.
const LIMIT: usize = 100;

impl<'a> Check<'a> {
    pub(super) fn triggers(&mut self) {
        let on = &self.spec.on;
        if let Some(push) = &on.push {
            self.patterns(&push.branches);
            self.patterns(&push.tags);
            self.patterns(&push.paths);
        }
        if let Some(request) = &on.pull_request {
            self.patterns(&request.branches);
            self.patterns(&request.paths);
            self.until(request);
        }
        self.schedules();
    }

    /// That a list begins with what it allows, and is not endless.
    pub(super) fn patterns(&mut self, patterns: &[Text<'a>]) {
        if let Some(first) = patterns.first().filter(|first| first.text.starts_with('!')) {
            let message = format!("{:?} takes back what no pattern before it allowed", first.text);
            self.error(first.node.at.clone(), message)
                .help("begin with what is allowed: \"**\" is everything");
        }
        if let Some(beyond) = patterns.get(LIMIT) {
            let message = format!("a list has at most {LIMIT} patterns, this one {}", patterns.len());
            self.error(beyond.node.at.clone(), message);
        }
    }

    /// A pull request never touches an environment: its run ends before the first.
    fn until(&mut self, request: &PullRequest<'a>) {
        let mut seen = HashSet::new();
        let tangled = self.tangled();
        for named in &request.until {
            let at = named.node.at.clone();
            if !seen.insert(named.text) {
                self.error(at, format!("the stage {:?} is named twice", named.text));
                continue;
            }
            match self.stages.get(named.text).copied() {
                Some(place) if self.is_ordered(place, &tangled) => self.until_stage(named, place),
                Some(_) => {}
                // A name against the convention is a problem already.
                None if crate::ids::check_name(named.text).is_err() => {}
                None => {
                    let message = format!("unknown stage {:?} in until", named.text);
                    let known = self.stage_names();
                    self.problems.unknown(at, message, named.text, known);
                }
            }
        }
        if request.until.is_empty()
            && let Some(stage) = self.spec.stages.iter().find(|stage| stage.environment.is_some())
        {
            let message = format!(
                "\"pull_request\" has no \"until\", and the stage {:?} names an environment",
                stage.name.text
            );
            self.error(request.at.clone(), message).help(
                "a pull request never touches an environment; name the stages that its run ends with: until: [test, build]",
            );
        }
    }

    fn until_stage(&mut self, named: &Text<'a>, place: usize) {
        let touches = |stage: usize| {
            let stage = self.stage(stage);
            stage.environment.is_some() || matches!(stage.kind, Some(Kind::Deploy))
        };
        let message = if touches(place) {
            format!("the stage {:?} touches an environment, which a pull request never does", named.text)
        } else if let Some(before) = self.graph.ancestors(place).iter().find(|before| touches(*before)) {
            let before = self.stage(before).name.text;
            format!(
                "{:?} comes after {before:?}, which touches an environment, and a pull request never does",
                named.text
            )
        } else {
            return;
        };
        self.error(named.node.at.clone(), message)
            .help("name stages that come before every one with an `environment`");
    }

    fn schedules(&mut self) {
        let schedules = &self.spec.on.schedules;
        if let Some(beyond) = schedules.get(cron::LIMIT) {
            let most = cron::LIMIT;
            let message = format!("a pipeline has at most {most} schedules, this one {}", schedules.len());
            self.error(beyond.at.clone(), message);
            return;
        }
        let mut seen = HashSet::new();
        for schedule in schedules {
            let text = |text: &Option<Text<'a>>| text.map(|text| text.text);
            let Some(cron) = schedule.cron else { continue };
            let key = (cron.text, text(&schedule.timezone).unwrap_or("UTC"), text(&schedule.branch));
            if !seen.insert(key) {
                self.error(cron.node.at.clone(), format!("the schedule {:?} is given twice", cron.text));
            }
        }
    }
}

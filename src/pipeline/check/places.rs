//! What the settings must have for the pipeline: environments, fleets, secrets.

use crate::ids::PipelineName;

use super::super::problem::Problem;
use super::super::spec::{Bake, Kind, Text};
use super::{Check, Surroundings};

impl<'a> Check<'a> {
    pub(super) fn places(&mut self, surroundings: &Surroundings) {
        let service: Option<PipelineName> = self.spec.name.and_then(|name| name.text.parse().ok());
        let tangled = self.tangled();
        for (place, stage) in self.spec.stages.iter().enumerate() {
            if let Some(environment) = &stage.environment {
                self.environment(environment, service.as_ref(), surroundings);
            }
            if let Some(Kind::Bake(bake)) = &stage.kind
                && let Some(from) = &bake.from
            {
                self.environment(from, service.as_ref(), surroundings);
            }
            if let (Some(Kind::Bake(bake)), Some(service)) = (&stage.kind, &service) {
                self.bakes(place, bake, service, surroundings);
            }
            for secret in &stage.secrets {
                self.secret(secret, surroundings);
            }
            if matches!(stage.kind, Some(Kind::Deploy)) && self.is_ordered(place, &tangled) {
                self.certified(place, surroundings);
            }
        }
    }

    fn environment(&mut self, named: &Text<'a>, service: Option<&PipelineName>, surroundings: &Surroundings) {
        if crate::ids::check_name(named.text).is_err() {
            return;
        }
        let at = named.node.at.clone();
        let Some(environment) = surroundings.environments.get(named.text) else {
            let known = surroundings.environments.keys().map(|name| name.as_str());
            let message = format!("unknown environment {:?}", named.text);
            let problem = self.problems.unknown(at, message, named.text, known);
            missing(problem, surroundings, || match surroundings.environments.len() {
                0 => format!("{} has no environments", surroundings.settings),
                _ => {
                    let names: Vec<&str> =
                        surroundings.environments.keys().map(|name| name.as_str()).collect();
                    format!("{} has {}", surroundings.settings, names.join(", "))
                }
            });
            return;
        };
        if let Some(service) = service
            && !environment.services.contains(service)
        {
            let message = format!("the environment {:?} has no fleet for {service}", named.text);
            let settings = &surroundings.settings;
            self.error(at, message).help(format!("add `fleets: {{ {service}: … }}` to it in {settings}"));
        }
    }

    /// What an image starts from has to be something that the service's cloud knows.
    fn bakes(
        &mut self,
        place: usize,
        bake: &'a Bake<'a>,
        service: &PipelineName,
        surroundings: &Surroundings,
    ) {
        let at = self.stage(place).name.at.clone();
        let machines = surroundings.machines.as_ref().filter(|machines| !machines.except.contains(service));
        let base = bake.base.as_ref();
        let Some(machines) = machines else {
            if let Some(base) = base.filter(|base| base.directory.is_none()) {
                self.error(base.at.clone(), "a machine image is no base in the local cloud")
                    .help("base: { directory: base/ } names a directory of the commit");
            }
            return;
        };
        if !machines.builder {
            let message = format!("{} does not say on what machine images are made", surroundings.settings);
            self.error(at.clone(), message)
                .help("clouds: { aws: { builder: { type: t3.small, subnet: subnet-1 } } }");
        }
        const BASE: &str =
            "base: { ami: ami-0abc }, or base: { name: \"debian-12-*\", owner: \"136693071363\" }";
        match base {
            Some(base) if base.directory.is_some() => {
                self.error(
                    base.at.clone(),
                    "a directory is no base on AWS: images there start from a machine image",
                )
                .help(BASE);
            }
            None if bake.from.is_none() => {
                self.error(at, "there is nothing that this image could start from").help(BASE);
            }
            None => {
                self.problems
                    .warning(at, "there is nothing to start from before the first image is certified")
                    .help(BASE);
            }
            Some(_) => {}
        }
    }

    fn secret(&mut self, named: &Text<'a>, surroundings: &Surroundings) {
        if super::super::text::variable(named.text).is_err() || surroundings.secrets.contains(named.text) {
            return;
        }
        let known = surroundings.secrets.iter().map(String::as_str);
        let message = format!("unknown secret {:?}", named.text);
        let problem = self.problems.unknown(named.node.at.clone(), message, named.text, known);
        missing(problem, surroundings, || {
            format!(
                "name it in {}: `secrets: {{ {}: {{ env: {} }} }}`",
                surroundings.settings, named.text, named.text
            )
        });
    }

    /// An environment that asks for a certified image will refuse one that nothing certifies.
    fn certified(&mut self, place: usize, surroundings: &Surroundings) {
        let stage = self.stage(place);
        let Some(environment) = &stage.environment else { return };
        let asks = surroundings.environments.get(environment.text).is_some_and(|found| found.certified_only);
        let certify = |ancestor| matches!(self.stage(ancestor).kind, Some(Kind::Certify));
        if asks && !self.graph.ancestors(place).iter().any(certify) {
            let message = format!(
                "{:?} takes certified images only, and no certify stage comes before {:?}",
                environment.text, stage.name.text
            );
            self.problems
                .warning(environment.node.at.clone(), message)
                .help("let it need a stage with `uses: certify`");
        }
    }
}

/// Says what to do about something that the settings do not have.
fn missing(problem: &mut Problem, surroundings: &Surroundings, otherwise: impl FnOnce() -> String) {
    match surroundings.settings.is_empty() {
        true => problem.help("there are no settings; name the file with `--config`"),
        false if problem.suggestion.is_none() => problem.help(otherwise()),
        false => problem,
    };
}

//! Makes the model of a pipeline in which no check found an error.

use std::time::Duration;

use super::super::expression::{Expression, Template};
use super::super::graph::Graph;
use super::super::model::{
    Bake, Base, Coverage, CoverageFormat, Kind, Param, Patterns, Pipeline, PullRequest, Push, Queue, Reports,
    Retry, RetryOn, Schedule, Script, Shell, ShellStep, Source, Stage, Triggers, Upload,
};
use super::super::{shape, spec, text};

/// How long one attempt of a stage may take unless the author says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3600);

/// Nothing if a value is missing that the checks let through, which would be a defect of theirs.
pub(super) fn pipeline(written: &spec::Pipeline<'_>, graph: &Graph) -> Option<Pipeline> {
    let params = written.params.iter().map(|param| {
        let default = param.default.map(|text| text.text.to_owned());
        let description = param.description.map(|text| text.text.to_owned()).unwrap_or_default();
        (param.name.text.to_owned(), Param { default, description })
    });
    let stages =
        written.stages.iter().enumerate().map(|(place, stage)| self::stage(written, stage, graph, place));
    Some(Pipeline {
        name: written.name?.text.parse().ok()?,
        source: match (written.git, written.github) {
            (Some(git), _) => Some(Source::Git(git.text.to_owned())),
            (None, github) => github.map(|github| Source::GitHub(github.text.to_owned())),
        },
        on: triggers(&written.on)?,
        queue: match written.queue.map(|queue| queue.text) {
            Some("every") => Queue::Every,
            _ => Queue::Newest,
        },
        params: params.collect(),
        stages: stages.collect::<Option<_>>()?,
    })
}

fn stage(
    pipeline: &spec::Pipeline<'_>,
    written: &spec::Stage<'_>,
    graph: &Graph,
    place: usize,
) -> Option<Stage> {
    let kind = match written.kind.as_ref()? {
        spec::Kind::Checkout => Kind::Checkout,
        spec::Kind::Script { steps, artifacts, reports } => Kind::Script(Script {
            steps: steps.iter().map(step).collect::<Option<_>>()?,
            artifacts: (artifacts.iter())
                .map(|(name, path)| Some((name.text.parse().ok()?, text::path(path.text).ok()?)))
                .collect::<Option<_>>()?,
            reports: match reports {
                Some(written) => self::reports(written)?,
                None => Reports::default(),
            },
        }),
        spec::Kind::Upload { artifacts } => Kind::Upload(Upload { artifacts: names(artifacts)? }),
        spec::Kind::Bake(written) => Kind::Bake(bake(pipeline, written, graph, place)?),
        spec::Kind::Deploy => Kind::Deploy,
        spec::Kind::Certify => Kind::Certify,
    };
    Some(Stage {
        name: written.name.text.parse().ok()?,
        kind,
        needs: names(&written.needs)?,
        condition: match &written.condition {
            Some(condition) => Some(Expression::parse(condition.text).ok()?),
            None => None,
        },
        environment: match &written.environment {
            Some(environment) => Some(environment.text.parse().ok()?),
            None => None,
        },
        timeout: match &written.timeout {
            Some(timeout) => text::duration(timeout.text).ok()?,
            None => TIMEOUT,
        },
        retry: retry(written)?,
        env: (written.env.iter())
            .map(|(name, value)| Some((name.text.to_owned(), Template::parse(value.text).ok()?)))
            .collect::<Option<_>>()?,
        secrets: written.secrets.iter().map(|secret| secret.text.to_owned()).collect(),
    })
}

fn triggers(written: &spec::Triggers<'_>) -> Option<Triggers> {
    let schedule = |written: &spec::Schedule<'_>| {
        Some(Schedule {
            cron: written.cron?.text.to_owned(),
            timezone: written.timezone.map_or("UTC", |timezone| timezone.text).to_owned(),
            branch: written.branch.map(|branch| branch.text.to_owned()),
        })
    };
    Some(Triggers {
        push: written.push.as_ref().map(|push| Push {
            branches: patterns(&push.branches),
            tags: patterns(&push.tags),
            paths: patterns(&push.paths),
        }),
        pull_request: match &written.pull_request {
            Some(written) => Some(PullRequest {
                branches: patterns(&written.branches),
                paths: patterns(&written.paths),
                until: names(&written.until)?,
            }),
            None => None,
        },
        schedules: written.schedules.iter().map(schedule).collect::<Option<_>>()?,
    })
}

fn patterns(texts: &[spec::Text<'_>]) -> Patterns {
    Patterns(texts.iter().map(|text| text.text.to_owned()).collect())
}

fn reports(written: &spec::Reports<'_>) -> Option<Reports> {
    let coverage = match &written.coverage {
        None => None,
        Some(coverage) => {
            let (format, files) = match (&coverage.lcov, &coverage.cobertura) {
                (Some(files), _) => (CoverageFormat::Lcov, files),
                (None, files) => (CoverageFormat::Cobertura, files.as_ref()?),
            };
            let at_least = match &coverage.at_least {
                Some(at_least) => Some(text::per_cent(at_least.text).ok()?),
                None => None,
            };
            Some(Coverage { format, files: patterns(files), at_least })
        }
    };
    Some(Reports { junit: patterns(written.junit.as_deref().unwrap_or_default()), coverage })
}

fn names<T: std::str::FromStr>(texts: &[spec::Text<'_>]) -> Option<Vec<T>> {
    texts.iter().map(|text| text.text.parse().ok()).collect()
}

fn step(written: &spec::Step<'_>) -> Option<ShellStep> {
    let run = written.run?.text;
    let first = run.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Some(ShellStep {
        name: written.name.map_or(first, |name| name.text).to_owned(),
        run: run.to_owned(),
        shell: match written.shell.map(|shell| shell.text) {
            Some("bash") => Shell::Bash,
            _ => Shell::Sh,
        },
    })
}

fn retry(written: &spec::Stage<'_>) -> Option<Retry> {
    let Some(attempts) = written.attempts else { return Some(Retry { attempts: 1, on: Vec::new() }) };
    let attempts = shape::whole(attempts, 1, u64::from(u32::MAX), "attempts").ok()?;
    let on = match &written.retry_on {
        None => vec![RetryOn::Infrastructure],
        Some(causes) => (causes.iter())
            .map(|cause| match cause.text {
                "task" => Some(RetryOn::Task),
                "infrastructure" => Some(RetryOn::Infrastructure),
                "timeout" => Some(RetryOn::Timeout),
                _ => None,
            })
            .collect::<Option<_>>()?,
    };
    Some(Retry { attempts: u32::try_from(attempts).ok()?, on })
}

fn bake(
    pipeline: &spec::Pipeline<'_>,
    written: &spec::Bake<'_>,
    graph: &Graph,
    place: usize,
) -> Option<Bake> {
    let artifacts = match &written.artifacts {
        Some(named) => names(named)?,
        // Every artifact uploaded by an ancestor, each once, in the order of the file.
        None => {
            let mut all = Vec::new();
            for ancestor in graph.ancestors(place).iter() {
                if let Some(spec::Kind::Upload { artifacts }) = &pipeline.stages.get(ancestor)?.kind {
                    for artifact in names(artifacts)? {
                        if !all.contains(&artifact) {
                            all.push(artifact);
                        }
                    }
                }
            }
            all
        }
    };
    Some(Bake {
        from: match &written.from {
            Some(from) => Some(from.text.parse().ok()?),
            None => None,
        },
        base: match &written.base {
            Some(written) => Some(base(written)?),
            None => None,
        },
        artifacts,
        files: written.files.iter().map(|file| text::path(file.text).ok()).collect::<Option<_>>()?,
        provision: written.provision.iter().map(step).collect::<Option<_>>()?,
        start: written.start?.text.to_owned(),
    })
}

fn base(written: &spec::Base<'_>) -> Option<Base> {
    Some(match (&written.directory, &written.ami, &written.name) {
        (Some(directory), _, _) => Base::Directory(text::path(directory.text).ok()?),
        (None, Some(ami), _) => Base::Ami(ami.text.to_owned()),
        (None, None, name) => {
            let owner = written.owner.as_ref()?.text.to_owned();
            Base::Newest { name: name.as_ref()?.text.to_owned(), owner }
        }
    })
}

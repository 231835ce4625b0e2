use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use serde::Serialize;

use super::{Error, Exit, Io, json, policy, text};
use crate::cloud::finding::{Finding, Findings, Found};
use crate::config::{Place, Settings};
use crate::ids::{FleetId, PipelineName};
use crate::pipeline::model::Pipeline;
use crate::pipeline::problem::Style;

/// Say what is missing before the first run
///
/// Looks at what the settings name: ports on this machine for local fleets; on AWS credentials, roles,
/// the bucket, the builder, and of each fleet its network, types, target groups, Auto Scaling group and
/// quota. Changes nothing. With pipelines, also at what images start from. Exits with 2 when something is
/// missing, and with 3 when AWS does not answer.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only what this service needs
    #[arg(value_name = "SERVICE")]
    pub service: Option<PipelineName>,
    /// The settings
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// A pipeline that will run with them; may be given several times
    #[arg(long, value_name = "FILE")]
    pub pipeline: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// As `--json` prints it. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Report {
    /// Nothing is missing.
    ok: bool,
    findings: Vec<Finding>,
    /// What was asked of AWS.
    #[cfg(feature = "aws")]
    requests: std::collections::BTreeMap<String, crate::cloud::aws::limiter::Count>,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let (mut out, mut err) = (anstream::stdout(), anstream::stderr());
    let read = policy::read(
        &args.config,
        &args.pipeline,
        &mut Io { out: &mut std::io::sink(), err: &mut err, style: Style::Plain },
    )?;
    let Some((settings, pipelines)) = read else { return Ok(Exit::Invalid) };
    let services = services(&settings, &pipelines, args.service.as_ref())?;
    let mut findings = Findings::default();
    let local = local(&settings, &services, &mut findings);
    let report = examine(&settings, &pipelines, services, findings).await?;
    if args.json {
        writeln!(out, "{}", json(&report)?)?;
    } else {
        print(&report, local, &mut out)?;
    }
    Ok(if report.ok { Exit::Good } else { Exit::Invalid })
}

/// The services that are meant.
fn services(
    settings: &Settings,
    pipelines: &[Pipeline],
    wanted: Option<&PipelineName>,
) -> Result<BTreeSet<PipelineName>, Error> {
    let fleets = settings.environments.values().flat_map(|policy| policy.fleets.keys());
    let known = fleets.chain(pipelines.iter().map(|pipeline| &pipeline.name));
    let known: BTreeSet<PipelineName> = known.cloned().collect();
    match wanted {
        None => Ok(known),
        Some(wanted) if known.contains(wanted) => Ok(BTreeSet::from([wanted.clone()])),
        Some(wanted) => {
            let error = Error::input(format!("no environment of the settings has a fleet of {wanted}"));
            Err(match super::nearest(wanted.as_ref(), known.iter().map(AsRef::as_ref)) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error,
            })
        }
    }
}

/// Looks at the local fleets. Whether there are any.
fn local(settings: &Settings, services: &BTreeSet<PipelineName>, findings: &mut Findings) -> bool {
    let mut any = false;
    for (environment, policy) in &settings.environments {
        for (service, fleet) in policy.fleets.iter().filter(|(service, _)| services.contains(*service)) {
            if fleet.place != Place::Local {
                continue;
            }
            any = true;
            let about =
                format!("{}: port {}", FleetId::new(service.clone(), environment.clone()), fleet.port);
            match TcpListener::bind((Ipv4Addr::LOCALHOST, fleet.port)) {
                Ok(_) => findings.ok(about, "free"),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => findings.unchecked(
                    about,
                    "somebody listens there already, which is well where it is the fleet's own balancer",
                    "windlass status shows whether the fleet runs; else give it another port",
                ),
                Err(error) => {
                    findings.missing(
                        about,
                        format!("nobody may listen there: {error}"),
                        "give it another port",
                    );
                }
            }
        }
    }
    any
}

#[cfg(not(feature = "aws"))]
async fn examine(
    settings: &Settings,
    _pipelines: &[Pipeline],
    _services: BTreeSet<PipelineName>,
    mut findings: Findings,
) -> Result<Report, Error> {
    if settings.aws.is_some() {
        findings.missing(
            "AWS",
            "this program was built without it",
            "cargo build --features aws builds one that has it",
        );
    }
    Ok(report(findings))
}

#[cfg(not(feature = "aws"))]
fn report(findings: Findings) -> Report {
    Report { ok: whole(&findings), findings: findings.0 }
}

#[cfg(feature = "aws")]
async fn examine(
    settings: &Settings,
    pipelines: &[Pipeline],
    services: BTreeSet<PipelineName>,
    mut findings: Findings,
) -> Result<Report, Error> {
    use crate::app;
    use crate::cloud::aws::doctor::Plan;
    use crate::cloud::setup;
    use crate::cloud::{self, Base};
    use crate::pipeline::model::{Base as Written, Kind};

    let fleets = settings.environments.iter().flat_map(|(environment, policy)| {
        let fleets = policy.fleets.iter().filter(|(service, _)| services.contains(*service));
        fleets.filter_map(|(service, fleet)| match &fleet.place {
            Place::Aws(there) => {
                let id = FleetId::new(service.clone(), environment.clone());
                Some((id.clone(), (**there).clone(), (id, demand(fleet))))
            }
            Place::Local => None,
        })
    });
    let mut plan =
        Plan { service: services.first().cloned().filter(|_| services.len() == 1), ..Plan::default() };
    let mut on_aws = std::collections::BTreeMap::new();
    for (id, fleet, (demanded, demand)) in fleets {
        on_aws.insert(id, fleet);
        plan.fleets.insert(demanded, demand);
    }
    let local = on_aws.is_empty() && !findings.0.is_empty();
    let Some((account, builder)) = settings.aws.clone().filter(|_| !local) else {
        return Ok(Report { ok: whole(&findings), findings: findings.0, requests: Default::default() });
    };
    for stage in pipelines.iter().filter(|one| services.contains(&one.name)).flat_map(|one| &one.stages) {
        let Kind::Bake(bake) = &stage.kind else { continue };
        plan.bases.extend(match &bake.base {
            Some(Written::Ami(id)) => Some(Base::Id(id.clone())),
            Some(Written::Newest { name, owner }) => {
                Some(Base::Newest { name: name.clone(), owner: owner.clone() })
            }
            Some(Written::Directory(_)) | None => None,
        });
    }
    let setup = std::sync::Arc::new(setup::Aws { account, builder, fleets: on_aws });
    let (found, requests) = app::examine(&setup, &plan).await.map_err(|error| match error {
        cloud::Error::Ambiguous(_) | cloud::Error::Throttled { .. } => {
            Error::world(format!("AWS in {} does not answer: {error}", setup.account.region))
                .hint("is there a way out to AWS from here, and is AWS_ENDPOINT_URL what it should be?")
        }
        other => Error::world(other),
    })?;
    findings.0.extend(found);
    Ok(Report { ok: whole(&findings), findings: findings.0, requests })
}

#[cfg(feature = "aws")]
fn demand(fleet: &crate::config::Fleet) -> crate::cloud::aws::doctor::Demand {
    use crate::cloud::aws::doctor::Demand;
    use crate::rollout::Strategy;

    let size = fleet.size;
    match &fleet.strategy {
        Strategy::Rolling(rolling) => {
            Demand { size, more: rolling.surge, batch: rolling.batch, blue_green: false }
        }
        Strategy::BlueGreen { .. } => Demand { size, more: size, batch: size, blue_green: true },
    }
}

fn whole(findings: &Findings) -> bool {
    findings.0.iter().all(|finding| finding.found != Found::Missing)
}

fn print(report: &Report, local: bool, out: &mut impl std::io::Write) -> std::io::Result<()> {
    for finding in &report.findings {
        let (style, word) = match finding.found {
            Found::Ok => (text::GREEN, "ok"),
            Found::Missing => (text::RED, "missing"),
            Found::Unchecked => (text::YELLOW, "not checked"),
        };
        let says = text::clean_lines(&finding.says);
        writeln!(out, "{style}{word:<11}{style:#} {}: {says}", finding.about)?;
        if let Some(next) = &finding.next {
            writeln!(out, "{:<11} next: {}", "", text::clean_lines(next))?;
        }
    }
    let missing = report.findings.iter().filter(|finding| finding.found == Found::Missing).count();
    let unchecked = report.findings.iter().filter(|finding| finding.found == Found::Unchecked).count();
    let unchecked = match unchecked {
        0 => String::new(),
        count => format!("; {count} not checked"),
    };
    match (missing, local) {
        (0, true) if report.findings.iter().all(|finding| finding.about.contains("port")) => {
            writeln!(out, "everything that is needed is here, on this machine{unchecked}")
        }
        (0, _) => writeln!(out, "nothing is missing{unchecked}"),
        (1, _) => writeln!(out, "1 thing is missing{unchecked}"),
        (count, _) => writeln!(out, "{count} things are missing{unchecked}"),
    }
}

//! What is missing on AWS before the first run.
//!
//! It looks, and changes nothing: whether something may be launched is asked by a dry run, and whether
//! something may be written by an upload that is begun and given up. One request after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::client::Client;
use super::operations::GET_CALLER_IDENTITY;
use super::{Accounts, Aws};
use crate::cloud::finding::{Finding, Findings};
use crate::cloud::setup::{self, Builder, Instances};
use crate::cloud::{Base, Compute, Error};
use crate::ids::{FleetId, ImageId, PipelineName};

mod bucket;
mod fleets;
mod launch;
mod network;
mod targets;

/// What will be asked of AWS.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub service: Option<PipelineName>,
    /// What images start from the first time.
    pub bases: Vec<Base>,
    pub fleets: BTreeMap<FleetId, Demand>,
}

/// What a fleet takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    pub size: u32,
    /// Instances above the size while it is turned over.
    pub more: u32,
    /// So many go in at a time.
    pub batch: u32,
    pub blue_green: bool,
}

impl Accounts {
    /// Looks at all that a service needs.
    ///
    /// # Errors
    /// [`Error::Ambiguous`]: AWS is not reached, so that nothing can be said.
    pub async fn examine(&self, setup: &Arc<setup::Aws>, plan: &Plan) -> Result<Vec<Finding>, Error> {
        let aws = Aws::new(setup.clone(), &self.clients);
        let mut findings = Findings::default();
        Doctor { aws: &aws, plan, findings: &mut findings }.examine().await?;
        Ok(findings.0)
    }

    /// What became of all requests of this process, by operation.
    pub fn requests(&self) -> BTreeMap<String, super::limiter::Count> {
        self.clients.tally().counts()
    }
}

struct Doctor<'a> {
    aws: &'a Aws,
    plan: &'a Plan,
    findings: &'a mut Findings,
}

impl<'a> Doctor<'a> {
    async fn examine(&mut self) -> Result<(), Error> {
        let Some(able) = self.credentials().await? else { return Ok(()) };
        let setup = self.aws.setup.as_ref();
        let account = &setup.account;
        let mut image = None;
        if able.contains(&account.role.as_deref()) {
            self.bucket().await;
            image = self.image().await;
            match &setup.builder {
                Some(builder) => self.builder(builder, image.as_ref()).await,
                None => self.findings.unchecked(
                    "builder",
                    "the settings name none, so no image can be made",
                    "clouds.aws.builder: { type: t3.small, subnet: subnet-1, security_groups: [sg-1] }",
                ),
            }
        }
        for (id, fleet) in &setup.fleets {
            let role = fleet.role.as_deref().or(account.role.as_deref());
            let Some(demand) = self.plan.fleets.get(id).filter(|_| able.contains(&role)) else { continue };
            let client = self.aws.clients.get(account, role);
            let vpc = match &fleet.instances {
                Instances::Plain(spec) => self.plain(&client, id, spec, *demand, image.as_ref()).await,
                Instances::Group(name) => self.group(&client, id, fleet, name, *demand).await,
            };
            self.targets(&client, id, fleet, *demand, vpc.as_deref()).await;
        }
        Ok(())
    }

    /// Who we are with each role. Those that work; `None` where not even the own credentials do.
    async fn credentials(&mut self) -> Result<Option<BTreeSet<Option<&'a str>>>, Error> {
        let setup = self.aws.setup.as_ref();
        let account = &setup.account;
        let roles = setup.fleets.values().map(|fleet| fleet.role.as_deref());
        let roles: BTreeSet<&str> = roles.chain([account.role.as_deref()]).flatten().collect();
        match who(&self.aws.clients.get(account, None)).await {
            Ok(who) => self.findings.ok("credentials", who),
            Err(error @ Error::Denied(_)) => {
                self.findings.missing(
                    "credentials",
                    error.to_string(),
                    "aws sts get-caller-identity says the same",
                );
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut able = BTreeSet::from([None]);
        for role in roles {
            let about = format!("role {role}");
            match who(&self.aws.clients.get(account, Some(role))).await {
                Ok(who) => {
                    self.findings.ok(about, who);
                    able.insert(Some(role));
                }
                Err(error) => {
                    let next = "let its trust policy name these credentials; what it is for is not checked";
                    self.findings.failed(about, &error, next);
                }
            }
        }
        Ok(Some(able))
    }

    /// An image that the builder may start from.
    async fn image(&mut self) -> Option<ImageId> {
        let mut found = None;
        for base in &self.plan.bases {
            let about = match base {
                Base::Id(id) => format!("base image {id}"),
                Base::Newest { name, owner } => format!("base image {name} of {owner}"),
            };
            match self.aws.find_base(base).await {
                Ok(id) => {
                    self.findings.ok(about, format!("the newest is {id}"));
                    found = found.or(Some(id));
                }
                Err(error) => {
                    let next =
                        "bake's base in the pipeline names it: an id of this region, or owner and name";
                    self.findings.failed(about, &error, next);
                }
            }
        }
        let service = self.plan.service.clone();
        let services = service.into_iter().chain(self.plan.fleets.keys().map(|id| id.service.clone()));
        for service in services.collect::<BTreeSet<_>>() {
            if found.is_none() {
                let known = self.aws.certified_images(&service).await.unwrap_or_default();
                found = known.into_iter().next().map(|image| image.id);
            }
        }
        found
    }

    async fn builder(&mut self, builder: &Builder, image: Option<&ImageId>) {
        let client = self.aws.client.clone();
        let place = network::Place {
            about: "builder".to_owned(),
            types: std::slice::from_ref(&builder.instance_type),
            subnets: std::slice::from_ref(&builder.subnet),
            security_groups: &builder.security_groups,
            settings: "clouds.aws.builder",
        };
        if self.network(&client, &place).await.is_some() {
            let service = self.plan.service.as_ref().or(self.plan.fleets.keys().next().map(|id| &id.service));
            self.may_launch(&client, &place, builder.profile.as_deref(), image, service).await;
        }
    }
}

/// Who is asking, as AWS sees it.
async fn who(client: &Client) -> Result<String, Error> {
    let answer =
        client.call(GET_CALLER_IDENTITY, |services| services.sts.get_caller_identity().send()).await?;
    Ok(format!("{} in {}", answer.arn().unwrap_or("somebody"), client.region()))
}

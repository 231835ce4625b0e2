//! The smallest IAM policy that works, of what the settings and pipelines use. Values to values.
//!
//! One document for each role that is assumed, and one for the credentials of the process itself. A
//! document allows the actions of [`operations`] that are sent with those credentials, and none else, on
//! the resources that the settings name; what Windlass makes is told by its tags ([`tags::SERVICE`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::operations::{self, ASSUME_ROLE, Need, Operation};
use super::tags;
use crate::cloud::setup::{Account, Builder, Fleet, Instances};
use crate::ids::{EnvironmentName, FleetId, PipelineName};

mod places;
#[cfg(test)]
mod tests;

/// A customer managed policy has so many characters at most, white space not counted ("IAM and AWS STS
/// quotas").
const MANAGED: usize = 6_144;

/// What is used on AWS.
#[derive(Debug, Clone)]
pub struct Uses {
    pub account: Account,
    /// Whether artifacts are kept there.
    pub objects: bool,
    /// Where images are made, if any are.
    pub builder: Option<Builder>,
    pub fleets: Vec<FleetUse>,
    /// What is made belongs to one of these.
    pub services: BTreeSet<PipelineName>,
}

/// A fleet that is turned over.
#[derive(Debug, Clone)]
pub struct FleetUse {
    pub id: FleetId,
    pub fleet: Fleet,
}

/// What certain credentials have to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The ARN of the role; `None`: the credentials of the process itself.
    pub role: Option<String>,
    /// Whose fleets are turned over with it.
    pub environments: BTreeSet<EnvironmentName>,
    pub policy: Policy,
    /// What a person has to know who uses it.
    pub notes: Vec<String>,
}

/// A policy as IAM takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    pub version: &'static str,
    pub statement: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    pub sid: String,
    pub effect: &'static str,
    pub action: BTreeSet<&'static str>,
    pub resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub condition: Condition,
}

/// By operator, then by key.
pub type Condition = BTreeMap<&'static str, BTreeMap<String, Vec<String>>>;

/// What is done with certain credentials.
#[derive(Debug, Default)]
struct Part<'a> {
    needs: BTreeSet<Need>,
    /// Whether images and artifacts are made with them.
    own: bool,
    bucket: Option<&'a str>,
    builder: Option<&'a Builder>,
    fleets: Vec<&'a FleetUse>,
    /// Roles that they assume.
    roles: BTreeSet<&'a str>,
}

/// A document for each role, those of the process first.
pub fn documents(uses: &Uses) -> Vec<Document> {
    let parts = parts(uses);
    parts.iter().map(|(role, part)| document(uses, *role, part)).collect()
}

/// What is done with which role.
fn parts(uses: &Uses) -> BTreeMap<Option<&str>, Part<'_>> {
    let own = uses.account.role.as_deref();
    let mut parts: BTreeMap<Option<&str>, Part<'_>> = BTreeMap::new();
    let part = parts.entry(own).or_default();
    part.needs.extend([Need::Gc, Need::Doctor]);
    part.own = true;
    if uses.objects {
        part.needs.insert(Need::Objects);
        part.bucket = Some(&uses.account.bucket);
    }
    if let Some(builder) = &uses.builder {
        part.needs.insert(Need::Bake);
        part.needs.extend(builder.ssm.then_some(Need::Ssm));
        part.bucket = Some(&uses.account.bucket);
        part.builder = Some(builder);
    }
    for used in &uses.fleets {
        let role = used.fleet.role.as_deref().or(own);
        let part = parts.entry(role).or_default();
        part.needs.extend([Need::Targets, Need::Gc, Need::Doctor, Need::Quotas]);
        part.needs.insert(match used.fleet.instances {
            Instances::Plain(_) => Need::Plain,
            Instances::Group(_) => Need::Groups,
        });
        if !used.fleet.standby_target_groups.is_empty() {
            part.needs.insert(Need::BlueGreen);
        }
        part.fleets.push(used);
    }
    let roles: BTreeSet<&str> = parts.keys().flatten().copied().collect();
    if !roles.is_empty() {
        parts.entry(None).or_default().roles = roles;
    }
    parts
}

fn document(uses: &Uses, role: Option<&str>, part: &Part<'_>) -> Document {
    let places = places::Places::new(uses, role, part);
    let needed = |operation: &&Operation| operation.needs.iter().any(|need| part.needs.contains(need));
    let mut statements: Vec<Statement> = Vec::new();
    let assume = (!part.roles.is_empty()).then_some(&ASSUME_ROLE);
    for grant in operations::all().filter(needed).chain(assume).flat_map(|operation| operation.grants) {
        for place in places.of(grant.on) {
            match statements.iter_mut().find(|statement| statement.sid == place.sid) {
                Some(statement) => drop(statement.action.insert(grant.action)),
                None => statements.push(Statement {
                    sid: place.sid,
                    effect: "Allow",
                    action: BTreeSet::from([grant.action]),
                    resource: place.resources,
                    condition: place.condition,
                }),
            }
        }
    }
    let policy = Policy { version: "2012-10-17", statement: statements };
    let mut notes = places.notes(&policy);
    let size = serde_json::to_string(&policy).map_or(0, |text| text.len());
    if size > MANAGED {
        notes.push(format!(
            "with {size} characters it is longer than the {MANAGED} of a managed policy: put it into the role \
             itself (aws iam put-role-policy), which takes 10240"
        ));
    }
    let environments = part.fleets.iter().map(|used| used.id.environment.clone()).collect();
    Document { role: role.map(str::to_owned), environments, policy, notes }
}

/// `{"StringEquals": {"aws:ResourceTag/windlass:service": [...]}}`
fn tagged(kind: &str, services: &BTreeSet<PipelineName>) -> Condition {
    let services = services.iter().map(ToString::to_string).collect();
    BTreeMap::from([("StringEquals", BTreeMap::from([(format!("{kind}/{}", tags::SERVICE), services)]))])
}

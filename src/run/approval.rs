//! PURE. Who may promote a run into an environment, and how many have to.
//!
//! The settings say it for each environment, and who people are. Always true: nobody counts twice; a
//! promotion of something else than what was shown voids what was said before.

use std::collections::{BTreeMap, BTreeSet};

use super::command::Refusal;
use super::event::{Actor, RunEvent, Shipment};
use super::state::RunState;
use crate::ids::EnvironmentName;

/// What an environment asks of a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// So many different people, at least 1.
    pub count: u32,
    /// Each of them has one of these; empty: anybody may.
    pub roles: BTreeSet<String>,
    /// Whether somebody who wrote a commit that ships may be one of them.
    pub author: bool,
    /// Whether the word of a command line may stand in for all of them.
    pub automation: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { count: 1, roles: BTreeSet::new(), author: true, automation: true }
    }
}

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    pub roles: BTreeSet<String>,
    /// The addresses they commit with, in lower case.
    pub emails: BTreeSet<String>,
    /// Their login on GitHub, which has addresses of its own.
    pub github: Option<String>,
}

/// All that the settings say about who may promote what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    pub environments: BTreeMap<EnvironmentName, Rules>,
    /// By the name that they act under.
    pub people: BTreeMap<String, Person>,
}

impl Policy {
    /// What the environment asks; one that the settings do not name asks for one yes of anybody.
    pub fn rules(&self, environment: &EnvironmentName) -> Rules {
        self.environments.get(environment).cloned().unwrap_or_default()
    }

    fn person(&self, name: &str) -> Option<&Person> {
        let same = |(known, _): &(&String, &Person)| known.eq_ignore_ascii_case(name);
        self.people.get(name).or_else(|| self.people.iter().find(same).map(|(_, person)| person))
    }

    /// Whether somebody has one of the roles that the environment asks for.
    pub fn has_role(&self, environment: &EnvironmentName, actor: &Actor) -> Result<(), Refusal> {
        let rules = self.rules(environment);
        if rules.roles.is_empty() {
            return Ok(());
        }
        let asked = rules.roles.iter().cloned().collect::<Vec<_>>().join(" or ");
        let why = match self.person(&actor.name) {
            Some(person) if !person.roles.is_disjoint(&rules.roles) => return Ok(()),
            Some(_) => format!("the environment asks for the role {asked}, which they do not have"),
            None => format!(
                "the environment asks for the role {asked}, and `people` in the settings does not know them"
            ),
        };
        Err(not_allowed(environment, actor, why))
    }

    /// Whether somebody may say yes to what ships.
    pub fn may_promote(
        &self,
        environment: &EnvironmentName,
        actor: &Actor,
        ships: &Shipment,
    ) -> Result<(), Refusal> {
        self.has_role(environment, actor)?;
        if self.rules(environment).author {
            return Ok(());
        }
        let refuse = |why: &str| Err(not_allowed(environment, actor, why.to_owned()));
        let Some(person) = self.person(&actor.name) else {
            return refuse(
                "nobody who wrote a commit that ships may, and `people` in the settings does not know them",
            );
        };
        if person.emails.is_empty() && person.github.is_none() {
            return refuse(
                "nobody who wrote a commit that ships may, and `people` in the settings knows no address of theirs",
            );
        }
        match ships.authors.iter().any(|author| person.wrote_as(author)) {
            true => refuse("they wrote a commit that ships, and somebody else has to look at it"),
            false => Ok(()),
        }
    }
}

impl Person {
    /// Whether `Name <address>` is them.
    fn wrote_as(&self, author: &str) -> bool {
        let address = author.rsplit_once('<').map_or(author, |(_, rest)| rest.trim_end_matches('>'));
        let address = address.trim().to_lowercase();
        // GitHub writes commits of people who keep their address private as ID+LOGIN@users.noreply.github.com,
        // older ones without the number (GitHub docs, "Setting your commit email address").
        let private = address.strip_suffix("@users.noreply.github.com");
        let login = private.map(|name| name.rsplit_once('+').map_or(name, |(_, login)| login));
        self.emails.contains(&address)
            || matches!((login, &self.github), (Some(login), Some(own)) if login.eq_ignore_ascii_case(own))
    }
}

fn not_allowed(environment: &EnvironmentName, actor: &Actor, why: String) -> Refusal {
    Refusal::NotAllowed { environment: environment.clone(), actor: actor.name.clone(), why }
}

/// Takes somebody's yes at a gate that the run stands at: it is one of several, or the last one.
pub fn approve(
    state: &RunState,
    environment: &EnvironmentName,
    actor: &Actor,
    policy: &Policy,
) -> Result<RunEvent, Refusal> {
    let nothing = Shipment::default();
    let gate = state.gates.get(environment);
    let approvals = gate.map(|gate| gate.approvals.as_slice()).unwrap_or_default();
    let count = policy.rules(environment).count as usize;
    if approvals.iter().any(|(_, by)| by.name.eq_ignore_ascii_case(&actor.name)) {
        return Err(Refusal::Twice {
            run: state.id.clone(),
            environment: environment.clone(),
            actor: actor.name.clone(),
            missing: count.saturating_sub(approvals.len()),
        });
    }
    policy.may_promote(environment, actor, gate.and_then(|gate| gate.undecided()).unwrap_or(&nothing))?;
    let (environment, actor) = (environment.clone(), actor.clone());
    Ok(match approvals.len() + 1 >= count {
        true => RunEvent::Promoted { environment, actor },
        false => RunEvent::Approved { environment, actor },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let person = |roles: &[&str], emails: &[&str]| Person {
            roles: roles.iter().map(ToString::to_string).collect(),
            emails: emails.iter().map(ToString::to_string).collect(),
            github: None,
        };
        let production = Rules {
            count: 2,
            roles: ["release-manager".to_owned()].into(),
            author: false,
            automation: false,
        };
        Policy {
            environments: [("production".parse().unwrap(), production)].into(),
            people: [
                ("ada".to_owned(), person(&["release-manager"], &["ada@example.com"])),
                ("bob".to_owned(), person(&["developer"], &["bob@example.com"])),
                ("eve".to_owned(), person(&["release-manager"], &[])),
                (
                    "hub".to_owned(),
                    Person { github: Some("hubot".to_owned()), ..person(&["release-manager"], &[]) },
                ),
            ]
            .into(),
        }
    }

    fn said(name: &str, authors: &[&str]) -> String {
        let ships =
            Shipment { authors: authors.iter().map(ToString::to_string).collect(), ..Shipment::default() };
        let may = policy().may_promote(&"production".parse().unwrap(), &Actor::unverified(name), &ships);
        may.err().map(|refusal| refusal.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_who_has_the_role_and_wrote_nothing_of_it_may() {
        assert_eq!(said("ada", &["Bob <bob@example.com>"]), "");
        assert_eq!(said("hub", &["Bob <bob@example.com>"]), "");
        assert!(said("ada", &["Ada L. <ADA@Example.com>"]).contains("wrote a commit that ships"));
        assert!(said("hub", &["H <17+Hubot@users.noreply.github.com>"]).contains("wrote a commit"));
        assert!(said("bob", &[]).contains("role release-manager, which they do not have"));
        assert!(said("mallory", &[]).contains("does not know them"));
        assert!(said("eve", &[]).contains("knows no address of theirs"));
    }

    #[test]
    fn without_rules_anybody_may() {
        let may = policy().may_promote(
            &"staging".parse().unwrap(),
            &Actor::unverified("mallory"),
            &Shipment::default(),
        );
        assert_eq!(may, Ok(()));
    }
}

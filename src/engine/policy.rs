//! What the settings say, in the words of the pure core.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{self, Settings};
use crate::ids::{EnvironmentName, PipelineName};
use crate::run::admission::Frozen;
use crate::run::approval::{Person, Policy, Rules};
use crate::run::decide::{Asks, Place};

/// What the settings say of the environments, as far as the service goes.
pub(super) fn places(settings: &Settings, service: &PipelineName) -> BTreeMap<EnvironmentName, Place> {
    let place = |environment: &config::Environment| Place {
        group: environment.group.word().to_owned(),
        asks: match environment.promotion {
            config::Promotion::Automatic => Asks::Nothing,
            config::Promotion::Manual => Asks::Promotion,
        },
        has_fleet: environment.fleets.contains_key(service),
        held: None,
        rules: rules(&environment.approvals),
    };
    settings.environments.iter().map(|(name, environment)| (name.clone(), place(environment))).collect()
}

/// Who may promote what.
pub fn policy(settings: &Settings) -> Policy {
    let environments =
        settings.environments.iter().map(|(name, environment)| (name.clone(), rules(&environment.approvals)));
    let people = settings.people.iter().map(|(name, person)| {
        let (roles, emails) = (person.roles.clone(), person.emails.clone());
        (name.clone(), Person { roles, emails, github: person.github.clone() })
    });
    Policy { environments: environments.collect(), people: people.collect() }
}

fn rules(approvals: &config::Approvals) -> Rules {
    Rules {
        count: approvals.count,
        roles: approvals.roles.clone(),
        author: approvals.author,
        automation: approvals.automation,
    }
}

/// The freeze that holds in the environment at `now`; of several the one that ends last.
pub(super) fn frozen(settings: &Settings, environment: &EnvironmentName, now: Timestamp) -> Option<Frozen> {
    let freezes = &settings.environments.get(environment)?.freezes;
    let holding = freezes.iter().filter_map(|freeze| Some((freeze.until(now)?, freeze)));
    let (until, freeze) = holding.max_by_key(|(until, _)| *until)?;
    // Checked when the settings were read; UTC is as true.
    let zone = TimeZone::get(&freeze.timezone).unwrap_or(TimeZone::UTC);
    let said = format!("{} {}", until.to_zoned(zone).strftime("%a %Y-%m-%d %H:%M"), freeze.timezone);
    Some(Frozen { until, said, reason: freeze.reason.clone() })
}

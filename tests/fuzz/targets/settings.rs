//! The settings reader: either settings or what is wrong with them.

use std::path::Path;

use windlass::config::{Place, Settings};
use windlass::pipeline::problem::Style;
use windlass::rollout::Strategy;

use super::{assert_plain, text};

pub const WORDS: &[&str] = &[
    "environments:\n",
    "production:\n",
    "group: ",
    "qa",
    "canary",
    "promotion: manual",
    "approvals: { count: ",
    "roles: [",
    "freeze: { from: ",
    "Fri 16:00",
    "2026-12-20 00:00",
    "timezone: ",
    "Europe/Berlin",
    "fleets:\n",
    "size: ",
    "port: ",
    "health: ",
    "strategy: { rolling: {",
    "blue_green: { hold: ",
    "batch: ",
    "floor: ",
    "surge: 150%",
    "100%",
    "25%",
    "secrets:\n",
    "{ env: ",
    "{ file: ",
    "people:\n",
    "github: ",
    "emails: [",
    "webhook_secrets: [",
    "server: { hosts: [",
    "runner: { slots: ",
    "clouds: { aws: { ",
    "region: ",
    "cloud: aws",
    "&a ",
    "*a",
    "~",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\t",
    "\r\n",
    "4294967296",
    "\u{feff}",
    "0s",
    "9999h",
];

pub fn target(data: &[u8]) {
    let text = text(data);
    match Settings::parse(text, "windlass.yaml", Path::new("/no/where/windlass.yaml")) {
        Err(problems) => {
            assert!(problems.has_errors(), "refused, and nothing is wrong");
            for problem in problems.iter() {
                assert!(text.get(problem.span.clone()).is_some(), "{problem:?} lies in no text");
            }
            assert_plain("the rendering", &problems.render(Style::Plain));
        }
        Ok(settings) => legal(&settings),
    }
}

fn legal(settings: &Settings) {
    let _ = settings.surroundings();
    for (name, environment) in &settings.environments {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for freeze in &environment.freezes {
            assert_eq!(freeze.until(now).is_some(), freeze.sentence(now).is_some());
        }
        for (service, fleet) in &environment.fleets {
            assert!(settings.fleet(name, service).is_some());
            assert!(fleet.size >= 1, "{service} has no instances");
            if let Strategy::Rolling(rolling) = &fleet.strategy {
                assert!(rolling.floor <= fleet.size, "the floor of {service} is above its size");
                assert!(
                    rolling.batch >= 1 && (rolling.surge >= 1 || rolling.floor < fleet.size),
                    "it never moves"
                );
            }
            if matches!(fleet.place, Place::Local) {
                assert!(fleet.env.keys().all(|name| name != "PORT" && !name.starts_with("WINDLASS_")));
            }
        }
    }
}

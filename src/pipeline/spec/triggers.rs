//! `on`, as it was written: a map, or the names of what needs nothing more.

use std::ops::Range;

use super::super::yaml::Node;
use super::{Text, scalar, text, texts};

#[derive(Debug, Default)]
pub struct Triggers<'a> {
    pub push: Option<Push<'a>>,
    pub pull_request: Option<PullRequest<'a>>,
    pub schedules: Vec<Schedule<'a>>,
}

#[derive(Debug)]
pub struct Push<'a> {
    pub branches: Vec<Text<'a>>,
    pub tags: Vec<Text<'a>>,
    pub paths: Vec<Text<'a>>,
}

#[derive(Debug)]
pub struct PullRequest<'a> {
    /// Where its name stands.
    pub at: Range<usize>,
    pub branches: Vec<Text<'a>>,
    pub paths: Vec<Text<'a>>,
    pub until: Vec<Text<'a>>,
}

#[derive(Debug)]
pub struct Schedule<'a> {
    pub at: Range<usize>,
    pub cron: Option<Text<'a>>,
    pub timezone: Option<Text<'a>>,
    pub branch: Option<Text<'a>>,
}

impl<'a> Triggers<'a> {
    pub(super) fn of(root: &'a Node) -> Self {
        let Some(on) = root.get("on") else { return Self::default() };
        let items = on.items().iter().map(|item| &**item);
        let named = |name: &str| {
            let mut words = std::iter::once(on).chain(items.clone()).filter_map(scalar);
            words.find(|word| word.text == name).map(|word| (word.node.at.clone(), word.node))
        };
        // The node of a name has no keys, as that of nothing has none.
        let find = |name: &str| {
            named(name).or_else(|| on.entry(name).map(|found| (found.at.clone(), &*found.value)))
        };
        let schedules = on.get("schedule").map(|node| match node.entries().is_empty() {
            true => node.items().iter().map(|item| Schedule::of(item)).collect(),
            false => vec![Schedule::of(node)],
        });
        Self {
            push: find("push").map(|(_, node)| Push {
                branches: list(node, "branches"),
                tags: list(node, "tags"),
                paths: list(node, "paths"),
            }),
            pull_request: find("pull_request").map(|(at, node)| PullRequest {
                at,
                branches: list(node, "branches"),
                paths: list(node, "paths"),
                until: list(node, "until"),
            }),
            schedules: schedules.unwrap_or_default(),
        }
    }
}

impl<'a> Schedule<'a> {
    fn of(node: &'a Node) -> Self {
        Self {
            at: node.entries().first().map_or(node.at.clone(), |first| first.at.clone()),
            cron: text(node, "cron"),
            timezone: text(node, "timezone"),
            branch: text(node, "branch"),
        }
    }
}

fn list<'a>(node: &'a Node, key: &str) -> Vec<Text<'a>> {
    texts(node, key).unwrap_or_default()
}

//! The pipeline as it was written: every value with its place, nothing checked beyond its shape.
//! What has the wrong shape is missing here, and is a problem already.

use std::ops::Range;

use super::yaml::{Entry, Node};

mod triggers;

pub use triggers::{PullRequest, Schedule, Triggers};

/// A text and its place.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub text: &'a str,
    pub node: &'a Node,
}

/// A key that the author chose, and its place.
#[derive(Debug, Clone)]
pub struct Name<'a> {
    pub text: &'a str,
    pub at: Range<usize>,
}

#[derive(Debug)]
pub struct Pipeline<'a> {
    pub name: Option<Text<'a>>,
    pub git: Option<Text<'a>>,
    pub github: Option<Text<'a>>,
    pub on: Triggers<'a>,
    pub queue: Option<Text<'a>>,
    pub params: Vec<Param<'a>>,
    pub stages: Vec<Stage<'a>>,
}

#[derive(Debug)]
pub struct Param<'a> {
    pub name: Name<'a>,
    pub default: Option<Text<'a>>,
    pub description: Option<Text<'a>>,
}

#[derive(Debug)]
pub struct Stage<'a> {
    pub name: Name<'a>,
    /// Nothing for a kind that is not known.
    pub kind: Option<Kind<'a>>,
    pub needs: Vec<Text<'a>>,
    pub condition: Option<Text<'a>>,
    pub environment: Option<Text<'a>>,
    pub timeout: Option<Text<'a>>,
    pub attempts: Option<&'a Node>,
    pub retry_on: Option<Vec<Text<'a>>>,
    pub env: Vec<(Name<'a>, Text<'a>)>,
    pub secrets: Vec<Text<'a>>,
}

#[derive(Debug)]
pub enum Kind<'a> {
    Checkout,
    Script { steps: Vec<Step<'a>>, artifacts: Vec<(Name<'a>, Text<'a>)>, reports: Option<Reports<'a>> },
    Upload { artifacts: Vec<Text<'a>> },
    Bake(Bake<'a>),
    Deploy,
    Certify,
}

#[derive(Debug)]
pub struct Step<'a> {
    pub name: Option<Text<'a>>,
    pub run: Option<Text<'a>>,
    pub shell: Option<Text<'a>>,
}

#[derive(Debug)]
pub struct Reports<'a> {
    pub at: Range<usize>,
    pub junit: Option<Vec<Text<'a>>>,
    pub coverage: Option<Coverage<'a>>,
}

#[derive(Debug)]
pub struct Coverage<'a> {
    pub lcov: Option<Vec<Text<'a>>>,
    pub cobertura: Option<Vec<Text<'a>>>,
    pub at_least: Option<Text<'a>>,
}

/// Exactly one of the first three is there.
#[derive(Debug)]
pub struct Base<'a> {
    pub directory: Option<Text<'a>>,
    pub ami: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub owner: Option<Text<'a>>,
    pub at: std::ops::Range<usize>,
}

#[derive(Debug)]
pub struct Bake<'a> {
    pub from: Option<Text<'a>>,
    pub base: Option<Base<'a>>,
    pub artifacts: Option<Vec<Text<'a>>>,
    pub files: Vec<Text<'a>>,
    pub provision: Vec<Step<'a>>,
    pub start: Option<Text<'a>>,
}

impl<'a> Pipeline<'a> {
    /// What `root` says.
    pub fn of(root: &'a Node) -> Self {
        Self {
            name: text(root, "name"),
            git: root.get("source").and_then(|source| text(source, "git")),
            github: root.get("source").and_then(|source| text(source, "github")),
            on: Triggers::of(root),
            queue: text(root, "queue"),
            params: entries(root, "params").map(Param::of).collect(),
            stages: entries(root, "stages").map(Stage::of).collect(),
        }
    }
}

impl<'a> Param<'a> {
    fn of(entry: &'a Entry) -> Self {
        let node = &*entry.value;
        Self { name: Name::of(entry), default: text(node, "default"), description: text(node, "description") }
    }
}

impl<'a> Stage<'a> {
    fn of(entry: &'a Entry) -> Self {
        let node = &*entry.value;
        let retry = node.get("retry");
        Self {
            name: Name::of(entry),
            kind: Kind::of(node),
            needs: texts(node, "needs").unwrap_or_default(),
            condition: text(node, "if"),
            environment: text(node, "environment"),
            timeout: text(node, "timeout"),
            attempts: retry.and_then(|retry| retry.get("attempts")),
            retry_on: retry.and_then(|retry| texts(retry, "on")),
            env: pairs(node, "env"),
            secrets: texts(node, "secrets").unwrap_or_default(),
        }
    }
}

impl<'a> Kind<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let with = node.get("with");
        Some(match node.get("uses") {
            None => Self::Script {
                steps: steps(node, "steps"),
                artifacts: pairs(node, "artifacts"),
                reports: node.entry("reports").map(Reports::of),
            },
            Some(uses) => match uses.text()? {
                "checkout" => Self::Checkout,
                "upload" => Self::Upload {
                    artifacts: with
                        .and_then(|with| texts(with, "artifact").or_else(|| texts(with, "artifacts")))
                        .unwrap_or_default(),
                },
                "bake" => Self::Bake(Bake::of(with)),
                "deploy" => Self::Deploy,
                "certify" => Self::Certify,
                _ => return None,
            },
        })
    }
}

impl<'a> Reports<'a> {
    fn of(entry: &'a Entry) -> Self {
        let node = &*entry.value;
        let coverage = node.get("coverage").map(|coverage| Coverage {
            lcov: texts(coverage, "lcov"),
            cobertura: texts(coverage, "cobertura"),
            at_least: text(coverage, "at_least"),
        });
        Self { at: entry.at.clone(), junit: texts(node, "junit"), coverage }
    }
}

impl<'a> Bake<'a> {
    fn of(with: Option<&'a Node>) -> Self {
        let Some(with) = with else {
            return Self {
                from: None,
                base: None,
                artifacts: None,
                files: Vec::new(),
                provision: Vec::new(),
                start: None,
            };
        };
        Self {
            from: text(with, "from"),
            base: with.get("base").map(|base| Base {
                directory: text(base, "directory"),
                ami: text(base, "ami"),
                name: text(base, "name"),
                owner: text(base, "owner"),
                at: base.at.clone(),
            }),
            artifacts: texts(with, "artifacts"),
            files: texts(with, "files").unwrap_or_default(),
            provision: steps(with, "provision"),
            start: text(with, "start"),
        }
    }
}

impl<'a> Name<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self { text: &entry.key, at: entry.at.clone() }
    }
}

fn scalar(node: &Node) -> Option<Text<'_>> {
    node.text().map(|text| Text { text, node })
}

fn text<'a>(node: &'a Node, key: &str) -> Option<Text<'a>> {
    node.get(key).and_then(scalar)
}

/// One text, or a list of them.
fn texts<'a>(node: &'a Node, key: &str) -> Option<Vec<Text<'a>>> {
    let value = node.get(key)?;
    Some(match scalar(value) {
        Some(one) => vec![one],
        None => value.items().iter().filter_map(|item| scalar(item)).collect(),
    })
}

fn entries<'a>(node: &'a Node, key: &str) -> impl Iterator<Item = &'a Entry> {
    node.get(key).map(Node::entries).unwrap_or_default().iter()
}

fn pairs<'a>(node: &'a Node, key: &str) -> Vec<(Name<'a>, Text<'a>)> {
    entries(node, key).filter_map(|entry| Some((Name::of(entry), scalar(&entry.value)?))).collect()
}

fn steps<'a>(node: &'a Node, key: &str) -> Vec<Step<'a>> {
    let items = node.get(key).map(Node::items).unwrap_or_default();
    items
        .iter()
        .map(|step| Step { name: text(step, "name"), run: text(step, "run"), shell: text(step, "shell") })
        .collect()
}

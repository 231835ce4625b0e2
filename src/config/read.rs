//! From the text of a settings file to settings that are always legal.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cloud::HealthCheck;
use crate::pipeline::text::{self, Share};
use crate::pipeline::yaml::{self, Entry, Node};
use crate::pipeline::{Problems, shape};
use crate::rollout::{Rolling, Strategy};

use super::freeze::{Freeze, Moment, Span};
use super::meaning::{self, one_or_list};
use super::{
    Approvals, Environment, Fleet, GitHub, Group, Person, Place, Promotion, Repository, Runner, SecretSource,
    Server, Settings, aws, keys,
};

const INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const THRESHOLD: u32 = 2;
const DRAIN: Duration = Duration::from_secs(10);
/// Long enough to see that a release is bad, and short enough to pay for twice the instances.
const HOLD: Duration = Duration::from_secs(10 * 60);
const PATIENCE: Duration = Duration::from_secs(60);

/// What every instance and every step gets from Windlass itself.
fn reserved(name: &str) -> bool {
    name.starts_with("WINDLASS_")
}

impl Settings {
    /// Reads the settings file at `path`. A file that cannot be read is a problem too.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let shown = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            let mut problems = Problems::new(&shown, "");
            problems.error(0..0, format!("the settings cannot be read: {error}"));
            problems
        };
        let bytes = super::read_file(path).map_err(unreadable)?;
        let text = crate::pipeline::decode(&bytes, &shown)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        Self::parse(text, &shown, &absolute)
    }

    /// Reads the text of a settings file. `shown` is its name in messages, `path` where it lies,
    /// absolute.
    pub fn parse(text: &str, shown: &str, path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::new(shown, text);
        let Some(root) = yaml::read(text, &mut problems) else { return Err(problems) };
        shape::check(&keys::FILE, &root, "the settings", text, &mut problems);
        fleets_and_secrets(&root, &mut problems);
        meaning::check(&root, &mut problems);
        aws::check(&root, &mut problems);
        if !problems.has_errors() {
            yaml::confirm(&root, text, &mut problems);
        }
        let settings = (!problems.has_errors()).then(|| build(&root, path)).flatten();
        if settings.is_none() && !problems.has_errors() {
            problems
                .error(0..0, "these settings are not understood")
                .help("this is a defect of Windlass; please report the file");
        }
        settings.ok_or_else(|| problems.sorted())
    }
}

pub(super) fn entries<'a>(node: &'a Node, key: &str) -> &'a [Entry] {
    node.get(key).map(Node::entries).unwrap_or_default()
}

/// The rules about fleets and secrets that one value alone cannot break.
fn fleets_and_secrets(root: &Node, problems: &mut Problems) {
    let mut ports: HashMap<u32, String> = HashMap::new();
    let mut other: Option<String> = None;
    for environment in entries(root, "environments") {
        let node = &*environment.value;
        if let Some(group) = node.get("group") {
            extra_group(group, &mut other, problems);
        }
        for fleet in entries(node, "fleets") {
            let name = format!("{}-{}", fleet.key, environment.key);
            one_port(&name, &fleet.value, &mut ports, problems);
            floor(&fleet.value, problems);
            for entry in entries(&fleet.value, "env") {
                if entry.key == "PORT" || reserved(&entry.key) {
                    problems.error(
                        entry.at.clone(),
                        format!("the variable {} is set by Windlass itself", entry.key),
                    );
                }
            }
        }
    }
    for (node, host) in hosts(root) {
        if !is_host(host) {
            problems
                .error(node.at.clone(), format!("{host:?} is not the name of a host"))
                .help("the name alone, such as windlass.example.com: no scheme, no port, no path");
        }
    }
    for secret in entries(root, "secrets") {
        if matches!(secret.key.as_str(), "PATH" | "HOME" | "TMPDIR") || reserved(&secret.key) {
            problems
                .error(secret.at.clone(), format!("the variable {} is set by Windlass itself", secret.key));
        }
    }
}

/// The names under `server.hosts`.
fn hosts(root: &Node) -> impl Iterator<Item = (&Node, &str)> {
    let hosts = root.get("server").and_then(|server| server.get("hosts"));
    hosts.map(Node::items).unwrap_or_default().iter().filter_map(|node| Some((&**node, node.text()?)))
}

/// Whether the text is the name of a host: labels of letters, digits and hyphens; RFC 1123, 2.1.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn extra_group(group: &Node, other: &mut Option<String>, problems: &mut Problems) {
    let Some(word) = group.text() else { return };
    // A name against the convention is a problem already.
    if !matches!(self::group(word), Group::Other(_)) || crate::ids::check_name(word).is_err() {
        return;
    }
    match other {
        None => *other = Some(word.to_owned()),
        Some(first) if first != word => {
            let message = format!("a second group of your own, {word:?}, beside {first:?}");
            let known = ["dev", "qa", "canary", "production", first.as_str()];
            problems
                .unknown(group.at.clone(), message, word, known)
                .help("groups are dev, qa, canary, production and at most one more");
        }
        Some(_) => {}
    }
}

fn one_port(name: &str, fleet: &Node, ports: &mut HashMap<u32, String>, problems: &mut Problems) {
    let Some(node) = fleet.get("port") else { return };
    if fleet.get("cloud").and_then(Node::text) == Some("aws") {
        return;
    }
    // As numbers: 07001 is 7001.
    let Some(port) = number(fleet, "port") else { return };
    match ports.get(&port) {
        Some(first) => {
            problems
                .error(node.at.clone(), format!("the port {port} belongs to the fleet {first} already"))
                .help("each fleet has a balancer of its own, and so a port of its own");
        }
        None => {
            ports.insert(port, name.to_owned());
        }
    }
}

fn floor(fleet: &Node, problems: &mut Problems) {
    let rolling = fleet.get("strategy").and_then(|strategy| strategy.get("rolling"));
    let Some(node) = rolling.and_then(|rolling| rolling.get("floor")) else { return };
    let size = number(fleet, "size");
    if let (Some(Ok(floor)), Some(size)) = (node.text().map(text::share), size)
        && floor.of(size) > size
    {
        problems.error(node.at.clone(), format!("the floor is above the size of the fleet, {size}"));
    }
}

fn group(word: &str) -> Group {
    match word {
        "dev" => Group::Dev,
        "qa" => Group::Qa,
        "canary" => Group::Canary,
        "production" => Group::Production,
        other => Group::Other(other.to_owned()),
    }
}

/// Nothing if a value is missing that the checks let through, which would be a defect of theirs.
fn build(root: &Node, path: &Path) -> Option<Settings> {
    let environments = entries(root, "environments").iter().map(|entry| {
        let node = &*entry.value;
        let role = node.get("role").and_then(Node::text);
        let fleets = entries(node, "fleets")
            .iter()
            .map(|entry| Some((entry.key.parse().ok()?, fleet(&entry.value, role)?)));
        let promotion = match node.get("promotion").and_then(Node::text) {
            Some("manual") => Promotion::Manual,
            _ => Promotion::Automatic,
        };
        let group = self::group(node.get("group")?.text()?);
        Some((
            entry.key.parse().ok()?,
            Environment {
                group,
                promotion,
                approvals: node.get("approvals").map(approvals).unwrap_or_default(),
                freezes: match node.get("freeze") {
                    Some(freezes) => one_or_list(freezes).into_iter().map(freeze).collect::<Option<_>>()?,
                    None => Vec::new(),
                },
                fleets: fleets.collect::<Option<_>>()?,
            },
        ))
    });
    let secrets =
        entries(root, "secrets").iter().map(|entry| Some((entry.key.clone(), secret(&entry.value, path)?)));
    Some(Settings {
        path: Some(path.to_owned()),
        environments: environments.collect::<Option<_>>()?,
        secrets: secrets.collect::<Option<_>>()?,
        runner: root.get("runner").map(runner).unwrap_or_default(),
        server: Server { hosts: hosts(root).map(|(_, host)| host.to_ascii_lowercase()).collect() },
        people: (entries(root, "people").iter())
            .map(|entry| Some((entry.key.clone(), person(&entry.value, path)?)))
            .collect::<Option<_>>()?,
        github: match root.get("github") {
            Some(node) => github(node, path)?,
            None => GitHub::default(),
        },
        aws: aws::account(root),
    })
}

fn approvals(node: &Node) -> Approvals {
    let author = flag(node, "author").unwrap_or(true);
    Approvals {
        count: number(node, "count").unwrap_or(1),
        roles: texts(node, "roles").into_iter().map(|(_, role)| role.to_owned()).collect(),
        author,
        // Whoever runs the command line may be the author.
        automation: flag(node, "automation").unwrap_or(author),
    }
}

fn freeze(node: &Node) -> Option<Freeze> {
    let moment = |key: &str| Moment::read(node.get(key)?.text()?).ok();
    let span = match (moment("from")?, moment("to")?) {
        (Moment::Weekly(from), Moment::Weekly(to)) => Span::Weekly { from, to },
        (Moment::Once(from), Moment::Once(to)) => Span::Once { from, to },
        _ => return None,
    };
    let text = |key: &str| Some(node.get(key)?.text()?.to_owned());
    Some(Freeze { span, timezone: text("timezone")?, reason: text("reason")? })
}

fn person(node: &Node, settings: &Path) -> Option<Person> {
    Some(Person {
        roles: texts(node, "roles").into_iter().map(|(_, role)| role.to_owned()).collect(),
        emails: texts(node, "emails").into_iter().map(|(_, email)| email.to_lowercase()).collect(),
        github: node.get("github").and_then(Node::text).map(str::to_owned),
        token: match node.get("token") {
            Some(token) => Some(secret(token, settings)?),
            None => None,
        },
    })
}

fn github(node: &Node, settings: &Path) -> Option<GitHub> {
    let secrets = node.get("webhook_secrets").map(Node::items).unwrap_or_default();
    let repository = |entry: &Entry| {
        let url = entry.value.get("url")?.text()?.to_owned();
        Some((entry.key.clone(), Repository { url: Some(url) }))
    };
    Some(GitHub {
        webhook_secrets: secrets.iter().map(|node| secret(node, settings)).collect::<Option<_>>()?,
        repositories: entries(node, "repositories").iter().map(repository).collect::<Option<_>>()?,
    })
}

/// One text or a list of them, each with its node.
pub(super) fn texts<'a>(node: &'a Node, key: &str) -> Vec<(&'a Node, &'a str)> {
    let nodes = node.get(key).map(one_or_list).unwrap_or_default();
    nodes.into_iter().filter_map(|node| Some((node, node.text()?))).collect()
}

pub(super) fn flag(node: &Node, key: &str) -> Option<bool> {
    node.get(key)?.plain()?.parse().ok()
}

pub(super) fn number(node: &Node, key: &str) -> Option<u32> {
    shape::whole(node.get(key)?, 0, u64::from(u32::MAX), key).ok()?.try_into().ok()
}

pub(super) fn time(node: &Node, key: &str) -> Option<Duration> {
    text::duration(node.get(key)?.text()?).ok()
}

fn fleet(node: &Node, role: Option<&str>) -> Option<Fleet> {
    let size = number(node, "size")?;
    let port = number(node, "port")?.try_into().ok()?;
    let is_local = node.get("cloud")?.text()? == "local";
    let (place, drain, patience) = match is_local {
        true => (Place::Local, DRAIN, PATIENCE),
        false => {
            let fleet = aws::fleet(node, port, role.map(str::to_owned))?;
            (Place::Aws(Box::new(fleet)), aws::DRAIN, aws::PATIENCE)
        }
    };
    let health = node.get("health").unwrap_or(node);
    let path = health.get("path").and_then(Node::text).unwrap_or("/");
    let env =
        entries(node, "env").iter().map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())));
    Some(Fleet {
        place,
        size,
        port,
        health: HealthCheck {
            path: path.to_owned(),
            interval: time(health, "interval").unwrap_or(INTERVAL),
            timeout: time(health, "timeout").unwrap_or(CHECK_TIMEOUT),
            healthy: number(health, "healthy").unwrap_or(THRESHOLD),
            unhealthy: number(health, "unhealthy").unwrap_or(THRESHOLD),
        },
        drain: time(node, "drain").unwrap_or(drain),
        version: node.get("version").and_then(Node::text).map(str::to_owned),
        strategy: strategy(node.get("strategy"), size),
        patience: time(node, "patience").unwrap_or(patience),
        env: env.collect::<Option<BTreeMap<_, _>>>()?,
    })
}

fn strategy(node: Option<&Node>, size: u32) -> Strategy {
    match node.and_then(|strategy| strategy.get("blue_green")) {
        Some(node) => Strategy::BlueGreen { hold: time(node, "hold").unwrap_or(HOLD) },
        None => Strategy::Rolling(rolling(node.and_then(|strategy| strategy.get("rolling")), size)),
    }
}

fn rolling(node: Option<&Node>, size: u32) -> Rolling {
    let share = |key: &str, otherwise: Share| {
        let written = node.and_then(|node| node.get(key)).and_then(Node::text);
        written.and_then(|written| text::share(written).ok()).unwrap_or(otherwise).of(size)
    };
    Rolling {
        batch: share("batch", Share::Count(1)),
        surge: share("surge", Share::Count(1)),
        floor: share("floor", Share::Count(size)),
    }
}

fn secret(node: &Node, settings: &Path) -> Option<SecretSource> {
    if let Some(variable) = node.get("env") {
        return Some(SecretSource::Env(variable.text()?.to_owned()));
    }
    Some(SecretSource::File(beside(node.get("file")?.text()?, settings)))
}

/// A path that is relative to the settings file, without the `.` in it.
pub(super) fn beside(path: &str, settings: &Path) -> PathBuf {
    settings.parent().unwrap_or(Path::new("/")).join(path).components().collect()
}

fn runner(node: &Node) -> Runner {
    let default = Runner::default();
    Runner {
        slots: number(node, "slots").unwrap_or(default.slots),
        log_limit: node
            .get("log_limit")
            .and_then(Node::text)
            .and_then(|written| text::size(written).ok())
            .unwrap_or(default.log_limit),
        pass: node
            .get("pass")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| name.text())
            .map(str::to_owned)
            .collect(),
    }
}

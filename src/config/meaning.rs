//! The rules about people, approvals, freezes and GitHub that one value alone cannot break.

use std::collections::{BTreeSet, HashMap};

use crate::pipeline::Problems;
use crate::pipeline::yaml::{Entry, Node};

use super::freeze::Moment;
use super::read::{entries, number, texts};

pub(super) fn check(root: &Node, problems: &mut Problems) {
    people(root, problems);
    let roles = roles(root);
    for environment in entries(root, "environments") {
        if let Some(approvals) = environment.value.get("approvals") {
            self::approvals(approvals, root, &roles, problems);
        }
        for freeze in environment.value.get("freeze").map(one_or_list).unwrap_or_default() {
            self::freeze(freeze, problems);
        }
    }
    github(root, problems);
}

/// The nodes of a list, or the one that stands alone.
pub(super) fn one_or_list(node: &Node) -> Vec<&Node> {
    match node.items() {
        [] => vec![node],
        items => items.iter().map(|item| &**item).collect(),
    }
}

/// Who each of these belongs to.
type Owned<'a> = HashMap<String, &'a str>;

fn own<'a>(
    node: &Node,
    what: &str,
    key: String,
    person: &'a Entry,
    owned: &mut Owned<'a>,
    problems: &mut Problems,
) {
    match owned.get(&key) {
        Some(first) => {
            problems
                .error(node.at.clone(), format!("{what} belongs to {first} already"))
                .help("whoever acts is one person");
        }
        None => {
            owned.insert(key, &person.key);
        }
    }
}

fn people(root: &Node, problems: &mut Problems) {
    let (mut logins, mut emails, mut tokens) = (Owned::new(), Owned::new(), Owned::new());
    for person in entries(root, "people") {
        let node = &*person.value;
        if let Some((node, login)) = node.get("github").and_then(|node| Some((node, node.text()?))) {
            let what = format!("the login {login:?}");
            own(node, &what, login.to_ascii_lowercase(), person, &mut logins, problems);
        }
        for (node, email) in texts(node, "emails") {
            own(node, &format!("the address {email:?}"), email.to_lowercase(), person, &mut emails, problems);
        }
        if let Some(token) = node.get("token")
            && let Some(source) = source_key(token)
        {
            own(token, "this token", source, person, &mut tokens, problems);
        }
    }
}

/// What tells one source of a secret from another.
fn source_key(node: &Node) -> Option<String> {
    let [entry] = node.entries() else { return None };
    let value = entry.value.text()?;
    Some(match entry.key.as_str() {
        "file" => format!("file {}", super::read::beside(value, std::path::Path::new("/")).display()),
        key => format!("{key} {value}"),
    })
}

/// The roles that somebody has.
fn roles(root: &Node) -> BTreeSet<&str> {
    let people = entries(root, "people").iter();
    people.flat_map(|person| texts(&person.value, "roles")).map(|(_, role)| role).collect()
}

fn approvals(node: &Node, root: &Node, known: &BTreeSet<&str>, problems: &mut Problems) {
    let asked = texts(node, "roles");
    let unknown: Vec<_> = asked.iter().filter(|(_, role)| !known.contains(role)).collect();
    for (node, role) in &unknown {
        if crate::ids::check_name(role).is_err() {
            continue;
        }
        let message = format!("nobody has the role {role:?}");
        problems
            .unknown(node.at.clone(), message, role, known.iter().copied())
            .help("roles are given to people: `people: { NAME: { roles: [ROLE] } }`");
    }
    if !unknown.is_empty() {
        return;
    }
    let people = entries(root, "people");
    let may = |person: &&Entry| {
        let own = texts(&person.value, "roles");
        own.iter().any(|(_, role)| asked.iter().any(|(_, asked)| asked == role))
    };
    let (Some(count), false, false) = (node.get("count"), asked.is_empty(), people.is_empty()) else {
        return;
    };
    let able = people.iter().filter(may).count();
    if number(node, "count").is_some_and(|asked| usize::try_from(asked).is_ok_and(|asked| asked > able)) {
        let message = match able {
            1 => "only one person has such a role".to_owned(),
            able => format!("only {able} people have such a role"),
        };
        problems
            .error(count.at.clone(), format!("so many approvals can never come: {message}"))
            .help("give the role to more people, or ask for fewer");
    }
}

fn freeze(node: &Node, problems: &mut Problems) {
    let moment = |key: &str, problems: &mut Problems| {
        let node = node.get(key)?;
        match Moment::read(node.text()?) {
            Ok(moment) => Some((node, moment)),
            Err(message) => {
                problems.error(node.at.clone(), format!("{key:?}: {message}"));
                None
            }
        }
    };
    let (from, to) = (moment("from", problems), moment("to", problems));
    let (Some((_, from)), Some((node, to))) = (from, to) else { return };
    let at = node.at.clone();
    match (from, to) {
        (Moment::Weekly(from), Moment::Weekly(to)) if from == to => {
            problems.error(at, "the freeze ends when it begins").help(
                "to let nobody in for longer, lock the environment, or write a freeze from one date to another",
            );
        }
        (Moment::Once(from), Moment::Once(to)) if to <= from => {
            problems.error(at, "the freeze does not end after it begins");
        }
        (Moment::Weekly(_), Moment::Once(_)) | (Moment::Once(_), Moment::Weekly(_)) => {
            problems
                .error(at, "one end of the freeze is a day of the week and the other a date")
                .help("both are days of the week, for every week, or both are dates, for once");
        }
        _ => {}
    }
}

fn github(root: &Node, problems: &mut Problems) {
    let Some(github) = root.get("github") else { return };
    let secrets = github.get("webhook_secrets").map(Node::items).unwrap_or_default();
    if let Some(third) = secrets.get(2) {
        problems
            .error(third.at.clone(), "a webhook has at most two secrets")
            .help("the second one is for the time in which the first is changed");
    }
    if let [first, second, ..] = secrets
        && source_key(first).is_some_and(|first| Some(first) == source_key(second))
    {
        problems.error(second.at.clone(), "this secret is given twice");
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    for repository in entries(github, "repositories") {
        // GitHub does not tell them apart.
        let name = repository.key.to_ascii_lowercase();
        match seen.get(&name) {
            Some(first) => {
                let message = format!("the repository {:?} is {first:?}, given already", repository.key);
                problems.error(repository.at.clone(), message);
            }
            None => {
                seen.insert(name, &repository.key);
            }
        }
    }
}

//! What a webhook tells us.

use serde::de::DeserializeOwned;

use super::{BodyError, payload};
use crate::ids::CommitSha;

/// What a webhook tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Push(Push),
    PullRequest(PullRequest),
    /// It starts nothing, and why.
    Ignored {
        reason: String,
    },
}

/// A branch or a tag points at a commit now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// `owner/name`.
    pub repository: String,
    /// Whole: `refs/heads/main`, `refs/tags/v1`.
    pub reference: String,
    pub commit: CommitSha,
    /// What the webhook says of it; `None` where that is not all.
    pub described: Option<Described>,
    pub change: Change,
    /// Of the repository.
    pub default_branch: Option<String>,
    /// The login of whoever pushed.
    pub sender: Option<String>,
}

/// What there is to say of a commit, as git has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// `Name <address>`.
    pub author: String,
    pub message: String,
}

/// What the commit is compared with to find what a push changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The branch stood at this commit, and everything since was added to it.
    Since(CommitSha),
    /// The branch is new, or was set to something else by force.
    Anew,
}

/// Somebody wants to have commits of a branch of the repository itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// `owner/name`.
    pub repository: String,
    pub number: u64,
    /// The newest commit.
    pub commit: CommitSha,
    /// The branch that it comes from.
    pub branch: String,
    /// The branch that it is to be merged into.
    pub base: String,
    pub sender: Option<String>,
}

impl Push {
    /// The branch's name; `None` for a tag.
    pub fn branch(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/heads/")
    }

    /// The tag's name; `None` for a branch.
    pub fn tag(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/tags/")
    }
}

/// In the message of its newest commit they keep a push from starting anything.
const SKIPPING: [&str; 3] = ["[skip ci]", "[ci skip]", "[skip windlass]"];

/// The word of the message that keeps the commit from starting anything.
pub fn skips(message: &str) -> Option<&'static str> {
    let message = message.to_ascii_lowercase();
    SKIPPING.into_iter().find(|word| message.contains(word))
}

/// Reads a webhook that nobody has looked at: what it tells, once it is seen to be JSON.
pub fn told(event: &str, body: &[u8]) -> Result<Notice, BodyError> {
    let not_json = |error: &dyn std::fmt::Display| BodyError::NotJson(error.to_string());
    // What is skipped is not looked at as text, so that is asked first.
    let text = std::str::from_utf8(body).map_err(|error| not_json(&error))?;
    let notice = understand(event, body);
    // What was understood was read up to its end.
    if matches!(notice, Notice::Ignored { .. }) {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| not_json(&error))?;
    }
    Ok(notice)
}

/// Reads a webhook: the value of `X-GitHub-Event`, and a body that is JSON.
pub fn understand(event: &str, body: &[u8]) -> Notice {
    let told = match event {
        "push" => read(event, body).and_then(push),
        "pull_request" => read(event, body).and_then(pull_request),
        "ping" => Err("GitHub says that the webhook is set up".to_owned()),
        other => Err(format!("{} events start nothing", shown(other))),
    };
    told.unwrap_or_else(|reason| Notice::Ignored { reason })
}

fn read<T: DeserializeOwned>(event: &str, body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("the {event} event is not as GitHub sends it: {error}"))
}

fn push(push: payload::Push) -> Result<Notice, String> {
    let repository = repository(&push.repository)?;
    let name = push.reference.strip_prefix("refs/heads/").or(push.reference.strip_prefix("refs/tags/"));
    let name = name.ok_or_else(|| format!("{} is neither a branch nor a tag", shown(&push.reference)))?;
    if push.deleted {
        return Err(format!("{} was deleted", shown(name)));
    }
    if !is_ref_name(name) {
        return Err(format!("{} is no name of a branch or a tag", shown(name)));
    }
    if let Some(word) = push.head_commit.as_ref().and_then(|commit| skips(commit.message.as_deref()?)) {
        return Err(format!("the message of its newest commit says {word}"));
    }
    let described = push.head_commit.as_ref().and_then(described);
    // The `after` of an annotated tag is the tag, and not the commit.
    let commit = push.head_commit.map_or(push.after, |commit| commit.id);
    let before = push.before.parse().ok().filter(|_| !is_zero(&push.before));
    Ok(Notice::Push(Push {
        repository,
        reference: push.reference,
        commit: sha(&commit)?,
        described,
        change: match before {
            Some(before) if !push.forced => Change::Since(before),
            _ => Change::Anew,
        },
        default_branch: push.repository.default_branch.filter(|branch| is_ref_name(branch)),
        sender: push.sender.and_then(|sender| sender.login).or(push.pusher.and_then(|pusher| pusher.name)),
    }))
}

fn described(commit: &payload::Commit) -> Option<Described> {
    let author = commit.author.as_ref()?;
    let author = format!("{} <{}>", author.name.as_ref()?, author.email.as_ref()?);
    Some(Described { author, message: commit.message.as_ref()?.trim_end().to_owned() })
}

fn pull_request(event: payload::PullRequestEvent) -> Result<Notice, String> {
    let repository = repository(&event.repository)?;
    let payload::PullRequest { head, base } = event.pull_request;
    if !matches!(event.action.as_str(), "opened" | "synchronize" | "reopened") {
        return Err(format!("a pull request that was {} starts nothing", shown(&event.action)));
    }
    let from = head.repo.map(|repository| repository.full_name);
    if !from.as_ref().is_some_and(|from| from.eq_ignore_ascii_case(&repository)) {
        let from = from.map_or_else(|| "a fork that is gone".to_owned(), |from| shown(&from));
        return Err(format!(
            "pull request {} comes from {from}: pull requests of forks are refused, since their steps \
             would run as this server's user",
            event.number
        ));
    }
    for name in [&head.reference, &base.reference] {
        if !is_ref_name(name) {
            return Err(format!("{} is no name of a branch", shown(name)));
        }
    }
    Ok(Notice::PullRequest(PullRequest {
        repository,
        number: event.number,
        commit: sha(&head.sha)?,
        branch: head.reference,
        base: base.reference,
        sender: event.sender.and_then(|sender| sender.login),
    }))
}

fn repository(repository: &payload::Repository) -> Result<String, String> {
    match is_repository(&repository.full_name) {
        true => Ok(repository.full_name.clone()),
        false => Err(format!("{} is no name of a repository", shown(&repository.full_name))),
    }
}

fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 100
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    name.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

fn sha(text: &str) -> Result<CommitSha, String> {
    match text.parse() {
        Ok(sha) if !is_zero(text) => Ok(sha),
        _ => Err(format!("{} is no commit", shown(text))),
    }
}

/// Stands for no commit.
fn is_zero(sha: &str) -> bool {
    sha.bytes().all(|digit| digit == b'0')
}

/// What git takes for the name of a branch or a tag; see git-check-ref-format(1).
fn is_ref_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.len() <= 255
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(bad)
        && name.split('/').all(part)
}

/// A text of somebody else in a sentence of ours.
fn shown(text: &str) -> String {
    let clean: String = text.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match clean.is_empty() {
        true => "nothing".to_owned(),
        false => clean,
    }
}

/// The `owner/name` of an address at github.com; `None` for any other address.
pub fn repository_of(address: &str) -> Option<&str> {
    let starts = ["https://github.com/", "ssh://git@github.com/", "git@github.com:"];
    let path = starts.into_iter().find_map(|start| address.strip_prefix(start))?;
    let path = path.trim_end_matches('/');
    Some(path.strip_suffix(".git").unwrap_or(path)).filter(|path| is_repository(path))
}

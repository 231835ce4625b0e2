//! The fields that we read, as GitHub writes them. All others are ignored, and what may be missing or
//! null may be.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Push {
    #[serde(rename = "ref")]
    pub reference: String,
    pub before: String,
    pub after: String,
    #[serde(default)]
    pub deleted: bool,
    #[serde(default)]
    pub forced: bool,
    /// `null` when there is no commit: a tag that was deleted, of something that is no commit.
    #[serde(default)]
    pub head_commit: Option<Commit>,
    pub repository: Repository,
    #[serde(default)]
    pub sender: Option<User>,
    #[serde(default)]
    pub pusher: Option<Pusher>,
}

#[derive(Debug, Deserialize)]
pub struct Commit {
    pub id: String,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub author: Option<Author>,
}

/// Of a commit, as git has it.
#[derive(Debug, Deserialize)]
pub struct Author {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Repository {
    pub full_name: String,
    #[serde(default)]
    pub default_branch: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct User {
    #[serde(default)]
    pub login: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Pusher {
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct PullRequestEvent {
    pub action: String,
    pub number: u64,
    pub pull_request: PullRequest,
    pub repository: Repository,
    #[serde(default)]
    pub sender: Option<User>,
}

#[derive(Debug, Deserialize)]
pub struct PullRequest {
    pub head: Side,
    pub base: Side,
}

#[derive(Debug, Deserialize)]
pub struct Side {
    #[serde(rename = "ref")]
    pub reference: String,
    pub sha: String,
    /// `null` when the fork was deleted.
    #[serde(default)]
    pub repo: Option<Repository>,
}

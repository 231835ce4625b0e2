//! Where commits come from: git, by address.
//!
//! The `git` command line fetches into one bare cache for each address, `DATA/cache/git/DIGEST.git`, and
//! writes the files of a clone; everything else is local work in this process. What is always true:
//!
//! - An address never holds a credential, and nothing that git says is passed on with one. Keys are
//!   ssh's (agent or `~/.ssh`), passwords those of `~/.netrc`.
//! - Git runs in a clean environment: no configuration of the machine or the user, no hooks, no
//!   prompts, only the protocols of [`Address`].
//! - One fetch at a time into a cache, over all processes; readers need no lock, since nothing in a
//!   cache is ever rewritten. A cache that was damaged is made again.
//! - A clone is complete in itself: it outlives the cache.
//! - Dropping a future ends its git processes.
//!
//! Deliberately absent: submodules stay uninitialised, and files in Git LFS stay pointers.

mod address;
mod cache;
mod clone;
mod command;
mod history;

pub use address::Address;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::ids::{CommitSha, RunId};
use crate::run::event::{Commit, ShippedCommit};

use cache::Cache;

/// What can go wrong, as sentences for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The text is no address that commits are fetched from.
    #[error("{address:?} cannot be used as a source: {reason}")]
    Refused { address: String, reason: String },
    #[error("{address} is not a git repository: {hint}")]
    NotRepository { address: String, hint: String },
    #[error("the repository {0} has no commits yet; commit something, then run again")]
    Empty(Address),
    #[error(
        "the repository {address} is shallow, so its history cannot be handed on; \
         complete it with: git -C {address} fetch --unshallow"
    )]
    Shallow { address: Address },
    #[error("{address} has no {wanted}{hint}")]
    UnknownRevision { address: Address, wanted: String, hint: String },
    /// It exists, but what it is stored in is not supported.
    #[error("the repository {address} {reason}")]
    Unsupported { address: Address, reason: String },
    /// Git could not do it; `message` is the end of what it said.
    #[error("cannot {action} {address}: {message}")]
    Git { action: &'static str, address: Address, message: String },
    #[error("cannot run git: {0}; install git and make sure that it is in PATH")]
    NoGit(String),
    /// The disk, below the data directory or at a workspace.
    #[error("cannot use {}: {message}", path.display())]
    Disk { path: PathBuf, message: String },
}

/// Which commit of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// What the source has checked out, or its default branch.
    Head,
    Branch(String),
    /// A hash, whole or its beginning, a tag, or anything else that git takes for a revision.
    Commit(String),
}

/// What a commit is compared with to find which files it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    Commit(CommitSha),
    /// The newest commit that it shares with this branch; where there is none, nothing.
    Branch(String),
    /// Every file counts.
    Nothing,
}

/// What lies between two commits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Between {
    /// In `to` and not in `from`, newest first; at most [`COMMITS_LIMIT`].
    pub commits: Vec<ShippedCommit>,
    /// Everybody who wrote one of them, `Name <address>`, also beyond the first [`COMMITS_LIMIT`]; of
    /// the newest [`AUTHORED_LIMIT`].
    pub authors: Vec<String>,
    /// Paths that differ, in order; at most [`FILES_LIMIT`].
    pub files: Vec<String>,
    /// `to` is an ancestor of `from`.
    pub rollback: bool,
}

/// Limits of [`Between`]: what a person still reads before promoting.
pub const COMMITS_LIMIT: usize = 100;
pub const FILES_LIMIT: usize = 500;
/// Commits whose authors are looked up: years of a busy repository, read in about a second.
pub const AUTHORED_LIMIT: usize = 100_000;

/// The sources that a data directory knows.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `DATA/cache/git`
    directory: PathBuf,
}

impl Sources {
    /// Keeps caches below the data directory `data`. Makes nothing yet.
    pub fn new(data: &Path) -> Self {
        Self { directory: data.join("cache").join("git") }
    }

    /// Fetches what is needed and says which commit is wanted. A commit that was fetched before and
    /// is given by its whole hash needs no connection.
    ///
    /// The branch is the wanted one; of a commit, the one that HEAD points to if it contains the
    /// commit, else the first that does, else empty.
    pub async fn resolve(&self, address: &Address, want: &Want) -> Result<Commit, Error> {
        let cache = Cache::new(&self.directory, address);
        if let Some(sha) = whole_hash(want)
            && let Ok(commit) = cache.read(move |cache| history::describe(cache, &sha, None)).await
        {
            return Ok(commit);
        }
        let find = |head: cache::Head| {
            let wanted = want.clone();
            cache.read(move |cache| history::resolve(cache, &wanted, &head))
        };
        match find(cache.fetch(want).await?).await {
            Err(error) if damage(&error) => find(cache.mend(std::slice::from_ref(want)).await?).await,
            answer => answer,
        }
    }

    /// Fetches a commit that a branch or tag of the source was said to point at, unless it is here. Quicker
    /// than [`Self::resolve`], since it asks for that one ref only, where the source is known already, and
    /// looks for no branch: the commit's is the one that was said, and none where a tag was.
    pub async fn bring(
        &self,
        address: &Address,
        reference: &str,
        commit: &CommitSha,
    ) -> Result<Commit, Error> {
        let cache = Cache::new(&self.directory, address);
        let branch = reference.strip_prefix("refs/heads/").unwrap_or_default();
        let find = async || {
            let (sha, branch) = (commit.clone(), branch.to_owned());
            cache.read(move |cache| history::said(cache, &sha, &branch)).await
        };
        if let Ok(found) = find().await {
            return Ok(found);
        }
        match cache.fetch_ref(reference).await {
            Ok(()) => {
                if let Ok(found) = find().await {
                    return Ok(found);
                }
            }
            // The long way has the better words for it.
            Err(error) => tracing::debug!(%address, %error, "{reference} alone does not come"),
        }
        let found = self.resolve(address, &Want::Commit(commit.to_string())).await?;
        Ok(Commit { branch: branch.to_owned(), ..found })
    }

    /// Paths of the files that `to` changes, in order: all of them.
    pub async fn changed(
        &self,
        address: &Address,
        since: &Since,
        to: &CommitSha,
    ) -> Result<Vec<String>, Error> {
        let (compared, sha) = (since.clone(), to.clone());
        let commits = match since {
            Since::Commit(from) => vec![from, to],
            Since::Branch(_) | Since::Nothing => vec![to],
        };
        self.with_commits(address, &commits, move |cache| history::changed(cache, &compared, &sha)).await
    }

    /// Number of files in the source's directory that differ from its last commit, so that they are
    /// not part of a run. `None` where that cannot be told: the source is no directory of this
    /// machine, or has no work tree.
    pub async fn dirty(&self, address: &Address) -> Option<usize> {
        let path = address.path()?.to_owned();
        tokio::task::spawn_blocking(move || history::dirty(&path)).await.ok().flatten()
    }

    /// Keeps the commit of a run, whatever happens to the branch it came from.
    pub async fn pin(&self, address: &Address, run: &RunId, commit: &CommitSha) -> Result<(), Error> {
        let (name, sha) = (format!("refs/windlass/runs/{run}"), commit.clone());
        self.with_commits(address, &[commit], move |cache| cache.point(&name, &sha)).await
    }

    /// Makes `directory` a clone of the source at the commit: complete with its history, HEAD on
    /// `branch` (detached where that is empty or no name for a branch), `origin` the source.
    /// The directory must not exist or be empty; it appears whole or not at all.
    pub async fn clone_into(
        &self,
        address: &Address,
        commit: &CommitSha,
        branch: &str,
        directory: &Path,
    ) -> Result<(), Error> {
        let plan = clone::Plan {
            commit: commit.clone(),
            branch: branch.to_owned(),
            directory: directory.to_owned(),
        };
        // The work goes on in its thread when this future is dropped: the guard tells it to end, and to leave
        // nothing behind.
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        self.with_commits(address, &[commit], move |cache| clone::clone(cache, &plan, &dropped)).await
    }

    /// What promoting `to` ships where `from` runs.
    pub async fn between(
        &self,
        address: &Address,
        from: &CommitSha,
        to: &CommitSha,
    ) -> Result<Between, Error> {
        let (first, second) = (from.clone(), to.clone());
        self.with_commits(address, &[from, to], move |cache| history::between(cache, &first, &second)).await
    }

    /// Does local work that needs these commits. When it fails for want of an object, the cache is
    /// mended and the work done once more.
    async fn with_commits<T: Send + 'static>(
        &self,
        address: &Address,
        commits: &[&CommitSha],
        work: impl Fn(&Cache) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let cache = Cache::new(&self.directory, address);
        match cache.read(work.clone()).await {
            Err(error) if damage(&error) => {
                tracing::warn!(address = %address, error = %error, "the git cache is incomplete; fetching");
                let wants: Vec<_> = commits.iter().map(|sha| Want::Commit(sha.to_string())).collect();
                cache.mend(&wants).await?;
                cache.read(work).await
            }
            answer => answer,
        }
    }
}

/// Whether an error may come from a cache that lacks something.
fn damage(error: &Error) -> bool {
    matches!(error, Error::Git { action: cache::READ, .. })
}

fn whole_hash(want: &Want) -> Option<CommitSha> {
    match want {
        Want::Commit(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

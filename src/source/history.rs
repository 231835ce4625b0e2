//! What the cache knows of commits.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{ErrorCode, Oid, Repository, Sort};

use super::cache::{Cache, FETCHED_HEAD, Head, oid};
use super::{AUTHORED_LIMIT, Between, COMMITS_LIMIT, Error, FILES_LIMIT, Since, Want};
use crate::ids::CommitSha;
use crate::run::event::{Commit, ShippedCommit};

/// The wanted commit, in a cache that was just brought up to date.
pub(super) fn resolve(cache: &Cache, want: &Want, head: &Head) -> Result<Commit, Error> {
    let repository = cache.open()?;
    point_head(&repository, head);
    let unreadable = |error: git2::Error| cache.unreadable(error.message());
    let unknown = |wanted: String, hint: String| Error::UnknownRevision {
        address: cache.address.clone(),
        wanted,
        hint,
    };
    match want {
        Want::Head => {
            if head.sha.is_none() {
                let branch = head.branch.as_deref().unwrap_or("HEAD");
                return Err(unknown(format!("commit on {branch}, its HEAD"), choice(&repository, branch)));
            }
            // As it was fetched, which may be newer than what was listed before.
            let commit = repository
                .find_reference(FETCHED_HEAD)
                .and_then(|reference| reference.peel_to_commit())
                .map_err(unreadable)?;
            match &head.branch {
                Some(branch) => facts(cache, &commit, branch.clone()),
                None => describe_in(cache, &repository, &commit, head.branch.as_deref()),
            }
        }
        Want::Branch(branch) => {
            let name = branch.strip_prefix("refs/heads/").unwrap_or(branch);
            let id = match repository.refname_to_id(&format!("refs/heads/{name}")) {
                Ok(id) => id,
                Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => {
                    return Err(unknown(format!("branch {name:?}"), choice(&repository, name)));
                }
                Err(error) => return Err(unreadable(error)),
            };
            facts(cache, &repository.find_commit(id).map_err(unreadable)?, name.to_owned())
        }
        Want::Commit(revision) => {
            let object = match repository.revparse_single(revision) {
                Ok(object) => object,
                Err(error) if error.code() == ErrorCode::Ambiguous => {
                    let hint = ": several start like that; give more digits".to_owned();
                    return Err(unknown(format!("single commit {revision:?}"), hint));
                }
                Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => {
                    let hint = "; it must have been pushed or committed there".to_owned();
                    return Err(unknown(format!("commit {revision:?}"), hint));
                }
                Err(error) => return Err(unreadable(error)),
            };
            let commit = object.peel_to_commit().map_err(|_| {
                unknown(format!("commit {revision:?}"), ": that is something else than a commit".to_owned())
            })?;
            describe_in(cache, &repository, &commit, head.branch.as_deref())
        }
    }
}

/// A commit that is here, and the branch it is on; `head` is the branch to name if it can be.
pub(super) fn describe(cache: &Cache, commit: &CommitSha, head: Option<&str>) -> Result<Commit, Error> {
    let repository = cache.open()?;
    let commit = repository.find_commit(oid(commit)).map_err(|error| cache.unreadable(error.message()))?;
    describe_in(cache, &repository, &commit, head)
}

/// A commit that is here, said to be on that branch.
pub(super) fn said(cache: &Cache, commit: &CommitSha, branch: &str) -> Result<Commit, Error> {
    let repository = cache.open()?;
    let commit = repository.find_commit(oid(commit)).map_err(|error| cache.unreadable(error.message()))?;
    facts(cache, &commit, branch.to_owned())
}

fn describe_in(
    cache: &Cache,
    repository: &Repository,
    commit: &git2::Commit<'_>,
    head: Option<&str>,
) -> Result<Commit, Error> {
    let cached_head = repository.find_reference("HEAD").ok();
    let cached_head = cached_head.as_ref().and_then(|head| head.symbolic_target().ok().flatten());
    let first = head.or(cached_head.and_then(|name| name.strip_prefix("refs/heads/")));
    let holds = |branch: &str| {
        repository.refname_to_id(&format!("refs/heads/{branch}")).is_ok_and(|tip| {
            tip == commit.id() || repository.graph_descendant_of(tip, commit.id()).unwrap_or(false)
        })
    };
    let branch = match first.filter(|branch| holds(branch)) {
        Some(branch) => branch.to_owned(),
        None => branches(repository).into_iter().find(|branch| holds(branch)).unwrap_or_default(),
    };
    facts(cache, commit, branch)
}

fn facts(cache: &Cache, commit: &git2::Commit<'_>, branch: String) -> Result<Commit, Error> {
    Ok(Commit {
        sha: sha(cache, commit.id())?,
        branch,
        author: author(commit),
        message: text(commit.message_bytes()).trim_end().to_owned(),
    })
}

/// `HEAD~1` and the like mean the source's HEAD.
fn point_head(repository: &Repository, head: &Head) {
    let done = match (&head.branch, &head.sha) {
        (Some(branch), _) => repository.set_head(&format!("refs/heads/{branch}")),
        (None, Some(sha)) => Oid::from_str(sha).and_then(|id| repository.set_head_detached(id)),
        (None, None) => Ok(()),
    };
    if let Err(error) = done {
        tracing::debug!(error = error.message(), "HEAD of the cache stays as it was");
    }
}

/// By name.
fn branches(repository: &Repository) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(references) = repository.references_glob("refs/heads/*") {
        for reference in references.flatten() {
            if let Some(name) = reference.name().ok().and_then(|name| name.strip_prefix("refs/heads/")) {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    names
}

/// Which branches there are instead, the likeliest first.
fn choice(repository: &Repository, wanted: &str) -> String {
    let mut names = branches(repository);
    names.sort_by_key(|name| strsim::damerau_levenshtein(name, wanted));
    match names.get(..names.len().min(5)) {
        Some([]) | None => String::new(),
        Some(some) => format!("; it has {}", some.join(", ")),
    }
}

fn sha(cache: &Cache, id: Oid) -> Result<CommitSha, Error> {
    id.to_string().parse().map_err(|error| cache.unreadable(error))
}

fn author(commit: &git2::Commit<'_>) -> String {
    let author = commit.author();
    format!("{} <{}>", text(author.name_bytes()), text(author.email_bytes()))
}

/// What is not UTF-8 is taken for Latin-1, as git itself does.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

pub(super) fn between(cache: &Cache, from: &CommitSha, to: &CommitSha) -> Result<Between, Error> {
    let repository = cache.open()?;
    let read = || -> Result<(Vec<Oid>, Vec<String>, bool), git2::Error> {
        let (older, newer) = (repository.find_commit(oid(from))?, repository.find_commit(oid(to))?);
        let mut walk = repository.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(newer.id())?;
        walk.hide(older.id())?;
        let commits = walk.take(AUTHORED_LIMIT).collect::<Result<_, _>>()?;
        let diff = repository.diff_tree_to_tree(Some(&older.tree()?), Some(&newer.tree()?), None)?;
        let files = diff.deltas().take(FILES_LIMIT).filter_map(|delta| path(&delta)).collect();
        let rollback = older.id() != newer.id() && repository.graph_descendant_of(older.id(), newer.id())?;
        Ok((commits, files, rollback))
    };
    let (ids, files, rollback) = read().map_err(|error| cache.unreadable(error.message()))?;
    let mut commits = Vec::with_capacity(ids.len().min(COMMITS_LIMIT));
    let mut authors = BTreeSet::new();
    for id in ids {
        let commit = repository.find_commit(id).map_err(|error| cache.unreadable(error.message()))?;
        authors.insert(author(&commit));
        if commits.len() == COMMITS_LIMIT {
            continue;
        }
        let subject = commit.message_bytes().split(|byte| *byte == b'\n').find(|line| !line.is_empty());
        commits.push(ShippedCommit {
            sha: sha(cache, id)?,
            author: author(&commit),
            subject: text(subject.unwrap_or_default()).trim().to_owned(),
        });
    }
    Ok(Between { commits, authors: authors.into_iter().collect(), files, rollback })
}

pub(super) fn changed(cache: &Cache, since: &Since, to: &CommitSha) -> Result<Vec<String>, Error> {
    let repository = cache.open()?;
    let read = || -> Result<Vec<String>, git2::Error> {
        let newer = repository.find_commit(oid(to))?;
        let older = match since {
            Since::Nothing => None,
            Since::Commit(sha) => Some(repository.find_commit(oid(sha))?),
            Since::Branch(branch) => {
                let tip = repository.refname_to_id(&format!("refs/heads/{branch}"))?;
                match repository.merge_base(tip, newer.id()) {
                    Ok(base) => Some(repository.find_commit(base)?),
                    Err(error) if error.code() == ErrorCode::NotFound => None,
                    Err(error) => return Err(error),
                }
            }
        };
        let older = older.map(|commit| commit.tree()).transpose()?;
        let diff = repository.diff_tree_to_tree(older.as_ref(), Some(&newer.tree()?), None)?;
        Ok(diff.deltas().filter_map(|delta| path(&delta)).collect())
    };
    read().map_err(|error| cache.unreadable(error.message()))
}

/// The path of a file that differs.
fn path(delta: &git2::DiffDelta<'_>) -> Option<String> {
    let bytes = delta.new_file().path_bytes().or(delta.old_file().path_bytes());
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn dirty(path: &Path) -> Option<usize> {
    let repository = Repository::open(path).ok()?;
    if repository.is_bare() {
        return None;
    }
    let mut options = git2::StatusOptions::new();
    options.include_untracked(true).exclude_submodules(true);
    Some(repository.statuses(Some(&mut options)).ok()?.len())
}

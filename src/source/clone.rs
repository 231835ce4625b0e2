//! A clone for a workspace.
//!
//! Its files are written by git, on as many cores as there are: reading a commit's blobs and making its files
//! is nearly all that a clone of a large repository takes, and libgit2 takes three times as long for it, on
//! one core.
//!
//! Its objects are hard links to the cache's. That is safe as long as nobody writes into an object in
//! place: git never does (it makes new files and renames them), the files are read-only, and a step
//! that means harm runs as the user who owns the cache anyway. Copying instead would cost the size of
//! the history for each attempt. On another file system they are copied.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Repository;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::cache::{Cache, oid};
use crate::ids::CommitSha;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub commit: CommitSha,
    pub branch: String,
    pub directory: PathBuf,
}

/// Makes the clone; on a thread of the runtime on which it may block. Leaves nothing when it was `dropped`.
pub(super) fn clone(cache: &Cache, plan: &Plan, dropped: &CancellationToken) -> Result<(), Error> {
    let disk = |error: io::Error| Error::Disk { path: plan.directory.clone(), message: error.to_string() };
    let parent = plan.directory.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(disk)?;
    // Removed when anything goes wrong.
    let fresh = tempfile::Builder::new().prefix(".clone-").tempdir_in(parent).map_err(disk)?;
    fill(cache, plan, fresh.path())?;
    let files = dropped.run_until_cancelled(cache.check_out(fresh.path()));
    match Handle::current().block_on(files) {
        Some(written) => written?,
        None => {
            remove(fresh);
            return Ok(());
        }
    }
    // A directory takes the place of an empty one; of anything else it does not.
    std::fs::set_permissions(fresh.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(disk)?;
    std::fs::rename(fresh.path(), &plan.directory).map_err(disk)?;
    let _ = fresh.keep();
    Ok(())
}

/// Removes what a git was working on that was just killed: it may still end the call that it is in, and so put
/// a file into a directory that was empty.
fn remove(fresh: TempDir) {
    let path = fresh.keep();
    for _ in 0..100 {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::warn!(path = %path.display(), "what is left of a clone cannot be removed");
}

/// Makes the repository, all but its files.
fn fill(cache: &Cache, plan: &Plan, directory: &Path) -> Result<(), Error> {
    let unreadable = |error: git2::Error| cache.unreadable(error.message());
    let disk = |error: io::Error| Error::Disk { path: directory.to_owned(), message: error.to_string() };
    let source = cache.open()?;
    source.find_commit(oid(&plan.commit)).map_err(unreadable)?;

    let on_branch =
        plan.branch != "HEAD" && git2::Reference::is_valid_name(&format!("refs/heads/{}", plan.branch));
    let mut options = git2::RepositoryInitOptions::new();
    options.external_template(false);
    options.initial_head(if on_branch { &plan.branch } else { "main" });
    let clone = Repository::init_opts(directory, &options).map_err(unreadable)?;
    link_tree(&cache.path().join("objects"), &clone.path().join("objects")).map_err(disk)?;
    write_references(cache, &source, &clone)?;

    let finish = || -> Result<(), git2::Error> {
        let mut config = clone.config()?;
        // What the user of this machine prefers must not change what is checked out.
        config.set_bool("core.autocrlf", false)?;
        config.set_str("core.eol", "native")?;
        config.set_str("core.attributesFile", "/dev/null")?;
        clone.remote("origin", &cache.address.to_string())?;
        let commit = clone.find_commit(oid(&plan.commit))?;
        match on_branch {
            true => {
                let name = format!("refs/heads/{}", plan.branch);
                clone.reference(&name, commit.id(), true, "clone")?;
                clone.set_head(&name)
            }
            false => clone.set_head_detached(commit.id()),
        }
    };
    finish().map_err(unreadable)
}

/// Links or copies everything below `from`, except the `info` that speaks of the cache itself, and what
/// a git leaves there only while it fetches: that is no object, and may be gone before it is linked.
fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry?;
        let Ok(inner) = entry.path().strip_prefix(from) else { continue };
        // A name that starts like that is a pack that is being fetched right now.
        let unfinished = entry.file_name().to_string_lossy().starts_with("tmp_");
        let passing = inner.extension().is_some_and(|ending| ending == "keep" || ending == "lock");
        if inner.starts_with("info") || unfinished || passing {
            continue;
        }
        let target = to.join(inner);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target)?;
            continue;
        }
        link(entry.path(), &target)?;
        // A pack's index appears last, so its pack is there, even if the walk began before it was.
        if inner.extension().is_some_and(|extension| extension == "idx") {
            link(&entry.path().with_extension("pack"), &target.with_extension("pack"))?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Another file system, or one without links.
        Err(_) => std::fs::copy(from, to).map(drop),
    }
}

/// The source's branches as those of `origin`, and its tags, in one file.
fn write_references(cache: &Cache, source: &Repository, clone: &Repository) -> Result<(), Error> {
    let unreadable = |error: git2::Error| cache.unreadable(error.message());
    let mut lines = BTreeMap::new();
    for reference in source.references().map_err(unreadable)?.flatten() {
        let Some(id) = reference.target() else { continue };
        let Ok(name) = std::str::from_utf8(reference.name_bytes()) else { continue };
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            lines.insert(format!("refs/remotes/origin/{branch}"), id);
        } else if name.starts_with("refs/tags/") {
            lines.insert(name.to_owned(), id);
        }
    }
    // Sorted by name, as the header says; see gitrepository-layout(5).
    let mut text = String::from("# pack-refs with: sorted \n");
    for (name, id) in lines {
        text.push_str(&format!("{id} {name}\n"));
    }
    let path = clone.path().join("packed-refs");
    std::fs::write(&path, text).map_err(|error| Error::Disk { path, message: error.to_string() })
}

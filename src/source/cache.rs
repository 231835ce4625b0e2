//! One bare repository for each address, which only grows.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::command::Git;
use super::{Address, Error, Want};
use crate::directory;
use crate::ids::{CommitSha, Digest};

/// The action of errors that a damaged cache may have caused.
pub(super) const READ: &str = "read the copy of";

/// Time for a repository to say which branches it has, and to send everything it has. A stage's own
/// timeout is shorter; these end what nobody waits for.
const LIST_LIMIT: Duration = Duration::from_secs(120);
const FETCH_LIMIT: Duration = Duration::from_secs(3600);

/// How often a lock that somebody else holds is tried again: `flock` cannot be waited for in a way
/// that can be given up.
const LOCK_BEAT: Duration = Duration::from_millis(20);

/// Where the commit of the source's HEAD is kept.
pub(super) const FETCHED_HEAD: &str = "refs/windlass/head";

/// What a source's HEAD is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// `None` when it is detached.
    pub branch: Option<String>,
    /// `None` when the branch has no commits.
    pub sha: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Cache {
    pub address: Address,
    directory: PathBuf,
    digest: Digest,
}

impl Cache {
    pub fn new(directory: &Path, address: &Address) -> Self {
        let digest = Digest::of(address.to_string().as_bytes());
        Self { address: address.clone(), directory: directory.to_owned(), digest }
    }

    /// The bare repository.
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.git", self.digest))
    }

    /// Local work, on a thread where it may block.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let cache = self.clone();
        match tokio::task::spawn_blocking(move || work(&cache)).await {
            Ok(answer) => answer,
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    pub fn open(&self) -> Result<git2::Repository, Error> {
        git2::Repository::open_bare(self.path()).map_err(|error| self.unreadable(error.message()))
    }

    pub fn unreadable(&self, message: impl ToString) -> Error {
        Error::Git { action: READ, address: self.address.clone(), message: message.to_string() }
    }

    /// Points a reference of our own at a commit that is here. Only for whoever holds the data
    /// directory.
    pub fn point(&self, name: &str, commit: &CommitSha) -> Result<(), Error> {
        static ALONE: Mutex<()> = Mutex::new(());
        let unreadable = |error: git2::Error| self.unreadable(error.message());
        let repository = self.open()?;
        let id = git2::Oid::from_str(commit.as_str()).map_err(unreadable)?;
        repository.find_commit(id).map_err(unreadable)?;
        let write = || repository.reference(name, id, true, "run").map(drop);
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match write() {
            // Nobody else writes it now: a process left it locked that was killed in the middle of it.
            Err(error) if error.code() == git2::ErrorCode::Locked => {
                let _ = std::fs::remove_file(self.path().join(format!("{name}.lock")));
                write()
            }
            written => written,
        };
        written.map_err(unreadable)
    }

    /// Brings the cache up to date with the source, and what is wanted beside its branches.
    pub async fn fetch(&self, want: &Want) -> Result<Head, Error> {
        self.check_path()?;
        let _lock = self.lock().await?;
        let head = self.list().await?;
        self.read(Cache::prepare).await?;
        match self.fetch_branches(&head).await {
            // The source has just answered, so the copy may be the broken one.
            Err(Error::Git { .. }) if self.broken().await => {
                self.read(Cache::renew).await?;
                self.fetch_branches(&head).await?;
            }
            answer => answer?,
        }
        self.fetch_hash(want).await;
        Ok(head)
    }

    /// Brings one branch or tag up to date in a copy that is there already.
    pub async fn fetch_ref(&self, reference: &str) -> Result<(), Error> {
        self.check_path()?;
        let _lock = self.lock().await?;
        self.read(|cache| cache.open().map(drop)).await?;
        self.read(Cache::prepare).await?;
        self.fetch_refs(&[&format!("+{reference}:{reference}")]).await
    }

    /// Makes the cache again if it is broken, and fetches what is wanted.
    pub async fn mend(&self, wants: &[Want]) -> Result<Head, Error> {
        self.check_path()?;
        let _lock = self.lock().await?;
        let head = self.list().await?;
        // Somebody who had the lock before us may have mended it already.
        match self.broken().await {
            true => self.read(Cache::renew).await?,
            false => self.read(Cache::prepare).await?,
        }
        self.fetch_branches(&head).await?;
        for want in wants {
            self.fetch_hash(want).await;
            self.check_hash(want)?;
        }
        Ok(head)
    }

    /// Held until it is dropped, by one process and task at a time.
    async fn lock(&self) -> Result<File, Error> {
        let path = self.directory.join(format!("{}.lock", self.digest));
        let disk = |error: io::Error| Error::Disk { path: path.clone(), message: error.to_string() };
        directory::make_private(&self.directory).map_err(disk)?;
        let file = File::create(&path).map_err(disk)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_BEAT).await,
                Err(TryLockError::Error(error)) => return Err(disk(error)),
            }
        }
    }

    /// Makes the repository if there is none. Only with the lock.
    fn prepare(&self) -> Result<(), Error> {
        if self.open().is_err() {
            return self.renew();
        }
        // What a killed git left locked stays locked for ever, and half a pack stays; with our lock
        // no other git is there. Our own references are written without the lock.
        let runs = self.path().join("refs/windlass/runs");
        let skipped = |path: &Path| path == runs || path.parent() == Some(&self.path().join("objects"));
        let walk = walkdir::WalkDir::new(self.path()).into_iter();
        for entry in
            walk.filter_entry(|entry| !skipped(entry.path()) || entry.file_name() == "pack").flatten()
        {
            let half = entry.file_name().to_string_lossy().starts_with("tmp_pack_");
            if entry.path().extension() == Some(OsStr::new("lock")) || half {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Makes the repository afresh. Only with the lock.
    fn renew(&self) -> Result<(), Error> {
        let path = self.path();
        let disk = |message: String| Error::Disk { path: path.clone(), message };
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(error.to_string())),
            _ => {}
        }
        let make = || -> Result<(), git2::Error> {
            let mut options = git2::RepositoryInitOptions::new();
            options.bare(true).external_template(false).initial_head("main");
            let mut config = git2::Repository::init_opts(&path, &options)?.config()?;
            config.set_str("gc.auto", "0")?;
            config.set_str("maintenance.auto", "false")?;
            config.set_str("core.hooksPath", "/dev/null")?;
            // Always packs: a clone links few files.
            config.set_str("transfer.unpackLimit", "1")?;
            // For whoever wonders whose copy this is.
            config.set_str("windlass.source", &self.address.to_string())
        };
        make().map_err(|error| disk(error.message().to_owned()))
    }

    /// Whether the copy lacks something of what it claims to have.
    async fn broken(&self) -> bool {
        if self.open().is_err() {
            return true;
        }
        let arguments = ["fsck", "--no-dangling", "--no-progress"];
        self.git("check the copy of", FETCH_LIMIT, &arguments).await.is_err()
    }

    /// Asks the source for its HEAD, and so whether there is one at all.
    async fn list(&self) -> Result<Head, Error> {
        let configuration = self.configuration()?;
        let address = self.address.to_string();
        let arguments = ["ls-remote", "--symref", "--", address.as_str()].map(OsStr::new);
        let git =
            Git { address: &self.address, configuration: &configuration, action: "reach", limit: LIST_LIMIT };
        let listing = git.run(&arguments).await?;
        let mut head = Head::default();
        let mut refs = 0;
        for line in listing.lines() {
            let Some((what, name)) = line.split_once('\t') else { continue };
            if let Some(target) = what.strip_prefix("ref: ") {
                if name == "HEAD" {
                    head.branch = target.strip_prefix("refs/heads/").map(str::to_owned);
                }
                continue;
            }
            refs += 1;
            if what.len() == 64 {
                let reason = "names its objects by SHA-256, which is not supported yet".to_owned();
                return Err(Error::Unsupported { address: self.address.clone(), reason });
            }
            if name == "HEAD" {
                head.sha = Some(what.to_owned());
            }
        }
        match refs {
            0 => Err(Error::Empty(self.address.clone())),
            _ => Ok(head),
        }
    }

    async fn fetch_branches(&self, head: &Head) -> Result<(), Error> {
        let fetched_head = format!("+HEAD:{FETCHED_HEAD}");
        let mut what = vec!["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        // A detached HEAD may be on no branch.
        if head.sha.is_some() {
            what.push(&fetched_head);
        }
        match self.fetch_refs(&what).await {
            Err(Error::Git { message, .. }) if message.contains("shallow") => {
                Err(Error::Shallow { address: self.address.clone() })
            }
            answer => answer,
        }
    }

    /// A commit on no branch can still be asked for by its hash, where the source allows that.
    /// Whether it came is seen when it is looked for.
    async fn fetch_hash(&self, want: &Want) {
        if let Want::Commit(text) = want
            && let Ok(sha) = text.parse::<CommitSha>()
            && self.open().is_ok_and(|repository| repository.find_commit(oid(&sha)).is_err())
        {
            let what = format!("+{sha}:refs/windlass/commits/{sha}");
            if let Err(error) = self.fetch_refs(&[&what]).await {
                tracing::debug!(address = %self.address, %error, "the source does not give {sha}");
            }
        }
    }

    /// Whether a commit that is wanted by its hash has come.
    fn check_hash(&self, want: &Want) -> Result<(), Error> {
        let Want::Commit(text) = want else { return Ok(()) };
        let Ok(sha) = text.parse::<CommitSha>() else { return Ok(()) };
        match self.open()?.find_commit(oid(&sha)) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::UnknownRevision {
                address: self.address.clone(),
                wanted: format!("commit {sha}"),
                hint: " any more; its history may have been rewritten".to_owned(),
            }),
        }
    }

    async fn fetch_refs(&self, what: &[&str]) -> Result<(), Error> {
        let address = self.address.to_string();
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--force",
            "--prune",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--",
            &address,
        ];
        arguments.extend(what);
        self.git("fetch from", FETCH_LIMIT, &arguments).await.map(drop)
    }

    /// Writes the files of the HEAD of `clone`, a clone of this, and its index.
    pub async fn check_out(&self, clone: &Path) -> Result<(), Error> {
        let work_tree = ["--work-tree".as_ref(), clone.as_os_str()];
        // As many processes write as there are cores, where there are files enough.
        let arguments = ["-c", "checkout.workers=0", "read-tree", "--reset", "-u", "HEAD"].map(OsStr::new);
        let arguments = [&work_tree[..], &arguments].concat();
        self.git_at(&clone.join(".git"), READ, FETCH_LIMIT, &arguments).await.map(drop)
    }

    /// Runs git in the cache.
    async fn git(&self, action: &'static str, limit: Duration, arguments: &[&str]) -> Result<String, Error> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        self.git_at(&self.path(), action, limit, &arguments).await
    }

    async fn git_at(
        &self,
        directory: &Path,
        action: &'static str,
        limit: Duration,
        arguments: &[&OsStr],
    ) -> Result<String, Error> {
        let configuration = self.configuration()?;
        let all = [&["--git-dir".as_ref(), directory.as_os_str()], arguments].concat();
        Git { address: &self.address, configuration: &configuration, action, limit }.run(&all).await
    }

    /// Git refuses to read a directory that belongs to somebody else, unless the user's configuration
    /// names it. Whoever gave us the directory meant it, so a configuration of our own names just that
    /// one; the check is done by the process at the other end, which takes it from nowhere else.
    fn configuration(&self) -> Result<PathBuf, Error> {
        let Some(source) = self.address.path() else { return Ok(PathBuf::from("/dev/null")) };
        let path = self.directory.join(format!("{}.config", self.digest));
        let disk = |error: io::Error| Error::Disk { path: path.clone(), message: error.to_string() };
        let quoted = source.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!("[safe]\n\tdirectory = \"{quoted}\"\n\tdirectory = \"{quoted}/.git\"\n");
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(path);
        }
        directory::make_private(&self.directory).map_err(disk)?;
        let fresh = tempfile::NamedTempFile::new_in(&self.directory).map_err(disk)?;
        std::fs::write(fresh.path(), text).map_err(disk)?;
        fresh.persist(&path).map_err(|error| disk(error.error))?;
        Ok(path)
    }

    /// What git would say about a directory, said better.
    fn check_path(&self) -> Result<(), Error> {
        let Some(path) = self.address.path() else { return Ok(()) };
        let not = |hint: String| Error::NotRepository { address: path.display().to_string(), hint };
        if !path.exists() {
            return Err(not("there is no such directory".to_owned()));
        }
        if !path.is_dir() {
            return Err(not("it is a file; name the directory".to_owned()));
        }
        let bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
        let inner = path.join(".git");
        if !bare && !inner.exists() {
            let outer = path.ancestors().skip(1).find(|above| above.join(".git").exists());
            return Err(not(match outer {
                Some(outer) => format!("it is a part of {}; name that one", outer.display()),
                None => format!("make it one with: git init {}", path.display()),
            }));
        }
        let shallow = if bare { path.join("shallow") } else { inner.join("shallow") };
        match shallow.is_file() {
            true => Err(Error::Shallow { address: self.address.clone() }),
            false => Ok(()),
        }
    }
}

/// A hash that was checked when it was read.
pub(super) fn oid(commit: &CommitSha) -> git2::Oid {
    git2::Oid::from_str(commit.as_str()).unwrap_or(git2::Oid::ZERO_SHA1)
}

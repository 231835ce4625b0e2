//! Where an attempt works: a fresh directory for each, gone when the attempt succeeded.
//!
//! `DATA/workspaces/PIPELINE/NUMBER/STAGE.ATTEMPT/` holds `work` (the clone and the artifacts),
//! `home`, `tmp`, and the file `output`. It is made beside, as `STAGE.ATTEMPT.new`, and has its name
//! once all of that is in place: nothing that a step does to its files makes it look half made.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Work;
use crate::artifact::Shelf;
use crate::ids::{AttemptId, RunId};
use crate::run::event::{Artifact, Failure};
use crate::run::state::StepPhase;
use crate::source::{Address, Sources};

/// Makes workspaces.
#[derive(Clone)]
pub struct Workspaces {
    pub data: PathBuf,
    pub sources: Arc<Sources>,
    pub shelf: Arc<Shelf>,
}

/// The directories of one attempt.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
    /// The file that takes `key=value` outputs.
    pub fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    fn furnish(&self) -> Result<(), Failure> {
        for directory in [self.work(), self.home(), self.tmp()] {
            std::fs::create_dir(&directory).map_err(|error| not_made(&directory, &error))?;
        }
        let output = self.output();
        std::fs::write(&output, b"").map_err(|error| not_made(&output, &error))
    }

    /// Gives it the name of the other, which is not there.
    fn become_it(self, other: &Self) -> Result<(), Failure> {
        std::fs::rename(&self.root, &other.root).map_err(|error| not_made(&other.root, &error))
    }

    /// Removes it: what steps left nothing in without looking into it, which is most of the work otherwise.
    fn remove(&self) -> io::Result<()> {
        let quickly = || {
            std::fs::remove_file(self.output())?;
            for directory in [&self.work(), &self.home(), &self.tmp(), &self.root] {
                std::fs::remove_dir(directory)?;
            }
            io::Result::Ok(())
        };
        quickly().or_else(|_| std::fs::remove_dir_all(&self.root))
    }
}

impl Workspaces {
    /// How long the workspace of a failed attempt stays for somebody to look at, unless the stage is
    /// tried again before.
    pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

    /// The attempt's workspace, made unless it is there: the clone if an ancestor is a checkout,
    /// and the ancestors' artifacts at the paths they came from.
    pub async fn prepare(&self, work: &Work) -> Result<Workspace, Failure> {
        let workspace = self.at(&work.id);
        if workspace.root.exists() {
            return Ok(workspace);
        }
        if has_made_something(work) {
            let path = workspace.root.display();
            return Err(Failure::infrastructure(format!(
                "the workspace {path} is gone, and with it what the attempt's steps made: somebody removed it, \
                 or this is a restored backup"
            )));
        }
        let draft = self.begin(&work.id).await?;
        draft.furnish()?;
        if work.checked_out {
            self.clone_commit(work, &draft.work()).await?;
        }
        if !work.artifacts.is_empty() {
            self.restore(&work.artifacts, draft.work()).await?;
        }
        draft.become_it(&workspace)?;
        Ok(workspace)
    }

    /// Makes the workspace of an attempt that is about to begin, where nothing is to be put into it and nothing
    /// is in the way. Else, and where it fails, [`Workspaces::prepare`] does that and more.
    pub fn lay_out(&self, work: &Work) {
        let (workspace, draft) = (self.at(&work.id), self.draft(&work.id));
        let starts_empty = !work.checked_out && work.artifacts.is_empty() && !has_made_something(work);
        let is_first = work.id.attempt == 1 && !workspace.root.exists();
        if starts_empty && is_first && std::fs::create_dir(&draft.root).is_ok() {
            let _ = draft.furnish().and_then(|()| draft.become_it(&workspace));
        }
    }

    async fn restore(&self, artifacts: &[Artifact], into: PathBuf) -> Result<(), Failure> {
        let (shelf, artifacts) = (self.shelf.clone(), artifacts.to_vec());
        blocking(move || {
            for artifact in &artifacts {
                shelf.restore(&artifact.digest, &into, &artifact.path).map_err(|error| {
                    Failure::infrastructure(format!("artifact {} cannot be restored: {error}", artifact.name))
                })?;
            }
            Ok(())
        })
        .await
    }

    /// A self-contained clone of the run's commit at `directory`.
    pub async fn clone_commit(&self, work: &Work, directory: &Path) -> Result<(), Failure> {
        let (address, commit) = commit(work)?;
        let sources: &Sources = &self.sources;
        sources
            .clone_into(&address, &commit.sha, &commit.branch, directory)
            .await
            .map_err(|error| Failure::infrastructure(format!("the commit cannot be cloned: {error}")))
    }

    /// Removes the attempt's workspace: it is not needed any more. Nobody waits for that; what is
    /// left when the process ends meanwhile is swept up later.
    pub fn remove(&self, id: &AttemptId) {
        let workspace = self.at(id);
        tokio::task::spawn_blocking(move || workspace.remove());
    }

    /// The empty directory of a workspace that is to be made, once what is left of the attempts before and of
    /// an earlier try is removed.
    async fn begin(&self, id: &AttemptId) -> Result<Workspace, Failure> {
        let draft = self.draft(id);
        if id.attempt == 1 {
            match std::fs::create_dir(&draft.root) {
                Ok(()) => return Ok(draft),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // The first stage of the run makes those above it.
                Err(_) => return make(&draft.root).map(|()| draft),
            }
        }
        let before = (1..id.attempt).map(|attempt| AttemptId { attempt, ..id.clone() });
        let mut left: Vec<Workspace> = before.flat_map(|id| [self.at(&id), self.draft(&id)]).collect();
        left.push(draft.clone());
        blocking(move || {
            for Workspace { root } in &left {
                match std::fs::remove_dir_all(root) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let path = root.display();
                        return Err(Failure::infrastructure(format!("{path} cannot be cleared: {error}")));
                    }
                    _ => {}
                }
            }
            make(&draft.root).map(|()| draft)
        })
        .await
    }

    /// Removes workspaces that nobody has touched for a day, by a clock that may be wrong: never one of a run
    /// that goes on, where a step may be at work.
    pub fn sweep(&self, unfinished: &BTreeSet<RunId>) {
        let old = |path: &Path| {
            let modified =
                path.metadata().and_then(|meta| meta.modified()).unwrap_or_else(|_| SystemTime::now());
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > Self::KEPT)
        };
        let runs = walkdir::WalkDir::new(self.data.join("workspaces")).min_depth(2).max_depth(2);
        let runs = runs.into_iter().filter_map(Result::ok);
        let unneeded = |path: &Path| run_at(path).is_none_or(|run| !unfinished.contains(&run));
        for run in runs.filter(|entry| unneeded(entry.path())) {
            // Read before what is in it is removed, which touches it.
            let is_old = old(run.path());
            for attempt in std::fs::read_dir(run.path()).into_iter().flatten().filter_map(Result::ok) {
                let attempt = attempt.path();
                if old(&attempt)
                    && let Err(error) = std::fs::remove_dir_all(&attempt)
                {
                    tracing::warn!(path = %attempt.display(), %error, "an old workspace cannot be removed");
                }
            }
            if is_old {
                // Unless something is still in it.
                let _ = std::fs::remove_dir(run.path());
            }
        }
    }

    pub fn at(&self, id: &AttemptId) -> Workspace {
        let AttemptId { run, stage, attempt } = id;
        let run = self.data.join("workspaces").join(run.pipeline.as_str()).join(run.number.to_string());
        Workspace { root: run.join(format!("{stage}.{attempt}")) }
    }

    /// Where it is made.
    fn draft(&self, id: &AttemptId) -> Workspace {
        Workspace { root: self.at(id).root.with_added_extension("new") }
    }
}

/// Whether a step of the attempt has ended: the others count on what it made. The intent of the first is
/// recorded with the attempt's.
fn has_made_something(work: &Work) -> bool {
    work.recorded.iter().any(|step| step.phase != StepPhase::Running)
}

/// The run whose attempts work below `PIPELINE/NUMBER`.
fn run_at(path: &Path) -> Option<RunId> {
    let number = path.file_name()?.to_str()?;
    let pipeline = path.parent()?.file_name()?.to_str()?;
    format!("{pipeline}/{number}").parse().ok()
}

/// Where the run's commits come from, and which it is.
pub fn commit(work: &Work) -> Result<(Address, &crate::run::event::Commit), Failure> {
    let missing = || Failure::policy("the run has no commit: name one with `source` or --source");
    let commit = work.origin.commit.as_ref().ok_or_else(missing)?;
    let source = work.origin.source.as_ref().ok_or_else(missing)?;
    let address = Address::parse(source, Path::new("/"))
        .map_err(|error| Failure::infrastructure(format!("the recorded source is wrong: {error}")))?;
    Ok((address, commit))
}

pub fn make(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| not_made(directory, &error))
}

fn not_made(path: &Path, error: &io::Error) -> Failure {
    Failure::infrastructure(format!("{} cannot be made: {error}", path.display()))
}

/// Runs blocking work of a stage.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::infrastructure("work on files panicked; this is a defect")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_touched_for_a_day_is_swept_up_and_nothing_of_a_run_that_goes_on() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::new(data.path().join("artifacts")));
        let sources = Arc::new(Sources::new(data.path()));
        let workspaces = Workspaces { data: data.path().to_owned(), sources, shelf };
        let attempts = ["shop/1/build.1", "shop/2/build.1", "shop/3/build.1"];
        let [old, under_way, new] = attempts.map(|attempt| data.path().join("workspaces").join(attempt));
        let of_run = |attempt: &PathBuf| attempt.parent().unwrap().to_owned();
        for (attempt, age) in [(&old, 25), (&under_way, 25), (&new, 23)] {
            std::fs::create_dir_all(attempt.join("work")).unwrap();
            let modified = SystemTime::now() - Duration::from_secs(age * 3600);
            for directory in [attempt, &of_run(attempt)] {
                std::fs::File::open(directory).unwrap().set_modified(modified).unwrap();
            }
        }
        workspaces.sweep(&BTreeSet::from(["shop/2".parse().unwrap()]));
        assert_eq!([&old, &under_way, &new].map(|attempt| attempt.exists()), [false, true, true]);
        assert!(!of_run(&old).exists(), "nothing is left of a run that nothing is left of");
    }
}

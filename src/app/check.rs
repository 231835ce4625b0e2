//! Looks through a data directory: reads what [`crate::check`] judges, and mends what can be made anew.
//! Works beside whoever holds the directory: all of the database is of one moment, and files are looked
//! at afterwards, when there can only be more of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::artifact::Shelf;
use crate::backup::{self, Difference, Manifest};
use crate::balancer;
use crate::check::{Area, Files, Finding, ImageFact, Judge, Needs, RESTORE, Verdict};
use crate::cloud::local::{Local, LocalObjects};
use crate::ids::RunId;
use crate::log;
use crate::runner;
use crate::store;
use crate::store::hold::{Hold, HoldError};
use crate::store::sqlite::{Mending, Sqlite};

/// Why a data directory could not be looked through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} holds no runs: there is nothing to check", .0.display())]
    Nothing(PathBuf),
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the list of the backup: {0}")]
    Backup(std::io::Error),
    #[error("looking through {} failed: {why}", .path.display())]
    Files { path: PathBuf, why: String },
}

/// Whether a backup is compared with its list too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Compared,
    /// It has just been written.
    Trusted,
}

/// What is wrong with the data directory, if something is.
pub async fn examine(data: &Path, list: List) -> Result<Verdict, Error> {
    let mut judge = Judge::new(Timestamp::now());
    match database(data, &mut judge).await {
        // No more can be read of it.
        Err(Error::Store(error @ store::Error::Damaged { .. })) => {
            let finding = Finding::error(Area::Database, "windlass.db", error.to_string());
            judge.found(finding.advice(RESTORE));
        }
        read => read?,
    }
    let (data, needs) = (data.to_owned(), judge.needs().clone());
    let known = runs_with_logs(&data)
        .into_iter()
        .filter(|(_, run)| run.as_ref().is_none_or(|run| !judge.has_run(run)));
    let strange_logs = known.map(|(place, _)| place).collect();
    let work = move || {
        look(&data, &needs, list).map(|(files, findings)| (Files { strange_logs, ..files }, findings))
    };
    let looked = tokio::task::spawn_blocking(work).await;
    let failed = |error: tokio::task::JoinError| Error::Backup(std::io::Error::other(error));
    let (files, findings) = looked.map_err(failed)??;
    judge.files(&files);
    findings.into_iter().for_each(|finding| judge.found(finding));
    Ok(judge.finish())
}

async fn database(data: &Path, judge: &mut Judge) -> Result<(), Error> {
    let mut store = Sqlite::inspect(data).await?.ok_or_else(|| Error::Nothing(data.to_owned()))?;
    judge.database(&store.integrity().await?);
    store.journals(|name, entries| judge.journal(name, entries)).await?;
    judge.lists(&store.lists().await?);
    Ok(store.end().await?)
}

/// Makes anew what can be, and answers what that was. Nobody else may hold the directory.
pub async fn mend(data: &Path) -> Result<Vec<String>, Error> {
    let _hold = Hold::take(data, "windlass check-data --repair")?;
    // What was found before it was held may not be so any more: somebody may have worked there.
    let verdict = examine(data, List::Compared).await?;
    let indexes = verdict.findings.iter().any(|finding| finding.mendable && finding.area == Area::Database);
    let afresh = verdict.rows.is_some();
    let rows = verdict.rows.clone().unwrap_or_default();
    let mending =
        Mending { runs: rows.runs, fleets: rows.fleets, afresh, numbers: verdict.numbers.clone(), indexes };
    let mut done = Vec::new();
    if indexes {
        done.push("made the indexes of the database anew".to_owned());
    }
    if afresh {
        let (runs, fleets) = (mending.runs.len(), mending.fleets.len());
        done.push(format!("made the lists anew from the journals: {runs} runs, {fleets} fleets"));
    }
    for (pipeline, last) in &mending.numbers {
        done.push(format!("the next run of {pipeline} gets a number above {last}"));
    }
    if !done.is_empty() {
        // What it says of the database is true no more.
        backup::open_up(data).map_err(Error::Backup)?;
        Sqlite::mend(data, &mending).await?;
    }
    Ok(done)
}

fn look(data: &Path, needs: &Needs, list: List) -> Result<(Files, Vec<Finding>), Error> {
    let failed =
        |path: PathBuf| move |error: &dyn std::fmt::Display| Error::Files { path, why: error.to_string() };
    let local = Local::new(data.to_owned());
    let artifacts = needs.artifacts.keys().cloned().collect();
    let shelf = Shelf::new(data.join("artifacts")).examine(&artifacts);
    let shelf = shelf.map_err(|error| failed(data.join("artifacts"))(&error))?;
    let objects = LocalObjects::new(data.join("objects")).examine(&needs.objects.keys().collect());
    let images = local.examine_images().map_err(|error| failed(data.join("images"))(&error))?;
    let length = |step| std::fs::metadata(log::path(data, step)).ok().map(|log| log.len());
    let runner = runner::examine(data);
    let files = Files {
        logs: needs.logs.keys().filter_map(|step| Some((step.clone(), length(step)?))).collect(),
        strange_logs: Vec::new(),
        artifacts: shelf.wrong,
        unneeded: shelf.unneeded,
        objects: objects.map_err(|error| failed(data.join("objects"))(&error))?,
        images: images.into_iter().map(|(image, problem)| (image, ImageFact { problem })).collect(),
        instances: local.examine_instances().map_err(|error| failed(data.join("instances"))(&error))?,
        runner_lines: runner.as_ref().map_or(0, |lines| *lines),
        runner: runner.err().map(|error| error.to_string()),
        balancer: balancer::examine(data).err(),
    };
    let findings = match list {
        List::Compared => listed(data).map_err(Error::Backup)?,
        List::Trusted => Vec::new(),
    };
    Ok((files, findings))
}

/// How a backup differs from its list; nothing for what is none.
fn listed(data: &Path) -> std::io::Result<Vec<Finding>> {
    let error = |place: String, problem: &str| Finding::error(Area::Backup, place, problem);
    let list = match Manifest::read(data) {
        Ok(None) => return Ok(Vec::new()),
        Ok(Some(list)) => list,
        Err(unreadable) => {
            let finding = error(backup::MANIFEST.to_owned(), &unreadable.to_string());
            return Ok(vec![finding.advice("take another backup")]);
        }
    };
    let differences = list.compare(data)?.into_iter().map(|difference| match difference {
        Difference::Missing(place) => {
            error(place, "it was in the backup, and is not there").advice("use another backup")
        }
        Difference::Changed(place, how) => error(place, &how).advice("use another backup"),
        Difference::Unknown(place) => {
            Finding::note(Area::Backup, place, "it came after the backup was taken")
        }
    });
    Ok(differences.collect())
}

/// The directories of logs two levels down, and the runs that they are named after.
fn runs_with_logs(data: &Path) -> BTreeSet<(String, Option<RunId>)> {
    let walk = walkdir::WalkDir::new(data.join("logs")).min_depth(2).max_depth(2).follow_root_links(true);
    let found = walk.into_iter().filter_map(Result::ok).filter_map(|entry| {
        let place = entry.path().strip_prefix(data).ok()?.to_str()?.to_owned();
        let run = place.strip_prefix("logs/").and_then(|run| run.parse().ok());
        Some((place, run))
    });
    found.collect()
}

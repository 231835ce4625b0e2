//! The reports that a stage's steps leave in its workspace: found, read, recorded, judged.
//!
//! They are read after the steps ended, also when one failed: then what the tests say matters most. A
//! stage whose tests failed has failed, whatever its steps' exit codes say. Files are taken from inside
//! the workspace alone; a link is never followed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::Attempt;
use super::script::redaction;
use super::workspace::{Workspace, blocking};
use crate::pipeline::model::{Coverage, CoverageFormat, Patterns, Reports};
use crate::report::{Cases, FILE_LIMIT, FILES_LIMIT, Lines};
use crate::run::event::{Cause, Failure};
use crate::run::report::Report;
use crate::secret::Secret;

/// Most bytes of one kind of report together: reading them takes seconds.
const TOTAL_LIMIT: u64 = 512 * 1024 * 1024;

/// Reads the attempt's reports, and judges: the steps' failure or the reports', where there is one.
pub async fn read(
    attempt: &mut Attempt,
    wanted: &Reports,
    workspace: &Workspace,
    mask: &[Secret],
    ran: Result<(), Failure>,
) -> Result<(), Failure> {
    let asked = !wanted.junit.is_empty() || wanted.coverage.is_some();
    // What was stopped or lost has left no report that means anything.
    let ended = match &ran {
        Ok(()) => true,
        Err(failure) => failure.cause == Cause::Task,
    };
    if !asked || !ended {
        return ran;
    }
    let (wanted, root, mask) = (wanted.clone(), workspace.work(), mask.to_vec());
    let report = attempt.unless_stopped(blocking(move || Ok(collect(&wanted, &root, &mask)))).await?;
    let summary = report.summary();
    if !summary.is_empty() {
        attempt.add_to_last_log(&summary);
    }
    let verdict = report.verdict();
    let problem = report.problems.first().cloned();
    attempt.reported(report);
    match (ran, verdict, problem) {
        (Ok(()), None, None) => Ok(()),
        (Ok(()), Some(verdict), _) => Err(Failure::task(verdict)),
        (Ok(()), None, Some(problem)) => Err(Failure::task(problem)),
        (Err(failure), Some(verdict), _) => Err(Failure::task(format!("{verdict}; {failure}"))),
        (Err(failure), None, _) => Err(failure),
    }
}

fn collect(wanted: &Reports, root: &Path, mask: &[Secret]) -> Report {
    let mut report = Report::default();
    let mut hide = redaction(mask);
    if !wanted.junit.is_empty() {
        let mut cases = Cases::default();
        let told = root.display().to_string();
        let problems = each_file("reports.junit", &wanted.junit, root, |bytes| cases.read(bytes, &told));
        report.problems.extend(problems);
        let tests = cases.finish(&mut hide);
        report.tests = (tests.files > 0).then_some(tests);
    }
    if let Some(Coverage { format, files, at_least }) = &wanted.coverage {
        let mut lines = Lines::default();
        let (key, read): (_, fn(&mut Lines, &[u8]) -> _) = match format {
            CoverageFormat::Lcov => ("reports.coverage.lcov", Lines::lcov),
            CoverageFormat::Cobertura => ("reports.coverage.cobertura", Lines::cobertura),
        };
        let problems = each_file(key, files, root, |bytes| read(&mut lines, bytes));
        // A share of some of the files says nothing.
        report.coverage = problems.is_empty().then(|| lines.finish(*at_least));
        report.problems.extend(problems);
    }
    report.problems = report.problems.iter().map(|problem| hide(problem)).collect();
    report
}

/// Hands the content of each file that the patterns match to `read`, and answers what went wrong, a
/// sentence each.
fn each_file(
    key: &str,
    patterns: &Patterns,
    root: &Path,
    mut read: impl FnMut(&[u8]) -> Result<(), crate::report::Error>,
) -> Vec<String> {
    let files = find(patterns, root);
    let shown = patterns.0.join(", ");
    if files.is_empty() {
        return vec![format!("{key}: no file matches {shown}")];
    }
    if files.len() > FILES_LIMIT {
        return vec![format!("{key}: {} files match {shown}; at most {FILES_LIMIT} are read", files.len())];
    }
    let mut problems = Vec::new();
    let mut total = 0;
    for name in files {
        let content = open(root, &name).map_err(|error| error.to_string());
        let done = content.and_then(|bytes| {
            total += bytes.len() as u64;
            if total > TOTAL_LIMIT {
                return Err(format!(
                    "with it the files have more than {TOTAL_LIMIT} bytes, which are not read"
                ));
            }
            read(&bytes).map_err(|error| error.to_string())
        });
        if let Err(why) = done {
            problems.push(format!("{key}: {name}: {why}"));
        }
        if total > TOTAL_LIMIT || problems.len() >= PROBLEMS_KEPT {
            break;
        }
    }
    problems
}

/// Sentences about files that cannot be read; more of them say nothing new.
const PROBLEMS_KEPT: usize = 10;

/// The regular files below `root` that the patterns allow, as paths from there, sorted; one more than
/// [`FILES_LIMIT`] at most. Names that are not UTF-8 match nothing; what Git keeps is not looked at.
fn find(patterns: &Patterns, root: &Path) -> Vec<String> {
    let matcher = patterns.matcher();
    let walk = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    walk.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != ".git")
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| Some(entry.path().strip_prefix(root).ok()?.to_str()?.to_owned()))
        .filter(|name| matcher.admits(name))
        .take(FILES_LIMIT + 1)
        .collect()
}

/// The content of a file below `root`. The kernel refuses a way there that has a link in it, also one
/// that appeared since the file was found.
fn open(root: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let directory = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&directory, name, flags, Mode::empty(), resolve)?;
    let file = File::from(opened);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("it is not a file any more"));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(FILE_LIMIT) as usize);
    // One byte more than is read tells that it is too long.
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;

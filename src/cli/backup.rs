//! `windlass backup`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::reach::Where;
use super::text::{BOLD, DIM, RED};
use super::{Error, Exit, text};
use crate::app::backup::{self, Part, Taken};
use crate::check::{Finding, Severity};

/// Copy the data directory to a new place, also while a server works in it
///
/// The copy has everything that cannot be made again, as it was at one moment, and is a data directory itself:
/// windlass serve --data COPY goes on from there. Steps that were under way count as lost there, and fleets on
/// this machine have to be launched anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: a directory that is not there yet, or an empty one
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// The public document of `windlass backup --json`. Fields are only ever added.
#[derive(Debug, Serialize)]
struct View {
    backup: PathBuf,
    of: PathBuf,
    /// Nothing later is in it.
    taken_at: jiff::Timestamp,
    files: u64,
    bytes: u64,
    /// Steps that were under way; the copy has them as lost.
    steps_under_way: usize,
    seconds: f64,
    /// As `windlass check-data` has them.
    findings: Vec<Finding>,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let begun = Instant::now();
    let silent = args.json;
    let told = move |part: Part| {
        if !silent {
            let Part { name, files, bytes } = part;
            let files = text::count(usize::try_from(files).unwrap_or(usize::MAX), "file");
            anstream::eprintln!("{DIM}{name}: {files}, {} so far{DIM:#}", text::bytes(bytes));
        }
    };
    let taken = backup::backup(&data, &args.target, told).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = anstream::stdout().lock();
    let Taken { path, taken_at, files, bytes, steps_under_way, verdict } = taken;
    let bad = |finding: &&Finding| finding.severity != Severity::Note;
    let found = verdict.findings.iter().filter(bad).count();
    let exit = if found > 0 { Exit::Failed } else { Exit::Good };
    if args.json {
        let findings = verdict.findings;
        let view =
            View { backup: path, of: data, taken_at, files, bytes, steps_under_way, seconds, findings };
        writeln!(out, "{}", super::json(&view)?)?;
        return Ok(exit);
    }
    let many = text::count(usize::try_from(files).unwrap_or(usize::MAX), "file");
    let (path, size) = (path.display(), text::bytes(bytes));
    writeln!(
        out,
        "{BOLD}{path}{BOLD:#} is a backup of {}: {many}, {size}, in {seconds:.1} s",
        data.display()
    )?;
    if steps_under_way > 0 {
        let steps = text::count(steps_under_way, "step");
        writeln!(out, "{steps} under way: the backup has them as lost")?;
    }
    match found {
        0 => writeln!(out, "it was checked and is sound")?,
        found => {
            let found = text::count(found, "thing");
            writeln!(out, "{RED}{found} in it are not sound{RED:#}: windlass check-data --data {path}")?;
        }
    }
    Ok(exit)
}

impl From<backup::Error> for Error {
    fn from(error: backup::Error) -> Self {
        use backup::Error as Backup;
        match error {
            Backup::Nothing(_) => {
                Self::input(error).hint("--data or WINDLASS_DATA names another data directory")
            }
            Backup::Taken { .. } | Backup::Inside(_) => Self::input(error),
            error => Self::world(error),
        }
    }
}

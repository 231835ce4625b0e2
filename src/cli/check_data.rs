//! `windlass check-data`

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::reach::Where;
use super::text::{BOLD, DIM, RED, YELLOW, clean};
use super::{Error, Exit, text};
use crate::app::check::{self, List};
use crate::check::{Area, Finding, Looked, Severity, Verdict};

/// Findings of one kind that are shown; --json has all.
const SHOWN: usize = 20;

/// Check that what the data directory holds is whole and fits together
///
/// Follows every journal, compares the lists with them, and looks for every log, artifact, object and image that
/// they name, by its content. Works on a backup too, which is compared with its list, and beside a server. What
/// is there and needed by none is only noted. Exit code 1 says that something was found.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make anew what can be made from the journals: lists and indexes. Nobody may hold the directory
    #[arg(long)]
    repair: bool,
    /// Print one JSON object, with everything that was found
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// The public document of `windlass check-data --json`. Fields are only ever added.
#[derive(Debug, Serialize)]
struct View<'a> {
    data: String,
    looked_at: Looked,
    /// What is still so, where something was repaired.
    findings: &'a [Finding],
    /// What was made anew.
    repaired: Vec<String>,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let mut verdict = check::examine(&data, List::Compared).await?;
    let mut repaired = Vec::new();
    if args.repair && verdict.findings.iter().any(|finding| finding.mendable) {
        repaired = check::mend(&data).await?;
        verdict = check::examine(&data, List::Compared).await?;
    }
    let mut out = anstream::stdout().lock();
    if args.json {
        let (looked_at, findings) = (verdict.looked, verdict.findings.as_slice());
        let view = View { data: data.display().to_string(), looked_at, findings, repaired };
        writeln!(out, "{}", super::json(&view)?)?;
    } else {
        for done in &repaired {
            writeln!(out, "repaired: {done}")?;
        }
        print(&mut out, &verdict, &data.display().to_string())?;
    }
    let bad = verdict.findings.iter().any(|finding| finding.severity != Severity::Note);
    Ok(if bad { Exit::Failed } else { Exit::Good })
}

fn print(out: &mut impl Write, verdict: &Verdict, data: &str) -> io::Result<()> {
    let mut shown: BTreeMap<(Severity, Area), usize> = BTreeMap::new();
    for finding in &verdict.findings {
        let count = shown.entry((finding.severity, finding.area)).or_default();
        *count += 1;
        if *count > SHOWN {
            continue;
        }
        match finding.severity {
            Severity::Error => write!(out, "{RED}error{RED:#}")?,
            Severity::Warning => write!(out, "{YELLOW}warning{YELLOW:#}")?,
            Severity::Note => write!(out, "{DIM}note{DIM:#}")?,
        }
        let (place, problem) = (clean(&finding.place), clean(&finding.problem));
        writeln!(out, " {}: {BOLD}{place}{BOLD:#}: {problem}", finding.area.word())?;
        if !finding.advice.is_empty() {
            writeln!(out, "  {}", clean(&finding.advice))?;
        }
    }
    for ((_, area), count) in shown.iter().filter(|(_, count)| **count > SHOWN) {
        writeln!(out, "{DIM}… and {} more of {}: --json has them{DIM:#}", count - SHOWN, area.word())?;
    }
    let of = |severity| verdict.findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let Looked { runs, events, logs, artifacts, objects, images, .. } = verdict.looked;
    let count = |number: u64, what| text::count(usize::try_from(number).unwrap_or(usize::MAX), what);
    let looked = [
        count(runs, "run"),
        count(events, "event"),
        count(logs, "log"),
        count(artifacts, "artifact"),
        count(objects, "object"),
        count(images, "image"),
    ];
    match (errors, warnings) {
        (0, 0) => writeln!(out, "{data} is sound: {}", looked.join(", ")),
        _ => {
            let (errors, warnings) = (text::count(errors, "error"), text::count(warnings, "warning"));
            writeln!(out, "{data}: {errors}, {warnings} in {}", looked.join(", "))
        }
    }
}

impl From<check::Error> for Error {
    fn from(error: check::Error) -> Self {
        match error {
            check::Error::Nothing(_) => {
                Self::input(error).hint("--data or WINDLASS_DATA names another data directory")
            }
            check::Error::Hold(_) => {
                Self::world(error).hint("without --repair it is checked beside whoever holds it")
            }
            error => Self::world(error),
        }
    }
}

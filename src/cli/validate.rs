use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Exit, Io, NOT_CHECKED};
use crate::config::Settings;
use crate::pipeline::model::Pipeline;
use crate::pipeline::{self, Problems, Surroundings};

/// Check pipeline files, and settings, and name everything that is wrong with them
///
/// Each problem has its place, the source line and what to do about it. With `--config` the
/// environments, fleets and secrets that the pipelines name are checked too. Exits with 2 when a file
/// has errors.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Pipeline files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The settings that the pipelines will run with
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    environments_checked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<FileReport>,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<usize>,
    problems: Problems,
}

impl FileReport {
    fn new(pipeline: Option<&Pipeline>, problems: Problems) -> Self {
        Self {
            file: problems.file().to_owned(),
            ok: !problems.has_errors(),
            pipeline: pipeline.map(|pipeline| pipeline.name.to_string()),
            stages: pipeline.map(|pipeline| pipeline.stages.len()),
            problems,
        }
    }
}

pub fn run(args: &Args, io: &mut Io<'_>) -> io::Result<Exit> {
    let settings = args.config.as_deref().map(Settings::read);
    let (surroundings, settings) = match settings {
        None => (None, None),
        Some(Ok(settings)) => (Some(settings.surroundings()), None),
        Some(Err(problems)) => (None, Some(FileReport::new(None, problems))),
    };
    let files: Vec<FileReport> = (args.files.iter())
        .map(|file| {
            if is_settings(file) {
                let problems = Settings::read(file).err();
                let clean = || Problems::new(&file.display().to_string(), "");
                return FileReport::new(None, problems.unwrap_or_else(clean));
            }
            let (pipeline, problems) = examine(file, surroundings.as_ref());
            FileReport::new(pipeline.as_ref(), problems)
        })
        .collect();
    let ok = settings.is_none() && files.iter().all(|file| file.ok);
    let report = Report { ok, environments_checked: surroundings.is_some(), settings, files };
    match args.json {
        true => writeln!(io.out, "{}", serde_json::to_string_pretty(&report)?)?,
        false => print(&report, io)?,
    }
    if args.config.is_none() && report.files.iter().any(|file| file.pipeline.is_some()) {
        writeln!(io.err, "{NOT_CHECKED}")?;
    }
    Ok(if ok { Exit::Good } else { Exit::Invalid })
}

fn print(report: &Report, io: &mut Io<'_>) -> io::Result<()> {
    for file in report.settings.iter().chain(&report.files) {
        write!(io.out, "{}", file.problems.render(io.style))?;
        if let (true, Some(pipeline), Some(stages)) = (file.ok, &file.pipeline, file.stages) {
            let word = if stages == 1 { "stage" } else { "stages" };
            writeln!(io.out, "ok {}: {pipeline}, {stages} {word}", file.file)?;
        } else if file.ok {
            writeln!(io.out, "ok {}: settings", file.file)?;
        }
    }
    Ok(())
}

/// Whether the file is settings: it has environments and no stages.
fn is_settings(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    has("environments:") && !has("stages:")
}

/// Reads a pipeline file. One that cannot be read is a problem of its own.
pub(super) fn examine(file: &Path, surroundings: Option<&Surroundings>) -> (Option<Pipeline>, Problems) {
    let shown = file.display().to_string();
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let mut problems = Problems::new(&shown, "");
            problems.error(0..0, format!("the file cannot be read: {error}"));
            return (None, problems);
        }
    };
    match pipeline::decode(&bytes, &shown) {
        Ok(text) => pipeline::examine(text, &shown, surroundings),
        Err(problems) => (None, problems),
    }
}

//! The list of a backup: JSON lines in the file [`MANIFEST`]. First what it is a copy of, then a line
//! for each file with its size and digest, at last how many there are; a list without that line was
//! cut off.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::copy;
use crate::ids::Digest;

/// The list in its backup.
pub const MANIFEST: &str = "backup.jsonl";

/// The list in a backup that was opened and is a data directory of its own since.
pub const OPENED: &str = "restored.jsonl";

/// The version of the list's format. A field may be added when it has a default.
const VERSION: u32 = 1;

/// What a backup is a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: u32,
    /// When its journal was copied: nothing later is in it.
    pub taken_at: Timestamp,
    /// The version of the program that took it.
    pub windlass: String,
    /// The data directory.
    pub of: String,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Below the backup, as [`copy::name`] has it.
    pub path: String,
    pub bytes: u64,
    pub digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Backup(Header),
    File(Entry),
    End { files: u64, bytes: u64 },
}

/// Writes a list.
pub(super) struct Writer {
    out: BufWriter<File>,
    pub files: u64,
    pub bytes: u64,
}

impl Writer {
    pub fn create(directory: &Path, taken_at: Timestamp, of: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(directory.join(MANIFEST))?;
        let mut writer = Self { out: BufWriter::new(file), files: 0, bytes: 0 };
        let windlass = env!("CARGO_PKG_VERSION").to_owned();
        let of = of.display().to_string();
        writer.line(&Line::Backup(Header { version: VERSION, taken_at, windlass, of }))?;
        Ok(writer)
    }

    pub fn file(&mut self, path: String, bytes: u64, digest: Digest) -> io::Result<()> {
        self.files += 1;
        self.bytes += bytes;
        self.line(&Line::File(Entry { path, bytes, digest }))
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.line(&Line::End { files: self.files, bytes: self.bytes })?;
        self.out.flush()
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// What a backup should hold.
#[derive(Debug)]
pub struct Manifest {
    pub header: Header,
    files: BTreeMap<String, Entry>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("{MANIFEST} cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("{MANIFEST} has version {0}, this Windlass reads version {VERSION}: use the one that wrote it")]
    Newer(u32),
    #[error("line {line} of {MANIFEST} makes no sense: {why}")]
    Damaged { line: usize, why: String },
    #[error("{MANIFEST} has no end: the backup was not finished, or the list was cut off")]
    CutOff,
}

/// How a backup differs from its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing(String),
    /// And how.
    Changed(String, String),
    /// It is there and not in the list.
    Unknown(String),
}

impl Manifest {
    /// What the backup in `directory` is a copy of; `None` when there is no list.
    pub fn header(directory: &Path) -> Result<Option<Header>, Unreadable> {
        let Some(mut lines) = lines(directory)? else { return Ok(None) };
        header(&mut lines).map(Some)
    }

    /// The whole list of the backup in `directory`; `None` when there is none.
    pub fn read(directory: &Path) -> Result<Option<Self>, Unreadable> {
        let Some(mut lines) = lines(directory)? else { return Ok(None) };
        let header = header(&mut lines)?;
        let mut files = BTreeMap::new();
        for (nth, text) in (2..).zip(lines) {
            match line(nth, &text?)? {
                Line::File(entry) => drop(files.insert(entry.path.clone(), entry)),
                Line::End { files: count, .. } if count == files.len() as u64 => {
                    return Ok(Some(Self { header, files }));
                }
                Line::End { .. } => return Err(Unreadable::CutOff),
                Line::Backup(_) => {
                    let why = "it begins another list".to_owned();
                    return Err(Unreadable::Damaged { line: nth, why });
                }
            }
        }
        Err(Unreadable::CutOff)
    }

    /// Compares the directory with the list: what is missing, what changed, what came in addition. What
    /// reading a database leaves beside it is none of these.
    pub fn compare(&self, directory: &Path) -> io::Result<Vec<Difference>> {
        let mut differences = Vec::new();
        let mut left = self.files.clone();
        for found in WalkDir::new(directory).follow_links(false).sort_by_file_name() {
            let found = found?;
            let relative = found.path().strip_prefix(directory).unwrap_or(found.path());
            if !found.file_type().is_file() || is_of_reading(relative) {
                continue;
            }
            let name = copy::name(relative);
            let Some(entry) = left.remove(&name) else {
                differences.push(Difference::Unknown(name));
                continue;
            };
            let length = fs::metadata(found.path())?.len();
            if length != entry.bytes {
                let how = format!("it has {length} bytes instead of {}", entry.bytes);
                differences.push(Difference::Changed(name, how));
            } else if copy::digest(found.path())? != entry.digest {
                differences.push(Difference::Changed(name, "it has another content".to_owned()));
            }
        }
        differences.extend(left.into_keys().map(Difference::Missing));
        Ok(differences)
    }
}

type Lines = io::Lines<BufReader<File>>;

fn lines(directory: &Path) -> Result<Option<Lines>, Unreadable> {
    match File::open(directory.join(MANIFEST)) {
        Ok(file) => Ok(Some(BufReader::new(file).lines())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn header(lines: &mut Lines) -> Result<Header, Unreadable> {
    #[derive(Deserialize)]
    struct Only {
        backup: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let first = lines.next().ok_or(Unreadable::CutOff)??;
    // Before anything else, as a newer version may say the rest in other words.
    if let Ok(Only { backup: Version { version } }) = serde_json::from_str(&first)
        && version != VERSION
    {
        return Err(Unreadable::Newer(version));
    }
    match line(1, &first)? {
        Line::Backup(header) => Ok(header),
        _ => Err(Unreadable::Damaged { line: 1, why: "it does not say what this is a copy of".to_owned() }),
    }
}

fn line(nth: usize, text: &str) -> Result<Line, Unreadable> {
    serde_json::from_str(text).map_err(|error| Unreadable::Damaged { line: nth, why: error.to_string() })
}

fn is_of_reading(path: &Path) -> bool {
    let names = [MANIFEST, "windlass.db-wal", "windlass.db-shm", "lock"];
    names.iter().any(|name| path == Path::new(name))
}

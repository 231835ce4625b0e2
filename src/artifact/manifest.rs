//! What an artifact is made of. A manifest read from anywhere is checked before anything is done
//! with it: its paths stay below the artifact, and so do its links.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// The version of the stored format of [`Manifest`].
pub const FORMAT: u32 = 1;

/// Links followed before a chain of them counts as a loop: what Linux allows, see
/// path_resolution(7).
const LINK_LIMIT: u32 = 40;

/// Longest target of a link, in bytes: what Linux makes links of, see symlink(2).
const TARGET_LIMIT: usize = 4095;

/// The entries of an artifact, in the order of their paths, so that a directory comes before what
/// is in it. An artifact that is a directory starts with that directory, whose path is empty; one
/// that is a file has one entry, with the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    entries: Vec<Entry>,
}

/// A file, directory or link of an artifact. Paths are relative to the artifact, with `/`; modes are
/// the nine permission bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    Directory { path: String, mode: u32 },
    File { path: String, mode: u32, digest: Digest, bytes: u64 },
    Link { path: String, target: String },
}

impl Entry {
    pub fn path(&self) -> &str {
        match self {
            Self::Directory { path, .. } | Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }
}

impl Manifest {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path().cmp(b.path()));
        Self { version: FORMAT, entries }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the artifact is a file and not a directory.
    pub fn is_file(&self) -> bool {
        matches!(self.entries.as_slice(), [Entry::File { .. }])
    }

    /// Sum of the sizes of its files.
    pub fn bytes(&self) -> u64 {
        let sizes = self.entries.iter().map(|entry| match entry {
            Entry::File { bytes, .. } => *bytes,
            _ => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// The stored form. The same entries give the same bytes.
    pub(super) fn write(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }

    /// Reads what [`Manifest::write`] wrote, and refuses everything else with a reason.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != FORMAT {
            return Err(format!("it has version {version}, and this Windlass reads version {FORMAT}"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it is one that storing a directory or a file can make.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.entries.as_slice() {
            [Entry::File { path, .. }] if is_name(path) => return Ok(()),
            [Entry::Directory { path, .. }, ..] if path.is_empty() => {}
            _ => return Err("it has no root".to_owned()),
        }
        let mut seen: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in &self.entries {
            let path = entry.path();
            let parent = match path.rsplit_once('/') {
                Some((parent, _)) => parent,
                None => "",
            };
            let below = matches!(seen.get(parent), Some(Entry::Directory { .. }));
            if !(seen.is_empty() || below && path.split('/').all(is_name)) {
                return Err(format!("it cannot have the path {path:?}"));
            }
            if let Entry::Directory { mode, .. } | Entry::File { mode, .. } = entry
                && *mode > 0o777
            {
                return Err(format!("{path:?} cannot have the mode {mode:o}"));
            }
            if let Entry::Link { target, .. } = entry
                && !(1..=TARGET_LIMIT).contains(&target.len())
            {
                return Err(format!("its link {path:?} has a target of {} bytes", target.len()));
            }
            if seen.insert(path, entry).is_some() {
                return Err(format!("it has {path:?} twice"));
            }
        }
        match self.link_outside() {
            Some((path, target)) => Err(format!("its link {path:?} leads outside, to {target:?}")),
            None => Ok(()),
        }
    }

    /// A link that leads out of the artifact, and where it points to. Links are followed as the
    /// kernel does, through other links too: `a/b -> ..` is inside, and so is `c -> a/b/a`, but not
    /// `d -> a/b/..`. What is not there may appear later, and counts as an ordinary name.
    pub(super) fn link_outside(&self) -> Option<(&str, &str)> {
        let links: BTreeMap<&str, &str> = self
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Link { path, target } => Some((path.as_str(), target.as_str())),
                _ => None,
            })
            .collect();
        links.iter().find(|(path, _)| !stays_inside(&links, path)).map(|(path, target)| (*path, *target))
    }
}

fn stays_inside(links: &BTreeMap<&str, &str>, path: &str) -> bool {
    let mut left: Vec<&str> = path.rsplit('/').collect();
    // Where each part of the place ends in its text: making the text anew for each part would take the
    // square of its length.
    let mut place = String::new();
    let mut ends = Vec::new();
    let mut followed = 0;
    while let Some(part) = left.pop() {
        match part {
            "" | "." => {}
            ".." => match ends.pop() {
                Some(_) => place.truncate(ends.last().copied().unwrap_or(0)),
                None => return false,
            },
            name => {
                if !ends.is_empty() {
                    place.push('/');
                }
                place.push_str(name);
                ends.push(place.len());
                if let Some(target) = links.get(place.as_str()) {
                    followed += 1;
                    if target.starts_with('/') {
                        return false;
                    }
                    if followed > LINK_LIMIT {
                        return true; // a loop leads nowhere
                    }
                    ends.pop();
                    place.truncate(ends.last().copied().unwrap_or(0));
                    left.extend(target.rsplit('/'));
                }
            }
        }
    }
    true
}

/// One segment of a path.
fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

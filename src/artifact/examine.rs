//! What lies on the shelf, compared with what it should be. Nothing is put aside or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use walkdir::WalkDir;

use super::blob::Hashing;
use super::{Entry, Manifest, Shelf};
use crate::ids::Digest;

/// What was seen of a shelf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is wrong with an artifact that is wanted; none for one that is whole.
    pub wrong: BTreeMap<Digest, String>,
    /// Contents that no wanted artifact has, and their bytes.
    pub unneeded: (u64, u64),
}

/// A content that is there.
struct Blob {
    bytes: u64,
    whole: bool,
}

impl Shelf {
    /// Reads everything, and says which of the `wanted` artifacts are not whole.
    pub fn examine(&self, wanted: &BTreeSet<Digest>) -> io::Result<Examined> {
        let mut blobs = self.blobs()?;
        let mut examined = Examined::default();
        let mut needed = BTreeSet::new();
        for digest in wanted {
            needed.insert(digest.clone());
            match self.entries_of(digest, &blobs) {
                Err(why) => drop(examined.wrong.insert(digest.clone(), why)),
                Ok(manifest) => {
                    for entry in manifest.entries() {
                        let Entry::File { path, digest: content, bytes, .. } = entry else { continue };
                        needed.insert(content.clone());
                        let why = match blobs.get(content) {
                            None => "is not there",
                            Some(blob) if blob.bytes != *bytes || !blob.whole => "is damaged",
                            Some(_) => continue,
                        };
                        let why = format!("the content {content} of {path:?} {why}");
                        examined.wrong.entry(digest.clone()).or_insert(why);
                    }
                }
            }
        }
        blobs.retain(|digest, _| !needed.contains(digest));
        examined.unneeded = (blobs.len() as u64, blobs.values().map(|blob| blob.bytes).sum());
        Ok(examined)
    }

    fn entries_of(&self, digest: &Digest, blobs: &BTreeMap<Digest, Blob>) -> Result<Manifest, String> {
        match blobs.get(digest) {
            None => return Err("its manifest is not there".to_owned()),
            Some(blob) if !blob.whole => return Err("its manifest is damaged".to_owned()),
            Some(_) => {}
        }
        let bytes = fs::read(self.blob(digest)).map_err(|error| format!("its manifest: {error}"))?;
        Manifest::read(&bytes).map_err(|why| format!("its manifest cannot be used: {why}"))
    }

    fn blobs(&self) -> io::Result<BTreeMap<Digest, Blob>> {
        let root = self.directory.join("blobs");
        let mut blobs = BTreeMap::new();
        for found in WalkDir::new(&root).min_depth(2).max_depth(2).follow_root_links(true) {
            let found = match found {
                Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                    continue;
                }
                found => found?,
            };
            let Some(digest) = digest_at(found.path()) else { continue };
            let mut content = Hashing::new(fs::File::open(found.path())?);
            io::copy(&mut content, &mut io::sink())?;
            let (is, bytes) = content.finish();
            blobs.insert(digest.clone(), Blob { bytes, whole: is == digest });
        }
        Ok(blobs)
    }
}

/// Which content a path on the shelf stands for.
fn digest_at(path: &Path) -> Option<Digest> {
    let first = path.parent()?.file_name()?.to_str()?;
    format!("{first}{}", path.file_name()?.to_str()?).parse().ok()
}

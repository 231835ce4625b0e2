//! Finished images.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{self, failed};
use super::{Local, tree};
use crate::cloud::{Error, ImageRecord};
use crate::ids::{Digest, ImageId};

/// The version of the stored format of [`Manifest`].
const FORMAT: u32 = 1;

/// What an image directory holds, beside its tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub record: ImageRecord,
    /// Of everything below `root`, as [`tree::digest`] has it.
    pub tree: Digest,
}

/// The id of the image with that key: the same on every machine.
pub(super) fn id(key: &Digest) -> Result<ImageId, Error> {
    let short: String = key.as_str().chars().take(16).collect();
    format!("img-{short}").parse().map_err(|error| Error::Failed(format!("{error}")))
}

impl Local {
    pub(super) fn image_directory(&self, id: &ImageId) -> PathBuf {
        self.data.join("images").join(id.as_str())
    }

    pub(super) fn find_image_now(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        let path = self.image_directory(&id(key)?).join("manifest.json");
        let manifest: Option<Manifest> = disk::read(&path, FORMAT)?;
        Ok(manifest.map(|manifest| manifest.record).filter(|record| record.key == *key))
    }

    pub(super) fn image_now(&self, id: &ImageId) -> Result<Manifest, Error> {
        let path = self.image_directory(id).join("manifest.json");
        disk::read(&path, FORMAT)?.ok_or_else(|| Error::NotFound(format!("the image {id}")))
    }

    /// The image's tree, if it still is what was baked.
    pub(super) fn intact_image(&self, id: &ImageId) -> Result<(Manifest, PathBuf), Error> {
        let manifest = self.image_now(id)?;
        let root = self.image_directory(id).join("root");
        match tree::digest(&root)? == manifest.tree {
            true => Ok((manifest, root)),
            false => Err(Error::Failed(format!(
                "the image {id} is not what was baked: something changed the files below {}",
                root.display()
            ))),
        }
    }

    /// Refuses an image that is not what was baked: the word would be about something else.
    pub(super) fn certify_image_now(&self, id: &ImageId) -> Result<(), Error> {
        let (mut manifest, _) = self.intact_image(id)?;
        if manifest.record.certified {
            return Ok(());
        }
        manifest.record.certified = true;
        disk::write(&self.image_directory(id).join("manifest.json"), FORMAT, &manifest)
    }

    /// Makes the finished directory `from` (with `root`) the image of the record. When another
    /// builder of the same key was faster, its image is the answer.
    pub(super) fn keep_image(&self, from: &Path, record: ImageRecord) -> Result<ImageRecord, Error> {
        let manifest = Manifest { tree: tree::digest(&from.join("root"))?, record };
        disk::write(&from.join("manifest.json"), FORMAT, &manifest)?;
        // One call for all files instead of one for each; they are on one file system, as they are
        // renamed into place.
        let flushed = fs::File::open(from).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        flushed.map_err(failed(from))?;

        let images = self.data.join("images");
        disk::make_directory(&images)?;
        let record = manifest.record;
        let to = self.image_directory(&record.id);
        match fs::rename(from, &to) {
            Ok(()) => {
                disk::sync(&images).map_err(failed(&images))?;
                Ok(record)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                self.find_image_now(&record.key)?.ok_or_else(|| {
                    Error::Conflict(format!("the image id {} belongs to an image of another key", record.id))
                })
            }
            Err(error) => Err(failed(&to)(error)),
        }
    }
}

//! What there is in a data directory: builders, instances and images.

use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;

use super::disk::{self, failed, found};
use super::{Local, tree};
use crate::cloud::inventory::{Inventory, Kind, Thing};
use crate::cloud::{Error, ImageRecord};
use crate::ids::{ImageId, InstanceId, Key};

#[async_trait]
impl Inventory for Local {
    async fn things(&self) -> Result<Vec<Thing>, Error> {
        self.blocking(|local| {
            let mut things = local.builders()?;
            things.extend(local.instance_things()?);
            things.extend(local.images()?);
            Ok(things)
        })
        .await
    }

    async fn end(&self, thing: &Thing) -> Result<(), Error> {
        let thing = thing.clone();
        self.blocking(move |local| local.end_now(&thing)).await
    }
}

impl Local {
    fn builders(&self) -> Result<Vec<Thing>, Error> {
        let mut things = Vec::new();
        for directory in entries(&self.data.join("builders"))? {
            let Some(key) = directory.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(created_at) = written(&directory)? else { continue };
            let thing = Thing::new(Kind::Builder, key, created_at).of_attempt(key);
            things.push(Thing { bytes: Some(bytes(&directory)), ..thing });
        }
        Ok(things)
    }

    fn images(&self) -> Result<Vec<Thing>, Error> {
        let mut things = Vec::new();
        for directory in entries(&self.data.join("images"))? {
            let id = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(id): Option<ImageId> = id else { continue };
            match self.image_now(&id) {
                Ok(manifest) => things
                    .push(Thing { bytes: Some(bytes(&directory.join("root"))), ..image(manifest.record) }),
                // It went meanwhile.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(things)
    }

    fn end_now(&self, thing: &Thing) -> Result<(), Error> {
        let changed = || Err(Error::Conflict(format!("{} is not what it was any more", thing.id)));
        match thing.kind {
            Kind::Builder => {
                let key: Key = named(&thing.id)?;
                let directory = self.builder_directory(&key);
                match written(&directory)? {
                    None => Ok(()),
                    Some(at) if at != thing.created_at => changed(),
                    Some(_) => tree::remove(&directory),
                }
            }
            Kind::Instance => {
                let id: InstanceId = named(&thing.id)?;
                match self.instance_things()?.into_iter().find(|there| there.id == thing.id) {
                    None => Ok(()),
                    Some(there) if there.key != thing.key => changed(),
                    Some(_) => self.terminate_now(&id),
                }
            }
            Kind::Image => {
                let id: ImageId = named(&thing.id)?;
                match self.image_now(&id) {
                    Err(Error::NotFound(_)) => Ok(()),
                    Err(error) => Err(error),
                    Ok(manifest)
                        if image(manifest.record.clone()) != (Thing { bytes: None, ..thing.clone() }) =>
                    {
                        changed()
                    }
                    Ok(_) => self.remove_image(&id),
                }
            }
            Kind::Upload | Kind::Scratch | Kind::Snapshot => {
                Err(Error::NotFound(format!("{} of the kind {}", thing.id, thing.kind.word())))
            }
        }
    }

    /// Takes an image away at once: a directory that is there holds all of it.
    fn remove_image(&self, id: &ImageId) -> Result<(), Error> {
        let images = self.data.join("images");
        let gone = images.join(".gone");
        disk::make_directory(&gone)?;
        // Also what a kill in the middle of this left.
        for left in fs::read_dir(&gone).map_err(failed(&gone))?.flatten() {
            tree::remove(&left.path())?;
        }
        let (from, to) = (self.image_directory(id), gone.join(id.as_str()));
        found(fs::rename(&from, &to)).map_err(failed(&from))?;
        disk::sync(&images).map_err(failed(&images))?;
        tree::remove(&to)
    }
}

fn image(record: ImageRecord) -> Thing {
    let thing = Thing::new(Kind::Image, record.id.as_str(), record.created_at);
    Thing {
        name: Some(record.name),
        service: Some(record.service),
        run: Some(record.run),
        image_key: Some(record.key),
        certified: record.certified,
        parent: record.parent,
        ..thing
    }
}

fn named<T: std::str::FromStr>(id: &str) -> Result<T, Error> {
    id.parse().map_err(|_| Error::NotFound(format!("a thing named {id:?}")))
}

/// What a directory holds, in the order of names. One that is not there holds nothing.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(entries) = found(fs::read_dir(directory)).map_err(failed(directory))? else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed(directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// When a builder was filled, or begun to be.
fn written(builder: &Path) -> Result<Option<Timestamp>, Error> {
    let filled = found(fs::metadata(builder.join("builder.json"))).map_err(failed(builder))?;
    let written = match filled {
        Some(filled) => Some(filled),
        None => found(fs::metadata(builder)).map_err(failed(builder))?,
    };
    let at = written.and_then(|metadata| metadata.modified().ok());
    Ok(at.and_then(|at| Timestamp::try_from(at).ok()))
}

/// What the files of a tree hold. What cannot be seen counts nothing: it is for people.
fn bytes(root: &Path) -> u64 {
    let entries = walkdir::WalkDir::new(root).follow_links(false).into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

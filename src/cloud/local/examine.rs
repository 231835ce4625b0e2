//! What lies in a data directory of the local cloud, compared with what it should be. Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::found;
use super::images::id;
use super::{Local, LocalObjects, inventory, tree};
use crate::cloud::Error;
use crate::ids::{Digest, ImageId};

impl Local {
    /// Every image, and why it is not what was baked, if it is not.
    pub fn examine_images(&self) -> Result<BTreeMap<ImageId, Option<String>>, Error> {
        let mut images = BTreeMap::new();
        for directory in inventory::entries(&self.data.join("images"))? {
            let name = directory.file_name().and_then(|name| name.to_str());
            let Some(image) = name.and_then(|name| name.parse::<ImageId>().ok()) else { continue };
            let problem = self.problem_of(&image);
            // Images are removed at once: one that has gone meanwhile is none.
            if found(std::fs::metadata(&directory)).is_ok_and(|there| there.is_some()) {
                images.insert(image, problem);
            }
        }
        Ok(images)
    }

    fn problem_of(&self, image: &ImageId) -> Option<String> {
        let manifest = match self.image_now(image) {
            Ok(manifest) => manifest,
            Err(Error::NotFound(_)) => return Some("its manifest is not there".to_owned()),
            Err(error) => return Some(error.to_string()),
        };
        if manifest.record.id != *image || id(&manifest.record.key).ok().as_ref() != Some(image) {
            return Some(format!("its manifest is that of {}", manifest.record.id));
        }
        match tree::digest(&self.image_directory(image).join("root")) {
            Ok(tree) if tree == manifest.tree => None,
            Ok(_) => Some("something changed its files since it was baked".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Instances whose record cannot be read, and why.
    pub fn examine_instances(&self) -> Result<Vec<(String, String)>, Error> {
        let mut problems = Vec::new();
        for directory in inventory::entries(&self.data.join("instances"))? {
            let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { continue };
            if let Ok(id) = name.parse()
                && let Err(error) = self.record_of(&id)
            {
                problems.push((name.to_owned(), error.to_string()));
            }
        }
        Ok(problems)
    }
}

impl LocalObjects {
    /// Every object there is, and the digests of those that are `wanted`.
    pub fn examine(&self, wanted: &BTreeSet<&String>) -> Result<BTreeMap<String, Option<Digest>>, Error> {
        let mut objects = BTreeMap::new();
        for key in self.list_now("")? {
            let digest = if wanted.contains(&key) { self.digest_now(&key)? } else { None };
            objects.insert(key, digest);
        }
        Ok(objects)
    }
}

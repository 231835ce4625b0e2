//! Images being made.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::{self, failed, found};
use super::tree::{Kind, Modes};
use super::{Local, images, tree};
use crate::cloud::{BuildRequest, Builder, Error, ImageRecord, ImageRequest, Parent, Provisioning};
use crate::ids::Key;

/// The version of the stored format of [`Placed`].
pub(super) const FORMAT: u32 = 1;

/// What a builder's app directory has only while it is provisioned, so that another process can
/// finish the build. Paths are relative to the app directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Placed {
    pub files: BTreeSet<String>,
    /// Those made for the files; one that holds something else by then stays.
    pub directories: BTreeSet<String>,
}

impl Local {
    pub(super) fn builder_directory(&self, key: &Key) -> PathBuf {
        self.data.join("builders").join(key.as_str())
    }

    pub(super) fn launch_builder_now(&self, request: &BuildRequest) -> Result<Builder, Error> {
        let builder = self.builder_directory(&request.key);
        tree::remove(&builder)?;
        let root = builder.join("image/root");
        disk::make_directory(&builder.join("image"))?;
        match &request.parent {
            Parent::Image(id) => tree::copy(&self.intact_image(id)?.1, &root)?,
            Parent::Directory(directory) => {
                let directory = directory.canonicalize().map_err(failed(directory))?;
                tree::copy(&directory, &root)?;
            }
            Parent::Machine(id) => {
                return Err(Error::Denied(format!(
                    "{id} is a machine image, and there are none of them here"
                )));
            }
            Parent::Empty => disk::make_directory(&root)?,
        }
        let app = root.join("app");
        tree::remove(&app)?;
        fs::create_dir(&app).map_err(failed(&app))?;

        let mut modes = Modes::default();
        for content in &request.contents {
            fill(&app, content, &mut modes)?;
        }
        let mut placed = Placed::default();
        for (name, source) in &request.files {
            place(&app, name, source, &mut placed, &mut modes)?;
        }
        modes.apply()?;
        // Last: a builder without it was not finished.
        disk::write(&builder.join("builder.json"), FORMAT, &placed)?;
        Ok(Builder { key: request.key.clone(), provisioning: Provisioning::Here { directory: app } })
    }

    pub(super) fn create_image_now(
        &self,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<ImageRecord, Error> {
        let builder = self.builder_directory(&request.key);
        if let Some(record) = self.find_image_now(&image.key)? {
            tree::remove(&builder)?;
            return Ok(record);
        }
        let gone = || Error::NotFound(format!("the builder {}", request.key));
        let placed: Placed = disk::read(&builder.join("builder.json"), FORMAT)?.ok_or_else(gone)?;
        let app = builder.join("image/root/app");
        if !fs::symlink_metadata(&app).is_ok_and(|metadata| metadata.is_dir()) {
            let reason = "the app directory is no directory any more: did provisioning remove it?";
            return Err(Error::Failed(format!("{}: {reason}", app.display())));
        }
        take_away(&app, &placed)?;
        let record = ImageRecord {
            id: images::id(&image.key)?,
            name: image.name.clone(),
            key: image.key.clone(),
            parent: image.parent.clone(),
            commit: image.commit.clone(),
            run: request.tags.run.clone(),
            service: request.tags.service.clone(),
            start: image.start.clone(),
            created_at: Timestamp::now(),
            certified: false,
        };
        let record = self.keep_image(&builder.join("image"), record)?;
        tree::remove(&builder)?;
        Ok(record)
    }
}

/// Puts an artifact into the app directory: what is in it, or the file under its name.
fn fill(app: &Path, content: &Path, modes: &mut Modes) -> Result<(), Error> {
    for found in tree::walk(content) {
        let found = found?;
        let is_root = found.relative.as_os_str().is_empty();
        let name = match (is_root, found.kind) {
            (true, Kind::Directory) => continue,
            (true, _) => PathBuf::from(content.file_name().unwrap_or_default()),
            (false, _) => found.relative.clone(),
        };
        let to = app.join(&name);
        match tree::look(&to)?.map(|there| there.kind) {
            None => found.copy(&to, modes)?,
            Some(Kind::Directory) if found.kind == Kind::Directory => {}
            Some(_) => {
                return Err(Error::Conflict(format!(
                    "two artifacts of the image have {:?}: leave one of them out, or give it another path",
                    name.display().to_string()
                )));
            }
        }
    }
    Ok(())
}

/// Puts a file or directory at `name` in the app directory, and remembers what was not there.
fn place(app: &Path, name: &str, source: &Path, placed: &mut Placed, modes: &mut Modes) -> Result<(), Error> {
    let parts = parts(name)?;
    let mut above = PathBuf::new();
    for part in parts.iter().take(parts.len() - 1) {
        above.push(part);
        let directory = app.join(&above);
        match tree::look(&directory)?.map(|there| there.kind) {
            Some(Kind::Directory) => {}
            Some(_) => return Err(differs(&above)),
            None => {
                fs::create_dir(&directory).map_err(failed(&directory))?;
                placed.directories.insert(text(&above)?);
            }
        }
    }
    let name: PathBuf = parts.iter().collect();
    for found in tree::walk(source) {
        let found = found?;
        let name = match found.relative.as_os_str().is_empty() {
            true => name.clone(),
            false => name.join(&found.relative),
        };
        let to = app.join(&name);
        match tree::look(&to)? {
            None => {
                found.copy(&to, modes)?;
                let list = match found.kind {
                    Kind::Directory => &mut placed.directories,
                    Kind::File | Kind::Link => &mut placed.files,
                };
                list.insert(text(&name)?);
            }
            Some(there) if there.kind == found.kind && there.content()? == found.content()? => {}
            Some(_) => return Err(differs(&name)),
        }
    }
    Ok(())
}

/// Removes exactly what was placed, and nothing through a link that provisioning may have made.
fn take_away(app: &Path, placed: &Placed) -> Result<(), Error> {
    for name in &placed.files {
        let path = app.join(name);
        // A directory in its place is something that provisioning made.
        let is_file = fs::symlink_metadata(&path).is_ok_and(|there| !there.is_dir());
        if is_file && reached_without_links(app, name) {
            found(fs::remove_file(&path)).map_err(failed(&path))?;
        }
    }
    // Those below come after those above in the order of names.
    for name in placed.directories.iter().rev() {
        let path = app.join(name);
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir());
        if is_directory && reached_without_links(app, name) {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                other => found(other).map(drop).map_err(failed(&path))?,
            }
        }
    }
    Ok(())
}

fn reached_without_links(app: &Path, name: &str) -> bool {
    let mut above = Path::new(name).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    above.all(|path| fs::symlink_metadata(app.join(path)).is_ok_and(|there| there.is_dir()))
}

fn differs(name: &Path) -> Error {
    Error::Conflict(format!(
        "{:?} of `files` is also in the artifacts, with another content: rename one of them",
        name.display().to_string()
    ))
}

/// The parts of a path that stays below the app directory.
fn parts(name: &str) -> Result<Vec<&str>, Error> {
    let mut parts = Vec::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::CurDir => {}
            _ => return Err(Error::Failed(format!("{name:?} of `files` leaves the app directory"))),
        }
    }
    match parts.is_empty() || name.contains('\0') {
        true => Err(Error::Failed(format!("{name:?} of `files` names nothing in the app directory"))),
        false => Ok(parts),
    }
}

fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Failed(format!("{} of `files` is not UTF-8", path.display())))
}

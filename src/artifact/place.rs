//! Where an artifact lies in a workspace. Steps wrote the workspace, so its links are not trusted.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Error;

/// The file or directory at `path` below the workspace. A link there is followed as long as it stays
/// in the workspace.
pub(super) fn find(workspace: &Path, path: &str) -> Result<PathBuf, Error> {
    check(path)?;
    let workspace = workspace.canonicalize().map_err(Error::at(workspace))?;
    let found = match workspace.join(path).canonicalize() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(Error::Missing { path: path.to_owned() });
        }
        other => other.map_err(Error::at(&workspace.join(path)))?,
    };
    match found.starts_with(&workspace) {
        true => Ok(found),
        false => Err(Error::Outside { path: path.to_owned(), target: found.display().to_string() }),
    }
}

/// Makes the directories that lead to `path` below the workspace, through no link, and answers where
/// `path` is to be.
pub(super) fn make(workspace: &Path, path: &str) -> Result<PathBuf, Error> {
    let parts = check(path)?;
    let mut place = workspace.to_owned();
    let Some((last, above)) = parts.split_last() else { return Ok(place) };
    for part in above {
        place.push(part);
        directory(&place)?;
    }
    place.push(last);
    Ok(place)
}

/// Makes sure that `path` is a directory, and not a link to one. Answers whether it was there.
pub(super) fn directory(path: &Path) -> Result<bool, Error> {
    let in_the_way = |reason| Err(Error::InTheWay { path: path.to_owned(), reason });
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Ok(true),
        Ok(there) if there.is_symlink() => in_the_way("a link"),
        Ok(_) => in_the_way("something that is no directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(path).map_err(Error::at(path))?;
            Ok(false)
        }
        Err(error) => Err(Error::at(path)(error)),
    }
}

/// The parts of a path that stays below whatever it is joined to; none for the directory itself.
fn check(path: &str) -> Result<Vec<&str>, Error> {
    let wrong = |reason| Error::Path { path: path.to_owned(), reason };
    if path.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::CurDir => {}
            Component::ParentDir => return Err(wrong("it leaves the workspace with \"..\"")),
            Component::RootDir | Component::Prefix(_) => {
                return Err(wrong("it is not relative to the workspace"));
            }
        }
    }
    match path.contains('\0') {
        true => Err(wrong("it has a NUL character")),
        false => Ok(parts),
    }
}

//! What goes into a builder, as archives: the same bytes for the same files, so that what is there
//! already is not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::cloud::{BuildRequest, Error};
use crate::ids::Digest;

/// An archive in a file.
pub struct Packed {
    pub file: tempfile::NamedTempFile,
    pub digest: Digest,
}

/// All that goes into a builder.
pub struct Load {
    pub contents: Vec<Packed>,
    /// What is at hand only for provisioning, where there is any.
    pub files: Option<Packed>,
    /// Of those, what is not among the contents: paths in the app directory.
    pub only_files: Vec<String>,
    pub only_directories: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Link(PathBuf),
}

/// Something in the app directory, and where it lies now.
struct Entry {
    kind: Kind,
    from: PathBuf,
}

type Tree = BTreeMap<String, Entry>;

impl Load {
    /// Packs what the request asks for. Blocks.
    ///
    /// # Errors
    /// [`Error::Conflict`] when two things are to be at one path.
    pub fn pack(request: &BuildRequest) -> Result<Self, Error> {
        let mut all = Tree::new();
        let mut contents = Vec::new();
        for content in &request.contents {
            let name = content.file_name().map(PathBuf::from).unwrap_or_default();
            let tree = walk(content, &if content.is_dir() { PathBuf::new() } else { name })?;
            contents.push(archive(&tree)?);
            for (name, entry) in tree {
                match all.get(&name) {
                    Some(there) if there.kind == Kind::Directory && entry.kind == Kind::Directory => {}
                    Some(_) => {
                        return Err(Error::Conflict(format!(
                            "two artifacts of the image have {name:?}: leave one of them out, or give it \
                             another path"
                        )));
                    }
                    None => drop(all.insert(name, entry)),
                }
            }
        }
        let mut files = Tree::new();
        for (name, from) in &request.files {
            let name = below(name)?;
            let above = name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
            for above in above {
                let entry = Entry { kind: Kind::Directory, from: PathBuf::new() };
                files.entry(text(above)?).or_insert(entry);
            }
            files.extend(walk(from, &name)?);
        }
        let (mut only_files, mut only_directories) = (Vec::new(), Vec::new());
        let mut shared = BTreeSet::new();
        for (name, entry) in &files {
            match all.get(name) {
                None if entry.kind == Kind::Directory => only_directories.push(name.clone()),
                None => only_files.push(name.clone()),
                Some(there) if same(there, entry)? => drop(shared.insert(name.clone())),
                Some(_) => {
                    return Err(Error::Conflict(format!(
                        "{name:?} of `files` is also in the artifacts, with another content: rename one of \
                         them"
                    )));
                }
            }
        }
        files.retain(|name, _| !shared.contains(name));
        let files = if files.is_empty() { None } else { Some(archive(&files)?) };
        Ok(Self { contents, files, only_files, only_directories })
    }
}

/// What lies at `from`, by its names in the app directory.
fn walk(from: &Path, name: &Path) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for found in walkdir::WalkDir::new(from).sort_by_file_name() {
        let found =
            found.map_err(|error| Error::Failed(format!("{} cannot be read: {error}", from.display())))?;
        let relative = found.path().strip_prefix(from).unwrap_or(Path::new(""));
        let name = if relative.as_os_str().is_empty() { name.to_owned() } else { name.join(relative) };
        if name.as_os_str().is_empty() {
            continue;
        }
        let file_type = found.file_type();
        let kind = match () {
            () if file_type.is_dir() => Kind::Directory,
            () if file_type.is_file() => Kind::File,
            () if file_type.is_symlink() => {
                Kind::Link(fs::read_link(found.path()).map_err(unreadable(found.path()))?)
            }
            () => {
                return Err(Error::Failed(format!(
                    "{} is no file that can be packed",
                    found.path().display()
                )));
            }
        };
        tree.insert(text(&name)?, Entry { kind, from: found.path().to_owned() });
    }
    Ok(tree)
}

/// Whether two things at one path are one.
fn same(one: &Entry, other: &Entry) -> Result<bool, Error> {
    if one.kind != other.kind || one.kind != Kind::File {
        return Ok(one.kind == other.kind);
    }
    let read = |entry: &Entry| fs::read(&entry.from).map_err(unreadable(&entry.from));
    Ok(mode(&one.from)? == mode(&other.from)? && read(one)? == read(other)?)
}

fn mode(path: &Path) -> Result<u32, Error> {
    Ok(fs::symlink_metadata(path).map_err(unreadable(path))?.permissions().mode() & 0o777)
}

/// A path of `files`, which stays below the app directory.
fn below(name: &str) -> Result<PathBuf, Error> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(Error::Failed(format!("{name:?} of `files` leaves the app directory"))),
        }
    }
    match path.as_os_str().is_empty() {
        true => Err(Error::Failed(format!("{name:?} of `files` names nothing in the app directory"))),
        false => Ok(path),
    }
}

/// A name that a builder can be told, a line of its own.
fn text(path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.contains('\n') => Ok(text.to_owned()),
        _ => Err(Error::Failed(format!(
            "{path:?} cannot go into an image: its name is not UTF-8, or more than one line"
        ))),
    }
}

fn archive(tree: &Tree) -> Result<Packed, Error> {
    let unwritable = |error: io::Error| Error::Failed(format!("an archive cannot be written: {error}"));
    let file = tempfile::NamedTempFile::new().map_err(unwritable)?;
    let mut archive = tar::Builder::new(BufWriter::new(file.as_file()));
    for (name, entry) in tree {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match &entry.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                let known = !entry.from.as_os_str().is_empty();
                header.set_mode(if known { mode(&entry.from)? } else { 0o755 });
                archive.append_data(&mut header, format!("{name}/"), io::empty()).map_err(unwritable)?;
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, name, target).map_err(unwritable)?;
            }
            Kind::File => {
                let content = fs::File::open(&entry.from).map_err(unreadable(&entry.from))?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(mode(&entry.from)?);
                header.set_size(content.metadata().map_err(unreadable(&entry.from))?.len());
                archive.append_data(&mut header, name, content).map_err(unwritable)?;
            }
        }
    }
    let writer = archive.into_inner().and_then(|mut writer| writer.flush());
    writer.map_err(unwritable)?;
    let digest = digest_of(file.path())?;
    Ok(Packed { file, digest })
}

fn digest_of(path: &Path) -> Result<Digest, Error> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut file = fs::File::open(path).map_err(unreadable(path))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(unreadable(path))? {
            0 => return Ok(Digest::from_hash(hash.finalize().as_slice())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |error| Error::Failed(format!("{} cannot be read: {error}", path.display()))
}

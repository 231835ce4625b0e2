//! Artifacts: a manifest or an archive of anybody writes nothing outside of where it is to be restored, also
//! where a step has put links in its way, and an archive gives exactly the artifact that it is called.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use windlass::artifact::Shelf;
use windlass::ids::Digest;

pub const WORDS: &[&str] = &[
    "\"kind\":\"directory\"",
    "\"kind\":\"file\"",
    "\"kind\":\"link\"",
    "\"path\":\"\"",
    "\"path\":\"a\"",
    "\"path\":\"a/b\"",
    "\"path\":\"../x\"",
    "\"path\":\"/etc/x\"",
    "\"path\":\"there/x\"",
    "\"target\":\"..\"",
    "\"target\":\"a\"",
    "\"target\":\"/etc\"",
    "\"target\":\"../../outside\"",
    "\"mode\":511",
    "\"mode\":0",
    "\"mode\":4095",
    "\"bytes\":5",
    "\"version\":1",
    "\"entries\":[",
    "{",
    "}",
    "]",
    ",",
    "..",
    "./",
    "//",
    "\0",
    "ustar",
    "0000644",
    "77777777777",
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "PAX",
    "path=../../x\n",
    "outside",
];

/// What lies outside, and must stay.
const CANARY: &str = "do not touch";

/// The bytes are a manifest that lies on the shelf under its true digest.
pub fn restore(data: &[u8]) {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(place.path().join("shelf"));
    for content in [data, b"hello"] {
        put(&place.path().join("shelf"), content);
    }
    let workspace = surroundings(place.path());
    let digest = Digest::of(data);
    for path in ["fresh", "dist", "there", "there/x", "."] {
        let restored = shelf.restore(&digest, &workspace, path);
        untouched(place.path());
        if restored.is_ok() {
            let entries = shelf.manifest(&digest).expect("it was restored");
            assert!(!entries.entries().is_empty());
        }
        // What is restored may be read-only, and is to be removed.
        open_up(&workspace);
    }
}

/// The bytes are an archive that claims to be an artifact: of itself it cannot know which.
pub fn unpack(data: &[u8]) {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(place.path().join("shelf"));
    surroundings(place.path());
    let archive = place.path().join("archive.tar");
    fs::write(&archive, data).unwrap();
    // The artifact of the first seed.
    let hello = hello(place.path());
    let unpacked = shelf.unpack(&archive, &hello);
    untouched(place.path());
    if let Ok(stored) = unpacked {
        assert_eq!(stored.digest, hello);
        assert_eq!(shelf.manifest(&hello).expect("it was stored").bytes(), stored.bytes);
        let packed = place.path().join("again.tar");
        shelf.pack(&hello, &packed).expect("it was stored");
        shelf.unpack(&packed, &hello).expect("it was packed");
    }
}

/// The artifact that `corpus/unpack/hello.tar` is of: a directory with the file `hello` and a link to it.
fn hello(place: &Path) -> Digest {
    let from = place.join("from/dist");
    fs::create_dir_all(&from).unwrap();
    fs::write(from.join("hello"), "hello").unwrap();
    fs::set_permissions(from.join("hello"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("hello", from.join("link")).unwrap();
    fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
    Shelf::new(place.join("other")).store(&place.join("from"), "dist").unwrap().digest
}

fn put(shelf: &Path, content: &[u8]) {
    let digest = Digest::of(content);
    let (first, rest) = digest.as_str().split_at(2);
    let blobs = shelf.join("blobs").join(first);
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(rest), content).unwrap();
}

/// A workspace in which a step has put links that lead outside.
fn surroundings(place: &Path) -> std::path::PathBuf {
    let outside = place.join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    for file in ["x", "a", "deep/x", "hello"] {
        fs::write(outside.join(file), CANARY).unwrap();
        fs::set_permissions(outside.join(file), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let workspace = place.join("workspace");
    fs::create_dir_all(workspace.join("dist")).unwrap();
    symlink(&outside, workspace.join("there")).unwrap();
    symlink("../../outside/x", workspace.join("dist/a")).unwrap();
    symlink("../../outside", workspace.join("dist/b")).unwrap();
    workspace
}

fn untouched(place: &Path) {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(place.join("outside")).sort_by_file_name() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(place).unwrap().display().to_string();
        let metadata = entry.metadata().unwrap();
        match metadata.is_file() {
            true => {
                assert_eq!(fs::read_to_string(entry.path()).unwrap(), CANARY, "{name} was written");
                assert_eq!(metadata.permissions().mode() & 0o777, 0o640, "{name} has another mode");
            }
            false => assert!(metadata.is_dir(), "{name} is something else now"),
        }
        found.push(name);
    }
    assert_eq!(
        found,
        ["outside", "outside/a", "outside/deep", "outside/deep/x", "outside/hello", "outside/x"]
    );
}

fn open_up(workspace: &Path) {
    for entry in walkdir::WalkDir::new(workspace).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_dir() {
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755));
        }
    }
}

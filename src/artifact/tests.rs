use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Room {
    root: tempfile::TempDir,
    shelf: Shelf,
}

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("work")).unwrap();
        fs::create_dir(root.path().join("other")).unwrap();
        let shelf = Shelf::new(root.path().join("artifacts"));
        Self { root, shelf }
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn other(&self) -> PathBuf {
        self.root.path().join("other")
    }

    fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A tree with everything that an artifact can have.
    fn fill(&self) {
        self.write("dist/bin/shop", "#!/bin/sh\necho shop\n", 0o755);
        self.write("dist/bin/secret", "hush", 0o600);
        self.write("dist/copy", "hush", 0o644);
        self.write("dist/a-b", "sorted between a and a/b", 0o444);
        self.write("dist/a/b", "", 0o640);
        fs::create_dir_all(self.work().join("dist/empty/deep")).unwrap();
        fs::set_permissions(self.work().join("dist/empty/deep"), fs::Permissions::from_mode(0o550)).unwrap();
        symlink("bin/shop", self.work().join("dist/run")).unwrap();
        symlink("../nowhere-yet", self.work().join("dist/a/dangling")).unwrap();
    }
}

/// Everything about a tree that an artifact keeps.
fn picture(root: &Path) -> Vec<(String, String)> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name();
    let line = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let mode = metadata.mode() & 0o777;
        let what = match metadata.file_type() {
            kind if kind.is_dir() => format!("directory {mode:o}"),
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(entry.path()).unwrap().display()),
            _ => format!("{mode:o} {}", fs::read_to_string(entry.path()).unwrap()),
        };
        (name, what)
    };
    entries.into_iter().map(|entry| line(entry.unwrap())).collect()
}

#[test]
fn a_directory_comes_back_with_modes_links_and_empty_directories() {
    let room = Room::new();
    room.fill();
    let stored = room.shelf.store(&room.work(), "dist").unwrap();
    assert_eq!(stored.bytes, 20 + 4 + 4 + 24);
    room.shelf.restore(&stored.digest, &room.other(), "deep/er").unwrap();
    assert_eq!(picture(&room.work().join("dist")), picture(&room.other().join("deep/er")));
    assert_eq!(room.shelf.manifest(&stored.digest).unwrap().bytes(), stored.bytes);
}

#[test]
fn a_file_comes_back_at_its_path() {
    let room = Room::new();
    room.write("out/app", "binary", 0o755);
    let stored = room.shelf.store(&room.work(), "./out/app").unwrap();
    room.shelf.restore(&stored.digest, &room.other(), "out/app").unwrap();
    assert_eq!(picture(&room.work()), picture(&room.other()));
    assert!(room.shelf.manifest(&stored.digest).unwrap().is_file());
}

#[test]
fn equal_content_has_an_equal_digest_and_is_kept_once() {
    let (one, two) = (Room::new(), Room::new());
    one.fill();
    two.fill();
    fs::File::open(two.work().join("dist/copy")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let stored = one.shelf.store(&one.work(), "dist").unwrap();
    assert_eq!(stored, two.shelf.store(&two.work(), "dist").unwrap());
    assert_eq!(stored, one.shelf.store(&one.work(), "dist").unwrap());

    let blobs = walkdir::WalkDir::new(one.root.path().join("artifacts/blobs"));
    let files: Vec<_> = blobs.into_iter().flatten().filter(|entry| entry.file_type().is_file()).collect();
    // Five files, two of them with one content, and the manifest.
    assert_eq!(files.len(), 5);
    assert!(files.iter().all(|file| file.metadata().unwrap().mode() & 0o777 == 0o444));
    assert_eq!(fs::read_dir(one.root.path().join("artifacts/incoming")).unwrap().count(), 0);

    fs::set_permissions(two.work().join("dist/copy"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(stored.digest, two.shelf.store(&two.work(), "dist").unwrap().digest);
}

#[test]
fn editing_what_was_restored_leaves_the_shelf_as_it_is() {
    let room = Room::new();
    room.write("app", "one", 0o644);
    let stored = room.shelf.store(&room.work(), "app").unwrap();
    room.shelf.restore(&stored.digest, &room.other(), "app").unwrap();
    fs::write(room.other().join("app"), "two").unwrap();
    room.shelf.restore(&stored.digest, &room.other(), "again").unwrap();
    assert_eq!(fs::read_to_string(room.other().join("again")).unwrap(), "one");
}

#[test]
fn paths_that_leave_the_workspace_are_refused() {
    let room = Room::new();
    room.write("app", "x", 0o644);
    fs::write(room.other().join("secret"), "x").unwrap();
    symlink(room.other(), room.work().join("away")).unwrap();
    let stored = room.shelf.store(&room.work(), "app").unwrap();
    for path in ["", "/etc/passwd", "../other/secret", "a/../../other", "app\0"] {
        assert!(matches!(room.shelf.store(&room.work(), path), Err(Error::Path { .. })), "{path:?}");
        let restored = room.shelf.restore(&stored.digest, &room.work(), path);
        assert!(matches!(restored, Err(Error::Path { .. })), "{path:?}");
    }
    for path in ["away", "away/secret"] {
        assert!(matches!(room.shelf.store(&room.work(), path), Err(Error::Outside { .. })), "{path}");
    }
    for path in ["nothing", "app/below", "away/nothing"] {
        let error = room.shelf.store(&room.work(), path).unwrap_err();
        assert!(matches!(&error, Error::Missing { path: named } if named == path), "{error}");
    }
}

#[test]
fn links_that_lead_outside_are_refused_also_through_other_links() {
    for (links, inside) in [
        (vec![("l", "/etc")], false),
        (vec![("l", "..")], false),
        (vec![("a/l", "..")], true),
        (vec![("a/l", "../..")], false),
        (vec![("a/l", "../a/b/../../x")], true),
        (vec![("a/b/up", "../.."), ("l", "a/b/up/..")], false),
        (vec![("a/b/up", "../.."), ("l", "a/b/up/a")], true),
        (vec![("a/up", "."), ("a/b/l", "../up/../..")], false),
        (vec![("x", "y"), ("y", "x")], true),
    ] {
        let room = Room::new();
        room.write("dist/a/b/file", "", 0o644);
        for (path, target) in &links {
            symlink(target, room.work().join("dist").join(path)).unwrap();
        }
        match room.shelf.store(&room.work(), "dist") {
            Ok(stored) => {
                assert!(inside, "{links:?}");
                room.shelf.restore(&stored.digest, &room.other(), "dist").unwrap();
            }
            Err(Error::Outside { .. }) => assert!(!inside, "{links:?}"),
            Err(other) => panic!("{links:?}: {other}"),
        }
    }
}

#[test]
fn sockets_and_pipes_are_refused() {
    let room = Room::new();
    fs::create_dir(room.work().join("dist")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(room.work().join("dist/socket")).unwrap();
    let error = room.shelf.store(&room.work(), "dist").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"dist/socket\" is a socket: an artifact has files, directories and links only"
    );
    let pipe = room.work().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(room.shelf.store(&room.work(), "pipe"), Err(Error::Unsupported { .. })));
}

#[test]
fn nothing_is_restored_through_a_link() {
    let room = Room::new();
    room.write("dist/conf/app", "mine", 0o644);
    let stored = room.shelf.store(&room.work(), "dist").unwrap();
    let away = room.root.path().join("away");
    fs::create_dir_all(away.join("conf")).unwrap();

    for link in ["dist", "up"] {
        symlink(&away, room.other().join(link)).unwrap();
    }
    for path in ["dist", "up/dist"] {
        let restored = room.shelf.restore(&stored.digest, &room.other(), path);
        assert!(matches!(restored, Err(Error::InTheWay { .. })), "{path}");
    }
    fs::create_dir(room.other().join("inner")).unwrap();
    symlink(away.join("conf"), room.other().join("inner/conf")).unwrap();
    assert!(matches!(
        room.shelf.restore(&stored.digest, &room.other(), "inner"),
        Err(Error::InTheWay { .. })
    ));
    assert_eq!(fs::read_dir(away.join("conf")).unwrap().count(), 0);

    // A link where a file is to be is replaced, not followed.
    fs::write(away.join("victim"), "theirs").unwrap();
    fs::create_dir_all(room.other().join("file/conf")).unwrap();
    symlink(away.join("victim"), room.other().join("file/conf/app")).unwrap();
    room.shelf.restore(&stored.digest, &room.other(), "file").unwrap();
    assert_eq!(fs::read_to_string(away.join("victim")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(room.other().join("file/conf/app")).unwrap(), "mine");
}

#[test]
fn damage_is_named_and_mended_by_storing_again() {
    for damage in ["hurt", "longer than before", ""] {
        let room = Room::new();
        room.write("dist/app", "true", 0o644);
        let stored = room.shelf.store(&room.work(), "dist").unwrap();
        let blob = Digest::of(b"true");
        let lies = room.shelf.blob(&blob);
        fs::remove_file(&lies).unwrap();
        fs::write(&lies, damage).unwrap();

        let error = room.shelf.restore(&stored.digest, &room.other(), "dist").unwrap_err();
        assert!(matches!(&error, Error::Damaged { blob: named, .. } if *named == blob), "{error}");
        assert!(!room.other().join("dist/app").exists());
        assert!(matches!(
            room.shelf.pack(&stored.digest, &room.other().join("tar")),
            Err(Error::Damaged { .. })
        ));
        assert!(!room.other().join("tar").exists());

        assert_eq!(room.shelf.store(&room.work(), "dist").unwrap(), stored);
        room.shelf.restore(&stored.digest, &room.other(), "dist").unwrap();
    }
}

#[test]
fn manifests_that_no_shelf_wrote_are_refused() {
    let digest = Digest::of(b"").to_string();
    let file =
        |path: &str| format!(r#"{{"kind":"file","path":"{path}","mode":420,"digest":"{digest}","bytes":0}}"#);
    let directory = |path: &str| format!(r#"{{"kind":"directory","path":"{path}","mode":493}}"#);
    let link = |path: &str, to: &str| format!(r#"{{"kind":"link","path":"{path}","target":"{to}"}}"#);
    let root = directory("");
    let whole = |version: u32, entries: &[&str]| {
        format!(r#"{{"version":{version},"entries":[{}]}}"#, entries.join(","))
    };
    for good in [whole(1, &[&file("app")]), whole(1, &[&root, &directory("a"), &file("a/b")])] {
        assert!(Manifest::read(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "not json".to_owned(),
        whole(2, &[&root]),
        whole(1, &[]),
        whole(1, &[&file("../app")]),
        whole(1, &[&file("")]),
        whole(1, &[&link("a", "b")]),
        whole(1, &[&file("a"), &file("b")]),
        whole(1, &[&root, &file("../app")]),
        whole(1, &[&root, &file("/app")]),
        whole(1, &[&root, &file("a/b")]),
        whole(1, &[&root, &link("a", "b"), &file("a/b")]),
        whole(1, &[&root, &file("a"), &file("a")]),
        whole(1, &[&root, &root]),
        whole(1, &[&root, &directory("a"), &file("a/../b")]),
        whole(1, &[&root, &link("a", "../b")]),
        whole(1, &[&root, &link("a", "/b")]),
        whole(1, &[r#"{"kind":"directory","path":"","mode":2541}"#]),
    ] {
        assert!(Manifest::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_packed_artifact_is_the_same_bytes_and_comes_back() {
    let (room, far) = (Room::new(), Room::new());
    room.fill();
    room.write(&format!("dist/{}/{}", "long".repeat(30), "name".repeat(40)), "far", 0o644);
    room.write("one", "single", 0o755);
    for path in ["dist", "one"] {
        let stored = room.shelf.store(&room.work(), path).unwrap();
        let (a, b) = (room.other().join("a.tar"), room.other().join("b.tar"));
        room.shelf.pack(&stored.digest, &a).unwrap();
        room.shelf.pack(&stored.digest, &b).unwrap();
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());

        let wrong = far.shelf.unpack(&a, &Digest::of(b"another"));
        assert!(matches!(wrong, Err(Error::Damaged { .. })));
        assert_eq!(far.shelf.unpack(&a, &stored.digest).unwrap(), stored);
        far.shelf.restore(&stored.digest, &far.work(), path).unwrap();
    }
    assert_eq!(picture(&room.work()), picture(&far.work()));
}

#[test]
fn hostile_archives_write_nothing() {
    let room = Room::new();
    let archive = |path: &str, kind: tar::EntryType, target: &str| {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the library refuses to make such names.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, std::io::empty()).unwrap();
        builder.into_inner().unwrap()
    };
    for hostile in [
        archive("../victim", tar::EntryType::Regular, ""),
        archive("/victim", tar::EntryType::Regular, ""),
        archive("victim", tar::EntryType::Symlink, "/etc"),
        archive("victim", tar::EntryType::Link, "/etc/passwd"),
        archive("victim", tar::EntryType::Char, ""),
        b"no archive at all, but long enough to be looked at as one".repeat(20),
    ] {
        let file = room.other().join("hostile.tar");
        fs::write(&file, &hostile).unwrap();
        assert!(matches!(room.shelf.unpack(&file, &Digest::of(b"x")), Err(Error::Damaged { .. })));
    }
    assert!(!room.root.path().join("victim").exists());
    assert!(!room.root.path().join("artifacts/victim").exists());
}

#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let room = Room::new();
    room.write("dist/a", "12345", 0o644);
    room.write("dist/b", "12345", 0o644);
    let shelf = |entries, bytes| room.shelf.clone().with_limits(Limits { entries, bytes });
    assert!(shelf(3, 10).store(&room.work(), "dist").is_ok());
    assert!(matches!(shelf(2, 10).store(&room.work(), "dist"), Err(Error::TooLarge { .. })));
    let error = shelf(3, 9).store(&room.work(), "dist").unwrap_err();
    assert_eq!(error.to_string(), "the artifact at \"dist\" is larger than 9 bytes");
}

#[test]
fn an_unknown_artifact_is_not_found() {
    let room = Room::new();
    let digest = Digest::of(b"unknown");
    assert!(matches!(room.shelf.manifest(&digest), Err(Error::NotFound(named)) if named == digest));
}

#[test]
fn a_full_disk_is_told_with_its_path() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert!(
        matches!(Error::at(Path::new("/data"))(full), Error::Full { path } if path == Path::new("/data"))
    );
}

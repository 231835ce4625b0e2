use std::fs;

use super::*;
use crate::ids::Digest;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let mut copier = Copier::new(from, to.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
    for part in copier.parts().unwrap() {
        copier.part(&part).unwrap();
    }
    copier.finish().unwrap();
    to
}

fn files(root: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = walk.filter(|entry| !entry.file_type().is_dir());
    files.map(|file| file.path().strip_prefix(root).unwrap().display().to_string()).collect()
}

#[test]
fn what_is_of_a_process_or_of_a_moment_stays_behind_and_the_unknown_is_copied() {
    let data = tree(&[
        ("lock", "{}"),
        ("windlass.db-wal", ""),
        ("workspaces/shop/1/build.1/output", ""),
        ("builders/x/builder.json", "{}"),
        ("runner/scripts/1", ""),
        ("instances/shop-1/instance.json", "{}"),
        ("instances/.ended/key.json", "{}"),
        ("instances/.ended/.new-x", "{}"),
        ("images/.gone/img-2/manifest.json", "{}"),
        ("images/img-1/manifest.json", "{}"),
        ("images/img-1/root/app/.gone", "an ordinary name there"),
        ("artifacts/incoming/x", ""),
        ("artifacts/blobs/ab/cd", "blob"),
        ("objects/.incoming/x", ""),
        ("objects/shop/a.tar", "tar"),
        ("cache/git/x.git/config.lock", ""),
        ("cache/git/x.git/objects/pack/tmp_pack_1", ""),
        ("cache/git/x.git/objects/pack/pack-1.pack", "pack"),
        ("cache/other/x", ""),
        ("logs/shop/1/build/1/01.log", "hello\n"),
        ("settings/windlass.yaml", "{}"),
    ]);
    std::os::unix::net::UnixListener::bind(data.path().join("other.sock")).unwrap();
    let copy = copied(data.path());
    let wanted = [
        "artifacts/blobs/ab/cd",
        "backup.jsonl",
        "cache/git/x.git/objects/pack/pack-1.pack",
        "images/img-1/manifest.json",
        "images/img-1/root/app/.gone",
        "instances/.ended/key.json",
        "logs/shop/1/build/1/01.log",
        "objects/shop/a.tar",
        "settings/windlass.yaml",
    ];
    assert_eq!(files(copy.path()), wanted);
}

#[test]
fn modes_links_and_names_are_kept_and_nothing_is_shared() {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    let data = tree(&[("images/img-1/manifest.json", "{}"), ("images/img-1/root/app/run", "#!")]);
    let app = data.path().join("images/img-1/root/app");
    let odd = Path::new(OsStr::from_bytes(b"\xff\\n"));
    fs::write(app.join(odd), "odd").unwrap();
    symlink("run", app.join("link")).unwrap();
    fs::set_permissions(app.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o555)).unwrap();

    let copy = copied(data.path());
    let there = copy.path().join("images/img-1/root/app");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&there), mode(&there.join("run"))), (0o555, 0o755));
    assert_eq!(fs::read_link(there.join("link")).unwrap(), Path::new("run"));
    assert_eq!(fs::read_to_string(there.join(odd)).unwrap(), "odd");
    assert_ne!(fs::metadata(app.join("run")).unwrap().ino(), fs::metadata(there.join("run")).unwrap().ino());
    let list = Manifest::read(copy.path()).unwrap().unwrap();
    assert_eq!(list.compare(copy.path()).unwrap(), []);
    for app in [app, there] {
        fs::set_permissions(app, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_directory_that_is_a_link_to_another_disk_is_copied_with_what_it_leads_to() {
    let disk = tree(&[("blobs/ab/cd", "blob")]);
    let data = tree(&[("windlass.db", "")]);
    std::os::unix::fs::symlink(disk.path(), data.path().join("artifacts")).unwrap();
    let copy = copied(data.path());
    assert!(!copy.path().join("artifacts").is_symlink());
    assert_eq!(files(copy.path()), ["artifacts/blobs/ab/cd", "backup.jsonl"]);
}

#[test]
fn each_difference_is_seen() {
    let data = tree(&[("logs/a", "aaaa"), ("logs/b", "bbbb"), ("logs/c", "cccc"), ("logs/d", "dddd")]);
    let copy = copied(data.path());
    let at = |name: &str| copy.path().join("logs").join(name);
    fs::remove_file(at("a")).unwrap();
    fs::write(at("b"), "bbXb").unwrap();
    fs::write(at("c"), "ccc").unwrap();
    fs::write(at("e"), "new").unwrap();
    let list = Manifest::read(copy.path()).unwrap().unwrap();
    let wanted = [
        Difference::Changed("logs/b".to_owned(), "it has another content".to_owned()),
        Difference::Changed("logs/c".to_owned(), "it has 3 bytes instead of 4".to_owned()),
        Difference::Unknown("logs/e".to_owned()),
        Difference::Missing("logs/a".to_owned()),
    ];
    assert_eq!(list.compare(copy.path()).unwrap(), wanted);
}

/// As the first version wrote it. Never change this text.
const FIRST: &str = r#"{"backup":{"version":1,"taken_at":"2026-11-22T12:00:00Z","windlass":"0.1.0","of":"/srv/windlass"}}
{"file":{"path":"logs/a","bytes":4,"digest":"61be55a8e2f6b4e172338bddf184d6dbee29c98853e0a0485ecee7f27b9af0b4"}}
{"end":{"files":1,"bytes":4}}
"#;

#[test]
fn a_list_of_the_first_version_is_read_a_newer_one_refused_and_half_of_one_seen() {
    let copy = tree(&[("logs/a", "aaaa"), (MANIFEST, FIRST)]);
    assert_eq!(
        Digest::of(b"aaaa").as_str(),
        "61be55a8e2f6b4e172338bddf184d6dbee29c98853e0a0485ecee7f27b9af0b4"
    );
    let list = Manifest::read(copy.path()).unwrap().unwrap();
    assert_eq!((list.header.version, list.header.of.as_str()), (1, "/srv/windlass"));
    assert_eq!(list.compare(copy.path()).unwrap(), []);

    let write = |text: &str| fs::write(copy.path().join(MANIFEST), text).unwrap();
    write(&FIRST.replace(r#""version":1"#, r#""version":2"#));
    assert!(matches!(Manifest::read(copy.path()), Err(Unreadable::Newer(2))));
    write(FIRST.rsplit_once("{\"end\"").unwrap().0);
    assert!(matches!(Manifest::read(copy.path()), Err(Unreadable::CutOff)));
    write(&FIRST.replace("\"file\"", "\"fail\""));
    assert!(matches!(Manifest::read(copy.path()), Err(Unreadable::Damaged { line: 2, .. })));
}

#[test]
fn what_is_opened_is_a_backup_no_more() {
    let copy = tree(&[(MANIFEST, FIRST)]);
    assert_eq!(open_up(copy.path()).unwrap().unwrap().of, "/srv/windlass");
    assert_eq!(open_up(copy.path()).unwrap(), None);
    assert_eq!(files(copy.path()), [OPENED]);
}

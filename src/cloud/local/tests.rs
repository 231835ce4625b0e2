use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::cloud::fault::{Fault, Faults, Faulty, Operation};
use crate::cloud::{Parent, Tags, conformance};
use crate::ids::RunId;

#[tokio::test]
async fn the_local_cloud_is_a_compute() {
    let room = tempfile::tempdir().unwrap();
    conformance::compute(room.path(), async || Local::new(room.path().join("data"))).await;
}

#[tokio::test]
async fn so_it_is_when_everything_is_done_twice() {
    let room = tempfile::tempdir().unwrap();
    let all = [Operation::LaunchBuilder, Operation::CreateImage, Operation::Launch, Operation::Terminate];
    let twice = all.into_iter().fold(Faults::none(), |faults, each| faults.each(each, Fault::Repeat));
    let make = async || Faulty::new(Arc::new(Local::new(room.path().join("data"))), twice.clone());
    conformance::compute(room.path(), make).await;
    assert!(twice.calls(Operation::Launch) > 0);
}

#[tokio::test]
async fn local_objects_are_objects() {
    let room = tempfile::tempdir().unwrap();
    conformance::objects(room.path(), async || LocalObjects::new(room.path().join("objects"))).await;
}

#[tokio::test]
async fn a_key_that_is_part_of_another_is_a_conflict_here() {
    use crate::cloud::Objects;
    let room = tempfile::tempdir().unwrap();
    let objects = LocalObjects::new(room.path().join("an object's store"));
    let file = room.path().join("file");
    fs::write(&file, "x").unwrap();
    objects.put("a/b", &file, &Digest::of(b"x")).await.unwrap();
    for key in ["a", "a/b/c"] {
        let put = objects.put(key, &file, &Digest::of(b"x")).await;
        assert!(matches!(put, Err(Error::Conflict(_))), "{key}: {put:?}");
    }
    assert!(objects.location("a/b").ends_with("/an%20object%27s%20store/a/b"));
}

struct Room {
    root: tempfile::TempDir,
    local: Local,
}

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let local = Local::new(root.path().join("data"));
        Self { root, local }
    }

    /// A directory with these files.
    fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = self.root.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        for (file, content) in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn build(&self, contents: &[&Path], files: &[(&str, &Path)]) -> BuildRequest {
        let service: crate::ids::PipelineName = "shop".parse().unwrap();
        let run = RunId::new(service.clone(), 7);
        let key: crate::ids::Key = "build".parse().unwrap();
        BuildRequest {
            key: key.clone(),
            parent: Parent::Empty,
            contents: contents.iter().map(|path| path.to_path_buf()).collect(),
            files: files.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf())).collect(),
            provision: Vec::new(),
            env: Default::default(),
            tags: Tags { service, run, stage: "bake".to_owned(), key },
        }
    }

    fn app(&self) -> PathBuf {
        self.local.data.join("builders/build/image/root/app")
    }

    fn finish(&self, build: &BuildRequest) -> (ImageRecord, PathBuf) {
        let (name, key) = ("shop-7".to_owned(), Digest::of(b"image"));
        let start = "exec ./shop".to_owned();
        let request = ImageRequest { name, key, parent: None, commit: None, start };
        let image = self.local.create_image_now(build, &request).unwrap();
        let root = self.local.image_directory(&image.id).join("root");
        (image, root)
    }
}

fn paths(root: &Path) -> Vec<String> {
    let found = tree::walk(root).map(|found| found.unwrap().relative.to_str().unwrap().to_owned());
    found.filter(|path| !path.is_empty()).collect()
}

#[test]
fn an_image_is_the_base_with_a_new_app_directory() {
    let room = Room::new();
    let base = room.tree("base", &[("etc/conf", "1"), ("app/old", "1")]);
    fs::set_permissions(base.join("etc/conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let dist = room.tree("dist", &[("bin/shop", "#!"), ("page", "<p>")]);
    fs::set_permissions(dist.join("bin/shop"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("bin/shop", dist.join("run")).unwrap();
    fs::create_dir(dist.join("empty")).unwrap();
    let single = room.tree("out", &[("tool", "#!")]).join("tool");

    let build = BuildRequest { parent: Parent::Directory(base), ..room.build(&[&dist, &single], &[]) };
    room.local.launch_builder_now(&build).unwrap();
    let (image, root) = room.finish(&build);
    let expected = ["app", "app/bin", "app/bin/shop", "app/empty", "app/page", "app/run", "app/tool"];
    assert_eq!(paths(&root), [&expected[..], &["etc", "etc/conf"]].concat());
    let mode = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("app/bin/shop"), mode("etc/conf")), (0o755, 0o640));
    assert_eq!(fs::read_link(root.join("app/run")).unwrap(), Path::new("bin/shop"));

    // The next one, from this image: everything but the app directory is inherited.
    let parent = Parent::Image(image.id);
    let build = BuildRequest { parent, ..room.build(&[&single], &[]) };
    room.local.launch_builder_now(&build).unwrap();
    let root = room.local.data.join("builders/build/image/root");
    assert_eq!(paths(&root), ["app", "app/tool", "etc", "etc/conf"]);
}

#[test]
fn files_are_there_while_provisioning_and_gone_afterwards() {
    let room = Room::new();
    let dist = room.tree("dist", &[("shop", "#!"), ("deploy/both", "same"), ("conf/kept", "1")]);
    let deploy = room.tree("deploy", &[("setup", "#!"), ("sub/data", "1"), ("both", "same")]);
    let template = room.tree("templates", &[("nginx", "x")]).join("nginx");
    let build = room.build(
        &[&dist],
        &[("deploy", &deploy), ("deploy/setup", &deploy.join("setup")), ("a/b/t", &template)],
    );
    room.local.launch_builder_now(&build).unwrap();
    let app = room.app();
    for file in ["deploy/setup", "deploy/sub/data", "deploy/both", "a/b/t"] {
        assert!(app.join(file).exists(), "{file}");
    }
    // Provisioning makes things beside them, and changes one of them.
    fs::write(app.join("deploy/sub/made"), "1").unwrap();
    fs::write(app.join("deploy/setup"), "changed").unwrap();
    let (_, root) = room.finish(&build);
    let expected = ["conf", "conf/kept", "deploy", "deploy/both", "deploy/sub", "deploy/sub/made", "shop"];
    assert_eq!(paths(&root.join("app")), expected);
    assert!(!room.local.data.join("builders/build").exists());
}

#[test]
fn files_that_differ_from_an_artifact_are_a_conflict() {
    let room = Room::new();
    let dist = room.tree("dist", &[("deploy/setup", "1"), ("file", "1")]);
    let deploy = room.tree("deploy", &[("setup", "2")]);
    for (name, source) in [
        ("deploy", deploy.clone()),
        ("deploy/setup", deploy.join("setup")),
        ("file", deploy.clone()),
        ("file/below", deploy.clone()),
    ] {
        let error = room.local.launch_builder_now(&room.build(&[&dist], &[(name, &source)])).unwrap_err();
        assert!(matches!(&error, Error::Conflict(message) if message.contains('"')), "{name}: {error}");
    }
    let other = room.tree("other", &[("deploy/setup", "1")]);
    let error = room.local.launch_builder_now(&room.build(&[&dist, &other], &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "two artifacts of the image have \"deploy/setup\": leave one of them out, or give it another path"
    );
}

#[test]
fn nothing_outside_the_app_directory_is_written_or_removed() {
    let room = Room::new();
    let outside = room.tree("outside", &[("setup", "mine")]);
    let deploy = room.tree("deploy", &[("setup", "x")]);
    for name in ["../x", "/etc/x", "a/../../x", "", "."] {
        let built = room.local.launch_builder_now(&room.build(&[], &[(name, &deploy)]));
        assert!(matches!(built, Err(Error::Failed(_))), "{name:?}");
    }
    // A link among the artifacts is not gone through…
    let dist = room.tree("dist", &[]);
    symlink(&outside, dist.join("deploy")).unwrap();
    for name in ["deploy", "deploy/more"] {
        let built = room.local.launch_builder_now(&room.build(&[&dist], &[(name, &deploy)]));
        assert!(matches!(built, Err(Error::Conflict(_))), "{name}");
    }
    // …nor is one that the base has in place of its app directory, or that provisioning made.
    let base = room.tree("base", &[]);
    symlink(&outside, base.join("app")).unwrap();
    let build = BuildRequest { parent: Parent::Directory(base), ..room.build(&[], &[("deploy", &deploy)]) };
    room.local.launch_builder_now(&build).unwrap();
    fs::remove_dir_all(room.app().join("deploy")).unwrap();
    symlink(&outside, room.app().join("deploy")).unwrap();
    room.finish(&build);
    assert_eq!(paths(&outside), ["setup"]);
    assert_eq!(fs::read_to_string(outside.join("setup")).unwrap(), "mine");
}

#[test]
fn killed_while_the_image_is_created_the_next_try_ends_well() {
    let room = Room::new();
    let deploy = room.tree("deploy", &[("setup", "x")]);
    let build = room.build(&[&room.tree("dist", &[("shop", "1")])], &[("deploy", &deploy)]);
    // After the files were taken away.
    room.local.launch_builder_now(&build).unwrap();
    fs::remove_dir_all(room.app().join("deploy")).unwrap();
    let (image, root) = room.finish(&build);
    assert_eq!(paths(&root), ["app", "app/shop"]);
    // After the image was there, before the builder was gone.
    room.local.launch_builder_now(&build).unwrap();
    assert_eq!(room.finish(&build).0, image);
    assert!(!room.local.data.join("builders/build").exists());
    // Two builders of one image: the second finds it when it is about to put its own there.
    room.local.launch_builder_now(&build).unwrap();
    let from = room.local.data.join("builders/build/image");
    let later = ImageRecord { name: "shop-8".to_owned(), ..image.clone() };
    assert_eq!(room.local.keep_image(&from, later).unwrap(), image);
}

#[test]
fn a_changed_image_is_neither_certified_nor_built_upon() {
    let room = Room::new();
    let build = room.build(&[&room.tree("dist", &[("shop", "1")])], &[]);
    room.local.launch_builder_now(&build).unwrap();
    let (image, root) = room.finish(&build);
    fs::set_permissions(root.join("app/shop"), fs::Permissions::from_mode(0o777)).unwrap();
    let child = BuildRequest { parent: Parent::Image(image.id.clone()), ..build };
    for error in [
        room.local.certify_image_now(&image.id).unwrap_err(),
        room.local.launch_builder_now(&child).unwrap_err(),
    ] {
        assert!(error.to_string().contains("is not what was baked"), "{error}");
    }
    assert!(!room.local.image_now(&image.id).unwrap().record.certified);
}

#[test]
fn a_builder_of_the_first_version_is_read() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("builder.json");
    // As the first version wrote it. Never change this text.
    let text = r#"{"version":1,"files":["bin/app"],"directories":["bin"]}"#;
    fs::write(&path, text).unwrap();
    let placed: builders::Placed = disk::read(&path, builders::FORMAT).unwrap().unwrap();
    assert_eq!((placed.files.len(), placed.directories.first().unwrap().as_str()), (1, "bin"));
    fs::write(&path, text.replace(":1", ":2")).unwrap();
    let newer = disk::read::<builders::Placed>(&path, builders::FORMAT).unwrap_err().to_string();
    assert!(newer.contains("it has version 2"), "{newer}");
}

#[test]
fn an_image_of_the_first_version_is_read() {
    let room = Room::new();
    let id: ImageId = "img-0".parse().unwrap();
    let directory = room.tree("data/images/img-0", &[]);
    let text = r#"{"version":1,"record":{"id":"img-0","name":"shop-7","key":"DIGEST","parent":null,"commit":null,
        "run":"shop/7","service":"shop","start":"./shop","created_at":"2026-11-22T03:00:00Z"},"tree":"DIGEST"}"#;
    let text = text.replace("DIGEST", Digest::of(b"").as_str());
    fs::write(directory.join("manifest.json"), text).unwrap();
    let record = room.local.image_now(&id).unwrap().record;
    assert_eq!((record.name.as_str(), record.certified), ("shop-7", false));
}

#[test]
fn sockets_and_pipes_are_no_part_of_an_image() {
    let room = Room::new();
    let dist = room.tree("dist", &[]);
    let _socket = std::os::unix::net::UnixListener::bind(dist.join("socket")).unwrap();
    let error = room.local.launch_builder_now(&room.build(&[&dist], &[])).unwrap_err();
    assert!(error.to_string().contains("is a socket, pipe or device"), "{error}");
}

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::*;
use crate::cloud::{BuildRequest, ImageRequest, Parent};
use crate::ids::RunId;

/// Tells a test binary that it is to be the launcher that is killed.
const LAUNCHER: &str = "WINDLASS_TEST_LAUNCHER";

struct Room {
    local: Local,
    root: tempfile::TempDir,
}

/// Nothing outlives a test, also when it fails.
impl Drop for Room {
    fn drop(&mut self) {
        for record in self.local.records().unwrap_or_default() {
            let _ = self.local.terminate_now(&record.id);
        }
    }
}

fn tags(key: &str) -> Tags {
    let service: crate::ids::PipelineName = "shop".parse().unwrap();
    let run = RunId::new(service.clone(), 7);
    Tags { service, run, stage: "production".to_owned(), key: key.parse().unwrap() }
}

fn image(local: &Local, start: &str) -> ImageId {
    let build = BuildRequest {
        key: "build".parse().unwrap(),
        parent: Parent::Empty,
        contents: Vec::new(),
        files: Vec::new(),
        provision: Vec::new(),
        env: Default::default(),
        tags: tags("build"),
    };
    local.launch_builder_now(&build).unwrap();
    let app = local.data.join("builders/build/image/root/app");
    fs::write(app.join("file"), "as it was baked").unwrap();
    let (name, key) = ("shop-7-9f3c2a1b".to_owned(), Digest::of(start.as_bytes()));
    let image = ImageRequest { name, key, parent: None, commit: None, start: start.to_owned() };
    local.create_image_now(&build, &image).unwrap().id
}

fn launch(key: &str, name: &str, image: &ImageId) -> Launch {
    Launch {
        key: key.parse().unwrap(),
        name: name.to_owned(),
        fleet: FleetId::new("shop".parse().unwrap(), "production".parse().unwrap()),
        image: image.clone(),
        env: BTreeMap::from([
            ("SHOP_DB".to_owned(), "postgres://x y".to_owned()),
            ("PORT".to_owned(), "1".to_owned()),
        ]),
        release: Digest::of(b"release"),
        tags: tags(key),
    }
}

impl Room {
    fn new(start: &str) -> (Self, Launch) {
        let root = tempfile::tempdir().unwrap();
        let local = Local::new(root.path().to_owned());
        let launch = launch("k1", "shop-production-7-1", &image(&local, start));
        (Self { local, root }, launch)
    }

    fn place(&self) -> Place {
        self.local.place(&"shop-production-7-1".parse().unwrap())
    }

    /// What the launcher does before it starts anything.
    fn record(&self, launch: &Launch) -> Record {
        match self.local.recorded(launch).unwrap() {
            Recorded::Here(record) => record,
            Recorded::Ended(_) => panic!("nothing was terminated"),
        }
    }

    fn listed(&self) -> Vec<Instance> {
        let fleet = FleetId::new("shop".parse().unwrap(), "production".parse().unwrap());
        self.local.instances_now(&fleet).unwrap()
    }

    /// Processes that have the instance's home, whatever the records say.
    fn running(&self) -> usize {
        Belongings { first: None, home: self.place().home() }.find().len()
    }
}

/// Returns when the file has a whole line, which the service writes.
fn line(path: &Path) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if std::time::Instant::now() > deadline => panic!("{} was not written", path.display()),
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn killed_after_the_record_the_same_key_starts_it() {
    let (room, launch) = Room::new("exec sleep 3600");
    let record = room.record(&launch);
    assert_eq!(room.listed()[0].state, InstanceState::Pending);
    let instance = room.local.launch_now(&launch).unwrap();
    assert_eq!((instance.address, &instance.state), (record.address, &InstanceState::Running));
    assert_eq!((room.listed(), room.running()), (vec![instance], 1));
}

#[test]
fn killed_while_copying_the_copy_is_made_again() {
    let (room, launch) = Room::new("exec sleep 3600");
    room.record(&launch);
    let app = room.place().root().join("app");
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join("half"), "").unwrap();
    room.local.launch_now(&launch).unwrap();
    assert!(!app.join("half").exists() && app.join("file").exists());
}

#[test]
fn killed_after_the_spawn_the_process_is_waited_for_and_adopted() {
    let (room, launch) = Room::new("exec sleep 3600");
    room.record(&launch);
    let place = room.place();
    // A process that inherited the lock and has not come to its registration.
    let lock = place.lock().unwrap().unwrap();
    let script = "exec 9<&0 </dev/null; read -r go; read -r b </proc/sys/kernel/random/boot_id; \
                  read -r s </proc/$$/stat; printf '%s\\n%s\\n' \"$b\" \"$s\" >\"$1\"; exec 9<&-; exec sleep 3600";
    let (go, held) = (tempfile::tempdir().unwrap(), Stdio::from(lock));
    let pipe = go.path().join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let script = script.replace("read -r go", &format!("read -r go <{}", pipe.display()));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).arg(process::registration(&place.0));
    command.env("HOME", place.home()).stdin(held).process_group(0);
    let mut child = command.spawn().unwrap();
    drop(command);

    let local = room.local.clone();
    let launching = std::thread::spawn(move || local.launch_now(&launch).unwrap());
    assert_eq!(room.listed()[0].state, InstanceState::Pending);
    assert!(!launching.is_finished());
    fs::write(&pipe, "go\n").unwrap();
    let instance = launching.join().unwrap();
    assert_eq!(instance.state, InstanceState::Running);
    let registered = fs::read_to_string(process::registration(&place.0)).unwrap();
    assert!(registered.lines().nth(1).unwrap().starts_with(&format!("{} ", child.id())));
    assert_eq!(room.running(), 1);
    room.local.terminate_now(&instance.id).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_died_before_its_registration_is_started_again() {
    let (room, launch) = Room::new("exec sleep 3600");
    room.record(&launch);
    fs::write(process::registration(&room.place().0), "half of a boot").unwrap();
    assert_eq!(room.listed()[0].state, InstanceState::Pending);
    assert_eq!(room.local.launch_now(&launch).unwrap().state, InstanceState::Running);
    assert_eq!(room.running(), 1);
}

/// The launcher of the next test, in a process of its own.
#[test]
fn launcher() {
    let Some(data) = std::env::var_os(LAUNCHER) else { return };
    let local = Local::new(data.into());
    let image = "img-".to_owned() + Digest::of(b"exec sleep 3600").as_str().get(..16).unwrap();
    let launch = launch("k1", "shop-production-7-1", &image.parse().unwrap());
    println!("\nready");
    std::io::stdout().flush().unwrap();
    local.launch_now(&launch).unwrap();
}

#[test]
fn killed_at_any_moment_there_is_one_process_and_a_record_of_it() {
    for step in 0..16 {
        let (room, launch) = Room::new("exec sleep 3600");
        let mut launcher = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cloud::local::instances::tests::launcher", "--nocapture"])
            .env(LAUNCHER, room.root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(launcher.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "ready"));
        // From before the record to after the registration: both take some milliseconds.
        std::thread::sleep(std::time::Duration::from_micros(400 * step));
        launcher.kill().unwrap();
        launcher.wait().unwrap();

        let instance = room.local.launch_now(&launch).unwrap();
        assert_eq!(instance.state, InstanceState::Running, "killed after step {step}");
        assert_eq!((room.running(), room.listed().len()), (1, 1), "killed after step {step}");
        room.local.terminate_now(&instance.id).unwrap();
        assert_eq!((room.running(), room.listed().len()), (0, 0), "killed after step {step}");
    }
}

#[test]
fn a_service_gets_what_it_is_given_and_nothing_else() {
    let (room, launch) = Room::new("env >\"$TMPDIR/env\"; pwd >\"$TMPDIR/pwd\"; exec sleep 3600");
    let instance = room.local.launch_now(&launch).unwrap();
    let place = room.place();
    assert_eq!(line(&place.temporary().join("pwd")).trim(), place.root().join("app").display().to_string());
    let text = line(&place.temporary().join("env"));
    let mut given: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    // What shells set by themselves.
    given.retain(|name, _| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    let expected = [
        ("HOME", place.home().display().to_string()),
        ("LANG", std::env::var("LANG").unwrap_or("C.UTF-8".to_owned())),
        ("PATH", std::env::var("PATH").unwrap()),
        ("PORT", instance.address.port().to_string()),
        ("SHOP_DB", "postgres://x y".to_owned()),
        ("TMPDIR", place.temporary().display().to_string()),
        ("WINDLASS_ENVIRONMENT", "production".to_owned()),
        ("WINDLASS_INSTANCE", "shop-production-7-1".to_owned()),
        ("WINDLASS_SERVICE", "shop".to_owned()),
        ("WINDLASS_VERSION", "7-9f3c2a1b".to_owned()),
    ];
    assert_eq!(given, expected.iter().map(|(name, value)| (*name, value.as_str())).collect());
}

#[test]
fn a_service_cannot_change_its_image() {
    let (room, launch) = Room::new("echo changed >file; rm -rf ../app/other; echo >done; exec sleep 3600");
    room.local.launch_now(&launch).unwrap();
    line(&room.place().root().join("app/done"));
    room.local.intact_image(&launch.image).unwrap();
}

#[test]
fn a_service_may_end_in_order() {
    let (room, launch) = Room::new(
        "trap 'echo bye >>\"$SHOP_DB\"; exit 0' TERM; echo >ready; while :; do sleep 3600 & wait; done",
    );
    let said = room.root.path().join("said");
    let env = BTreeMap::from([("SHOP_DB".to_owned(), said.display().to_string())]);
    let instance = room.local.launch_now(&Launch { env, ..launch }).unwrap();
    line(&room.place().root().join("app/ready"));
    room.local.terminate_now(&instance.id).unwrap();
    assert_eq!(fs::read_to_string(said).unwrap(), "bye\n");
    assert!(!room.place().0.exists());
}

#[test]
fn killed_while_terminating_it_is_terminated_again() {
    let (room, launch) = Room::new("exec sleep 3600");
    let record = room.record(&launch);
    let instance = room.local.launch_now(&launch).unwrap();
    disk::make_directory(&room.local.instances_directory().join(".ended")).unwrap();
    disk::write(&room.local.ended_path(&launch.key), FORMAT, &record).unwrap();
    assert_eq!(room.local.launch_now(&launch).unwrap(), instance, "it is what is there that counts");
    room.local.terminate_now(&instance.id).unwrap();
    assert_eq!((room.running(), room.listed().len()), (0, 0));
    assert_eq!(room.local.launch_now(&launch).unwrap().state, InstanceState::Terminated);

    // What a kill left of the removal goes with the next one, and its name is free.
    let left = room.local.instances_directory().join(".gone/k1/root");
    fs::create_dir_all(&left).unwrap();
    let other = self::launch("k2", "shop-production-7-1", &launch.image);
    let instance = room.local.launch_now(&other).unwrap();
    room.local.terminate_now(&instance.id).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_name_is_given_once() {
    let (room, launch) = Room::new("exec sleep 3600");
    room.local.launch_now(&launch).unwrap();
    let other = self::launch("k2", "shop-production-7-1", &launch.image);
    assert!(matches!(room.local.launch_now(&other), Err(Error::Conflict(_))));
    for name in ["../x", "", ".lock", "a/b"] {
        let other = self::launch("k3", name, &launch.image);
        assert!(matches!(room.local.launch_now(&other), Err(Error::Failed(_))), "{name:?}");
    }
}

#[test]
fn an_instance_of_an_earlier_boot_has_failed() {
    let (room, launch) = Room::new("exec sleep 3600");
    room.record(&launch);
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    fs::write(process::registration(&room.place().0), format!("an-earlier-boot\n{stat}")).unwrap();
    fs::write(room.place().output(), "one\n\x1b[31mtwo\n").unwrap();
    let InstanceState::Failed { reason } = &room.listed()[0].state else { panic!("{:?}", room.listed()) };
    assert_eq!(reason, "it ended; its exit code is not known; the last it said:\none\n [31mtwo");
    room.local.terminate_now(&room.listed()[0].id).unwrap();
}

#[test]
fn a_record_of_the_first_version_is_read() {
    let text = r#"{"version":1,"id":"shop-production-7-1","name":"shop-production-7-1",
        "fleet":{"service":"shop","environment":"production"},"image":"img-0","release":"DIGEST",
        "tags":{"service":"shop","run":"shop/7","stage":"production","key":"k1"},"key":"k1",
        "address":"127.0.0.1:20001","launched_at":"2026-11-22T03:00:00Z"}"#;
    let room = tempfile::tempdir().unwrap();
    let place = Place(room.path().to_owned());
    fs::write(place.record_path(), text.replace("DIGEST", Digest::of(b"").as_str())).unwrap();
    let record = place.record().unwrap().unwrap();
    assert_eq!((record.tags, record.address.port()), (tags("k1"), 20001));
    fs::write(place.record_path(), text.replace("\"version\":1", "\"version\":2")).unwrap();
    let error = place.record().unwrap_err().to_string();
    assert!(error.ends_with("it has version 2, and this Windlass reads version 1"), "{error}");
}

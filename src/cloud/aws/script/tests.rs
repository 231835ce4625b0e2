//! The scripts are really run, in a directory of their own, against a server that takes what they write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::cloud::aws::pack::Load;
use crate::cloud::{BuildRequest, Parent, Tags};

const PATIENCE: Duration = Duration::from_secs(60);

/// Objects by path; everything that was ever put there, in order.
type Objects = Arc<Mutex<BTreeMap<String, Vec<Vec<u8>>>>>;

/// A server that has objects, and takes new ones. It ends with the test's process.
struct Server {
    address: String,
    objects: Objects,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let objects = Objects::default();
        let served = objects.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = served.clone();
                std::thread::spawn(move || answer(stream, &objects));
            }
        });
        Self { address, objects }
    }

    fn url(&self, name: &str) -> String {
        // As presigned ones: with what a shell would take for something else.
        format!("{}/{name}?a=1&b=$(touch nowhere)", self.address).replace(' ', "%20")
    }

    fn put(&self, name: &str, content: Vec<u8>) -> String {
        self.objects.lock().unwrap().entry(name.to_owned()).or_default().push(content);
        self.url(name)
    }

    fn get(&self, name: &str) -> Option<String> {
        let objects = self.objects.lock().unwrap();
        Some(String::from_utf8_lossy(objects.get(name)?.last()?).into_owned())
    }

    #[track_caller]
    fn until(&self, name: &str, has: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.get(name) {
                Some(text) if text.contains(has) => return text,
                other => assert!(Instant::now() < deadline, "{name} never has {has:?}: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn answer(mut stream: TcpStream, objects: &Objects) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let name = path.trim_start_matches('/').split('?').next().unwrap_or_default().to_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = match method {
        "PUT" => {
            let mut body = vec![0; length.unwrap_or_default()];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            objects.lock().unwrap().entry(name).or_default().push(body);
            Some(Vec::new())
        }
        _ => objects.lock().unwrap().get(&name).and_then(|versions| versions.last().cloned()),
    };
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(&body);
}

/// A machine that is a directory.
struct Machine {
    room: tempfile::TempDir,
    server: Server,
    request: BuildRequest,
    start: String,
    child: Option<Child>,
}

fn command(name: &str, run: &str, bash: bool) -> Provision {
    Provision { name: name.to_owned(), run: run.to_owned(), bash }
}

impl Machine {
    fn new(provision: Vec<Provision>) -> Self {
        let room = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = room.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("contents/storefront", "the shop");
        write("contents/deploy/kept", "of the app");
        write("given/deploy/setup.sh", "echo set up; pwd");
        write("given/deploy/deep/er/file", "x");
        for there in [
            "etc/ssh/ssh_host_ed25519_key",
            "etc/windlass/storefront.env",
            "etc/machine-id",
            "root/.bash_history",
            "home/admin/.bash_history",
            "tmp/left",
            "var/tmp/.left",
            "opt/storefront/of-the-parent",
            "var/lib/cloud/instances/i-1/user-data.txt",
        ] {
            write(&format!("root/{there}"), "old");
        }
        std::fs::create_dir_all(room.path().join("root/usr/bin")).unwrap();
        let stand_in = room.path().join("root/usr/bin/shutdown");
        std::fs::write(&stand_in, "#!/bin/sh\necho shutdown \"$@\"\n").unwrap();
        std::fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let service: PipelineName = "storefront".parse().unwrap();
        let request = BuildRequest {
            key: "k".parse().unwrap(),
            parent: Parent::Empty,
            contents: vec![room.path().join("contents")],
            files: vec![("deploy".to_owned(), room.path().join("given/deploy"))],
            provision,
            env: [("GREETING".to_owned(), "it's $HOME\nand `more`".to_owned())].into(),
            tags: Tags {
                service: service.clone(),
                run: crate::ids::RunId::new(service, 1),
                stage: "bake".to_owned(),
                key: "k".parse().unwrap(),
            },
        };
        let start = "exec ./storefront \"$PORT\" 100%".to_owned();
        Self { room, server: Server::start(), request, start, child: None }
    }

    fn root(&self) -> PathBuf {
        self.room.path().join("root")
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }

    fn bootstrap(&self) -> String {
        let load = Load::pack(&self.request).unwrap();
        let archive = |packed: &crate::cloud::aws::pack::Packed| {
            self.server.put(packed.digest.as_str(), std::fs::read(packed.file.path()).unwrap())
        };
        let files = Files {
            archive: load.files.as_ref().map(archive),
            files: load.only_files.clone(),
            directories: load.only_directories.clone(),
        };
        Bootstrap {
            service: &self.request.tags.service,
            build: "first-1",
            contents: &load.contents.iter().map(archive).collect::<Vec<_>>(),
            files: &files,
            provision: &self.request.provision,
            env: &self.request.env,
            start: &self.start,
            log: &self.server.url("log"),
            verdict: &self.server.url("verdict"),
            beat: Some(Duration::from_millis(50)),
            dead_after: Duration::from_secs(61),
        }
        .text()
    }

    /// Runs its user data, as a machine does that starts.
    fn boot(&mut self) {
        let url = self.server.put("bootstrap", self.bootstrap().into_bytes());
        let script = self.room.path().join("user-data");
        std::fs::write(&script, user_data(Some(&url), Duration::from_secs(61)).unwrap()).unwrap();
        let child = Command::new("/bin/sh")
            .arg(script)
            .env("WINDLASS_ROOT", self.root())
            .env("SECRET_OF_THE_HOST", "seen")
            .current_dir(self.room.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn();
        self.child = Some(child.unwrap());
    }

    fn ends(&mut self) -> bool {
        self.child.take().unwrap().wait().unwrap().success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let group = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = child.wait();
        }
    }
}

#[test]
fn an_image_is_provisioned_while_its_log_is_read_and_left_clean() {
    let mut machine = Machine::new(vec![
        command(
            "It's the first",
            "sh deploy/setup.sh\necho \"$GREETING\"\necho \"home $HOME\"\necho \"host ${SECRET_OF_THE_HOST:-unseen}\"\n\
             echo \"root ${WINDLASS_ROOT:-unset}\"\nuntil [ -e go-on ]; do sleep 0.02; done",
            false,
        ),
        command("Bash", "words=(a b)\necho \"${words[1]}\" | cat >made\nrm go-on", true),
    ]);
    machine.boot();
    let log = machine.server.until("log", "root unset");
    assert!(log.contains("command 1 of 2: It's the first"), "{log}");
    let app = machine.root().join("opt/storefront");
    assert!(log.contains(&format!("set up\n{}\n", app.display())), "{log}");
    assert!(log.contains("it's $HOME\nand `more`\n"), "{log}");
    assert!(log.contains(&format!("home {}", machine.root().display())), "{log}");
    assert!(log.contains("host unseen"), "{log}");
    assert!(log.contains("shutdown -P +2"), "the machine ends itself some day: {log}");
    assert_eq!(machine.server.get("verdict"), None, "it has not ended yet");
    assert!(machine.has("opt/storefront/deploy/setup.sh") && !machine.has("opt/storefront/of-the-parent"));

    std::fs::write(app.join("go-on"), "").unwrap();
    assert!(machine.ends());
    assert_eq!(machine.server.get("verdict").unwrap(), r#"{"schema":1,"verdict":"ok"}"#);
    let log = machine.server.get("log").unwrap();
    assert!(log.ends_with("windlass: provisioned\n"), "the last log is the whole: {log}");
    assert_eq!(machine.read("opt/storefront/storefront"), "the shop");
    assert_eq!(machine.read("opt/storefront/made"), "b\n");
    assert_eq!(machine.read("opt/storefront/deploy/kept"), "of the app");
    for gone in [
        "opt/storefront/deploy/setup.sh",
        "opt/storefront/deploy/deep",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/windlass/storefront.env",
        "root/.bash_history",
        "home/admin/.bash_history",
        "tmp/left",
        "var/tmp/.left",
        "var/lib/cloud/instances/i-1/user-data.txt",
        "var/lib/windlass-bake",
        "var/lib/windlass-bootstrap",
    ] {
        assert!(!machine.has(gone), "{gone} is still there");
    }
    assert_eq!(machine.read("etc/machine-id"), "");
    let unit = machine.read("etc/systemd/system/storefront.service");
    assert!(unit.contains("ExecStart=/bin/sh -c \"exec ./storefront \\\"$$PORT\\\" 100%%\"\n"), "{unit}");
    assert!(unit.contains("ConditionPathExists=/etc/windlass/storefront.env\n"), "{unit}");
    let enabled = machine.root().join("etc/systemd/system/multi-user.target.wants/storefront.service");
    assert_eq!(std::fs::read_link(enabled).unwrap(), Path::new("/etc/systemd/system/storefront.service"));
    assert!(!contains(&machine.root(), &machine.server.address), "no address is left");

    // The same again, as when the machine starts once more: it is not done twice.
    std::fs::remove_file(app.join("made")).unwrap();
    machine.boot();
    assert!(machine.ends());
    assert!(!machine.has("opt/storefront/made"));
}

/// Whether a file below has the text.
fn contains(directory: &Path, text: &str) -> bool {
    walkdir::WalkDir::new(directory).into_iter().flatten().any(|found| {
        found.file_type().is_file()
            && String::from_utf8_lossy(&std::fs::read(found.path()).unwrap()).contains(text)
    })
}

#[test]
fn a_command_that_fails_is_the_last_and_says_its_code() {
    let mut machine = Machine::new(vec![
        command("First", "echo one", false),
        command("Second", "echo cannot find the shop >&2\nfalse | true\nexit 7", true),
        command("Third", "touch third", false),
    ]);
    machine.boot();
    assert!(!machine.ends());
    let verdict = machine.server.get("verdict").unwrap();
    let expected = r#"{"schema":1,"verdict":"failed","phase":"provision","command":2,"exit_code":1}"#;
    assert_eq!(verdict, expected, "bash stops at the pipe that failed");
    assert!(machine.server.get("log").unwrap().contains("cannot find the shop"));
    assert!(!machine.has("opt/storefront/third"));
}

#[test]
fn what_cannot_be_unpacked_is_no_fault_of_the_commands() {
    let mut machine = Machine::new(Vec::new());
    let bootstrap = machine.bootstrap();
    for versions in machine.server.objects.lock().unwrap().values_mut() {
        versions.push(b"no archive".to_vec());
    }
    let script = machine.room.path().join("bootstrap");
    std::fs::write(&script, bootstrap).unwrap();
    let child = Command::new("/bin/sh")
        .arg(script)
        .env("WINDLASS_ROOT", machine.root())
        .current_dir(machine.room.path())
        .process_group(0)
        .spawn();
    machine.child = Some(child.unwrap());
    assert!(!machine.ends());
    let verdict = machine.server.get("verdict").unwrap();
    assert!(verdict.contains(r#""phase":"contents","command":null,"exit_code":2"#), "{verdict}");
}

#[test]
fn a_command_that_hangs_has_its_log_and_no_verdict() {
    let mut machine = Machine::new(vec![command("Hang", "echo waits; exec sleep 600", false)]);
    machine.boot();
    machine.server.until("log", "waits");
    assert_eq!(machine.server.get("verdict"), None);
    assert!(machine.child.as_mut().unwrap().try_wait().unwrap().is_none());
}

#[test]
fn whatever_an_author_writes_the_scripts_are_scripts() {
    let nasty = "echo '$(x)' \"`y`\" <<'END' \\\nEND\n#@commands\n\\";
    let mut machine = Machine::new(vec![command(nasty, nasty, true), command("", "", false)]);
    machine.start = nasty.to_owned();
    machine.request.env.insert("NASTY".to_owned(), nasty.to_owned());
    for script in [machine.bootstrap(), user_data(None, PATIENCE).unwrap(), fetch("http://x/'y'")] {
        let path = machine.room.path().join("script");
        std::fs::write(&path, &script).unwrap();
        assert!(Command::new("/bin/sh").arg("-n").arg(&path).status().unwrap().success(), "{script}");
    }
    let long = "x".repeat(USER_DATA_LIMIT);
    assert!(user_data(Some(&long), PATIENCE).is_err());
}

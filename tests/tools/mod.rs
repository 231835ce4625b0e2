//! What tests over HTTP share: a server of their own, and the tools that `.ci/tools` installs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass");

/// Where a tool is, which is installed unless it is there. `.ci/tools` says what there is.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools");
    let asked = Command::new(&script).arg(name).stderr(Stdio::inherit()).output().unwrap();
    assert!(asked.status.success(), "{} {name} failed; run .ci/test, which installs it", script.display());
    PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim())
}

/// `windlass serve` on a free port, with a directory of its own. Ended when it is dropped.
pub struct Server {
    pub directory: tempfile::TempDir,
    /// `HOST:PORT`
    pub address: String,
    child: Child,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Server {
    /// Starts it with this settings file, and returns when it is ready.
    #[track_caller]
    pub fn start(settings: &str, env: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("windlass.yaml");
        std::fs::write(&file, settings).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data")
            .arg(directory.path().join("data"))
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.filter_map(|line| Some(line.rsplit_once(" at http://")?.1.to_owned())).next();
        let mut server = Self { directory, address: String::new(), child };
        server.address = address.unwrap_or_else(|| panic!("it does not serve:\n{}", server.log()));
        while server.get("/readyz").status != 200 {
            server.is_alive();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        server
    }

    /// What it wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Sees that it neither ended nor panicked.
    #[track_caller]
    pub fn is_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let log = self.log();
        assert!(ended.is_none() && !log.contains("panicked"), "{ended:?}\n{log}");
    }

    /// Runs a command of the program on the same data.
    #[track_caller]
    pub fn windlass(&self, words: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .env("WINDLASS_DATA", self.directory.path().join("data"))
            .env_remove("WINDLASS_SERVER");
        let said = command.current_dir(self.directory.path()).output().unwrap();
        assert!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: body.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

//! The world of one story: a directory, a repository, ports, and the program.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{Ended, Foreground, PATIENCE, PROGRAM, Process, Repository, Signal, data, kill, signal, until};

/// Everything of one story. Whatever is left when it is dropped is killed.
pub struct World {
    /// Also the mark by which its processes are known.
    pub directory: PathBuf,
    pub data: PathBuf,
    pub repository: Repository,
    pub pipeline: PathBuf,
    pub settings: PathBuf,
    pub staging: u16,
    pub production: u16,
    /// What its commands find in their environment besides.
    pub env: Vec<(&'static str, String)>,
    _removed_at_the_end: tempfile::TempDir,
}

impl World {
    /// With a service as it lies below `tests/data/services`.
    pub fn of(service: &str) -> Self {
        Self::with(&[data("services").join(service)])
    }

    /// With the C service, and steps and instances that can be held and that keep a ledger.
    pub fn new() -> Self {
        Self::with(&[data("services/c"), data("stories")])
    }

    fn with(templates: &[PathBuf]) -> Self {
        let temporary = tempfile::Builder::new().prefix("windlass-story-").tempdir().unwrap();
        let directory = temporary.path().canonicalize().unwrap();
        let repository = Repository::new(directory.join("source"));
        for template in templates {
            repository.copy(template);
        }
        let world = Self {
            data: directory.join("data"),
            pipeline: directory.join("pipeline.yaml"),
            settings: directory.join("windlass.yaml"),
            staging: free_port(),
            production: free_port(),
            env: Vec::new(),
            repository,
            directory,
            _removed_at_the_end: temporary,
        };
        for file in [&world.pipeline, &world.settings] {
            fs::rename(world.repository.path.join(file.file_name().unwrap()), file).unwrap();
        }
        edit(&world.settings, "STAGING_PORT", &world.staging.to_string());
        edit(&world.settings, "PRODUCTION_PORT", &world.production.to_string());
        let text = fs::read_to_string(&world.settings).unwrap();
        let text = text.replace("STORY_DIRECTORY", &world.directory.display().to_string());
        fs::write(&world.settings, text).unwrap();
        world.repository.commit("Open the shop");
        world
    }

    /// Commits another version of the C service.
    pub fn version(&self, number: u32) -> String {
        let text = format!("#define VERSION \"{number}\"\n#define HEALTH 200\n");
        self.repository.write("src/version.h", &text);
        self.repository.commit(&format!("Greet as version {number}"))
    }

    /// Commits a version that says of itself that it is not well.
    pub fn sick_version(&self, number: u32) -> String {
        let text = format!("#define VERSION \"{number}\"\n#define HEALTH 503\n");
        self.repository.write("src/version.h", &text);
        self.repository.commit(&format!("Greet as version {number}, on an empty stomach"))
    }

    // -- the program

    /// A command of the program, on this data directory.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).current_dir(&self.directory).env("WINDLASS_DATA", &self.data);
        command.env("STORY", &self.directory).env_remove("WINDLASS_LOG").env_remove("WINDLASS_SERVER");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a command.
    pub fn start(&self, words: &[&str]) -> Foreground {
        Foreground::start(&mut self.command(words), PATIENCE)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn windlass(&self, words: &[&str]) -> Ended {
        self.start(words).ended()
    }

    /// Starts `windlass run` for the last commit.
    pub fn run(&self, more: &[&str]) -> Foreground {
        let (pipeline, settings) = (self.pipeline.to_str().unwrap(), self.settings.to_str().unwrap());
        let words = ["run", pipeline, "--source", "source", "--config", settings];
        self.start(&[&words, more].concat())
    }

    /// Takes the last commit all the way, and answers how its run looks then.
    #[track_caller]
    pub fn ship(&self) -> Value {
        self.run(&["--promote", "all", "--json"]).ended().with(0).json()
    }

    /// Starts `windlass serve` with more words, and waits until it serves.
    #[track_caller]
    pub fn serve(&self, more: &[&str]) -> Foreground {
        let words = ["serve", "--listen", "127.0.0.1:0"];
        let serve = self.start(&[&words, more].concat());
        serve.says("windlass serves");
        serve
    }

    /// Waits until so many instances take traffic, and no others are there; answers their ids.
    #[track_caller]
    pub fn until_whole(&self, environment: &str, size: usize) -> Vec<String> {
        until("the fleet is whole", || {
            let fleet = self.fleet(environment);
            let instances = fleet["instances"].as_array()?;
            let healthy = instances.iter().all(|instance| instance["health"] == "healthy");
            (healthy && instances.len() == size).then(|| {
                instances.iter().filter_map(|instance| Some(instance["id"].as_str()?.to_owned())).collect()
            })
        })
    }

    /// The first process of an instance.
    #[track_caller]
    pub fn process_of(&self, id: &str) -> Process {
        let home = format!("{}/instances/{id}/home", self.data.display());
        let found = self.processes().into_iter().find(|process| process.carries("HOME", &home));
        found.unwrap_or_else(|| panic!("{id} has no process"))
    }

    pub fn resume(&self, run: &str) -> Foreground {
        self.start(&["resume", run])
    }

    #[track_caller]
    pub fn show(&self, run: &str) -> Value {
        self.windlass(&["show", run, "--json"]).with(0).json()
    }

    #[track_caller]
    pub fn runs(&self) -> Vec<Value> {
        let list = self.windlass(&["runs", "--json"]).with(0).json();
        list["runs"].as_array().unwrap().clone()
    }

    /// A fleet as `status` shows it.
    #[track_caller]
    pub fn fleet(&self, environment: &str) -> Value {
        let fleets = self.windlass(&["status", "--json"]).with(0).json();
        let all = fleets["fleets"].as_array().unwrap();
        let found = all.iter().find(|fleet| fleet["environment"] == environment);
        found.unwrap_or(&Value::Null).clone()
    }

    /// Waits until the run looks like that, and answers how it looks.
    #[track_caller]
    pub fn until(&self, run: &str, what: &str, looks: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let asked = self.windlass(&["show", run, "--json"]);
            // There is no run before its command has made it.
            (asked.code == Some(0)).then(|| asked.json()).filter(|view| looks(view))
        })
    }

    // -- what is held, and what is written down

    /// Holds a step or instances of that name, from the next one that starts.
    pub fn hold(&self, name: &str) {
        fs::write(self.directory.join(format!("hold-{name}")), "").unwrap();
    }

    pub fn release(&self, name: &str) {
        fs::remove_file(self.directory.join(format!("hold-{name}"))).unwrap();
    }

    /// What steps and instances wrote down so far, in the order of time.
    pub fn ledger(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("ledger")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often the ledger has this line.
    pub fn count(&self, line: &str) -> usize {
        self.ledger().iter().filter(|there| *there == line).count()
    }

    /// Waits until the ledger has a line with this text.
    #[track_caller]
    pub fn until_written(&self, text: &str) {
        until(text, || self.ledger().iter().any(|line| line.contains(text)).then_some(()));
    }

    // -- processes

    pub fn processes(&self) -> Vec<Process> {
        Process::of(&self.directory)
    }

    /// The one process that is `windlass COMMAND`.
    #[track_caller]
    pub fn the(&self, command: &str) -> Process {
        let mut found: Vec<Process> =
            self.processes().into_iter().filter(|process| process.is_windlass(command)).collect();
        assert_eq!(found.len(), 1, "{command}: {found:?}");
        found.remove(0)
    }

    /// The ids of the instances that have a living process.
    pub fn living(&self, environment: &str) -> Vec<String> {
        let prefix = format!("{}/instances/", self.data.display());
        let mut ids: Vec<String> = fs::read_dir(&prefix)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|id| id.starts_with(&format!("shop-{environment}-")))
            .collect();
        let processes = self.processes();
        ids.retain(|id| {
            processes.iter().any(|process| process.carries("HOME", &format!("{prefix}{id}/home")))
        });
        ids.sort();
        ids
    }

    /// Sees that the fleet is whole: as many instances as it should have, all healthy, all of this
    /// image, each with a process, and no process of an instance besides.
    #[track_caller]
    pub fn is_whole(&self, environment: &str, image: &str, size: usize) -> Vec<String> {
        let fleet = self.fleet(environment);
        assert_eq!(fleet["image"], image, "{fleet:#}");
        assert_eq!((&fleet["held_by"], &fleet["rollout"]), (&Value::Null, &Value::Null), "{fleet:#}");
        let instances = fleet["instances"].as_array().unwrap();
        assert_eq!((instances.len(), fleet["healthy"].as_u64()), (size, Some(size as u64)), "{fleet:#}");
        assert!(instances.iter().all(|instance| instance["image"] == image), "{fleet:#}");
        let mut listed: Vec<String> =
            instances.iter().map(|instance| instance["id"].as_str().unwrap().to_owned()).collect();
        listed.sort();
        assert_eq!(self.living(environment), listed);
        listed
    }

    // -- the end

    /// The ordinary end of a story: takes the fleets down, and sees that nothing is left of it.
    #[track_caller]
    pub fn end(self) {
        for environment in ["staging", "production"] {
            if !self.fleet(environment).is_null() {
                self.windlass(&["down", "shop", environment]).with(0);
            }
        }
        // Whatever happened to it, what it has kept is sound. A clock that was wrong is no error.
        if self.data.join("windlass.db").exists() {
            let found = self.windlass(&["check-data", "--json"]).json();
            let errors = found["findings"].as_array().unwrap().iter();
            let errors: Vec<_> = errors.filter(|found| found["severity"] == "error").collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
        self.leave();
    }

    /// The same for a world whose data were damaged on purpose and whose fleets are gone.
    #[track_caller]
    #[allow(dead_code, reason = "each of the programs that share this file uses what it needs")]
    pub fn leave(self) {
        // What keeps house stays a while for whoever comes next; nobody does.
        let left = self.processes();
        for process in &left {
            let known = ["guard", "runner", "balancer"].iter().any(|name| process.is_windlass(name));
            assert!(known, "left behind: {process:?}");
            signal(process.pid, Signal::TERM);
        }
        self.is_empty();
    }

    /// Waits until nothing is left: no process, no port.
    #[track_caller]
    pub fn is_empty(&self) {
        until("the last process ends", || self.processes().is_empty().then_some(()));
        for port in [self.staging, self.production] {
            let closed = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
            assert_eq!(closed.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Again and again, as what is killed may just have started something.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|process| kill(process.pid));
            std::thread::sleep(super::BEAT);
        }
    }
}

/// Replaces a piece of a file, which has to be there.
#[track_caller]
pub fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{} has no {old:?}", path.display());
    fs::write(path, text.replace(old, new)).unwrap();
}

/// A port nobody listens on, below those that the kernel gives to outgoing connections. Other stories
/// in this and in other processes look elsewhere.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id().wrapping_mul(61) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(19_000 + place % 1_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

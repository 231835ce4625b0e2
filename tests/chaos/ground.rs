//! Where it happens: a world with a server that takes webhooks in, and everybody who has to do with it.

use std::fs;
use std::thread::JoinHandle;

use serde_json::Value;

use crate::checks::only_known_files;
use crate::dice::Dice;
use crate::support::{Foreground, Process, Signal, World, edit, free_port, hooks, kill, signal, text, until};

/// How many lines each step says.
pub const LINES: u32 = 8;

/// The policy under which a stage is tried again where runners die.
pub const RETRY: &str = "retry: { attempts: 3, on: [infrastructure] }";

/// No more runs than this are under way at one time.
const AT_ONCE: usize = 3;

/// Besides what the shop has: where counting ships to, and who may send webhooks.
const HARBOUR: &str = "\
environments:
  harbour:
    group: production
    promotion: manual
    fleets: { counting: { cloud: local, size: 1, port: PORT, health: { path: / } } }
";
const GITHUB: &str = "\
github:
  webhook_secrets: [{ file: secret }]
  repositories: { acme/shop: { url: source } }
";

pub struct Ground {
    pub world: World,
    pub dice: Dice,
    pub server: Option<Server>,
    pub sent: Vec<Sent>,
    pub kills: u64,
    words: Vec<String>,
}

/// A server, and where it answers.
pub struct Server {
    pub process: Foreground,
    pub address: String,
}

/// A delivery that GitHub tried to hand over, at least once.
#[derive(Debug, Clone)]
pub struct Sent {
    pub id: String,
    pub commit: String,
    /// The server said that it has it.
    pub acknowledged: bool,
}

impl Ground {
    /// `what` is printed beside the seed; `retry` is a line for each stage.
    pub fn new(what: &str, retry: &str) -> Self {
        Self::seeded(what, retry, 0)
    }

    /// With the seed that comes so many after the one that is given.
    pub fn seeded(what: &str, retry: &str, after: u64) -> Self {
        let dice = Dice::new(what, after);
        let world = World::new();
        let pipelines = world.directory.join("pipelines");
        fs::create_dir_all(&pipelines).unwrap();
        fs::write(pipelines.join("counting.yaml"), include_str!("counting.yaml").replace("RETRY", retry))
            .unwrap();
        fs::write(world.directory.join("secret"), hooks::SECRET).unwrap();
        let harbour = HARBOUR.replace("PORT", &free_port().to_string());
        edit(&world.settings, "environments:\n", &format!("{GITHUB}{harbour}"));
        edit(&world.settings, "slots: 2", "slots: 4");
        let tally = include_str!("tally").replace("LINES", &LINES.to_string());
        world.repository.write_program("tally", &tally);
        world.repository.commit("Count");
        let words =
            ["serve", "--config", "windlass.yaml", "--pipelines", "pipelines", "--listen", "127.0.0.1:0"];
        let words = words.map(str::to_owned).into();
        Self { world, dice, server: None, sent: Vec::new(), kills: 0, words }
    }

    /// A program that each step of the next commits starts beside its work.
    pub fn stray(&self, text: &str) {
        self.world.repository.write_program("stray", text);
        fs::write(self.world.directory.join("stray"), "").unwrap();
        self.world.repository.commit("Leave things behind");
    }

    // -- the server

    /// Starts a server that may not get as far as serving.
    pub fn start(&self) -> Foreground {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        self.world.start(&words)
    }

    /// Starts the server, unless it is there, and waits until it serves.
    #[track_caller]
    pub fn serve(&mut self) {
        if self.server.is_none() {
            self.server = Some(Server::serves(self.start()));
        }
    }

    #[track_caller]
    pub fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            self.kills += 1;
            server.process.kill();
        }
    }

    /// Ends the server as an administrator does, and the runner, which would stay a while.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.process.signal(Signal::TERM);
            server.process.ended().with(0);
        }
        for process in self.world.processes() {
            let known = ["guard", "runner", "balancer"].iter().any(|name| process.is_windlass(name));
            assert!(known, "left behind: {process:?}");
            signal(process.pid, Signal::TERM);
        }
        until("the last process ends", || self.world.processes().is_empty().then_some(()));
    }

    /// Kills the processes that are `windlass NAME` at this moment; answers how many there were.
    pub fn kill(&mut self, name: &str) -> usize {
        let mut there = self.world.processes();
        there.retain(|process| process.is_windlass(name));
        there.iter().for_each(|process| kill(process.pid));
        self.kills += u64::from(!there.is_empty());
        there.len()
    }

    /// The processes of steps, and whatever they left behind on purpose.
    pub fn of_steps(&self) -> Vec<Process> {
        let mut there = self.world.processes();
        let stray = self.world.directory.join("stray-").display().to_string();
        there.retain(|process| {
            process.words.iter().any(|word| word.starts_with(&stray) || word.starts_with("./tally"))
        });
        there
    }

    /// The end of it all: fleets are taken down as a person does that, and nothing is left but what belongs
    /// into a data directory.
    #[track_caller]
    pub fn leave(mut self) {
        self.serve();
        for environment in ["staging", "production"] {
            if !self.world.fleet(environment).is_null() {
                self.world.windlass(&["down", "shop", environment]).with(0);
            }
        }
        self.stop();
        only_known_files(&self.world.data);
        self.world.end();
    }

    // -- what people and GitHub do

    /// Something that somebody does while the server is there, or is not.
    pub fn act(&mut self) {
        match self.dice.below(10) {
            0..4 => self.send(),
            4..6 => self.send_again(),
            6..9 => self.promote(),
            _ => self.dice.pause(300),
        }
    }

    /// A new push is delivered, unless enough is under way.
    pub fn send(&mut self) {
        if let Some(push) = self.push() {
            push.join();
            self.learn();
        }
    }

    /// Begins to deliver a new push; see [`Ground::learn`] for what comes of it.
    pub fn push(&mut self) -> Option<Delivering> {
        if self.unfinished() >= AT_ONCE {
            return None;
        }
        let number = self.sent.len() + 1;
        let commit = self.world.repository.commit(&format!("Count to {number}"));
        let id = format!("{number:08}-cc78-11e3-81ab-4c9367dc0958");
        self.sent.push(Sent { id, commit, acknowledged: false });
        Some(self.deliver(number - 1))
    }

    fn deliver(&self, which: usize) -> Delivering {
        let sent = self.sent[which].clone();
        let address = self.server.as_ref().map(|server| server.address.clone());
        let note = self.world.directory.join(format!("acknowledged-{which}"));
        Delivering(std::thread::spawn(move || {
            let answer =
                address.map(|address| hooks::deliver(&address, &sent.id, &hooks::push(&sent.commit)));
            if let Some(Ok((202, _))) = answer {
                fs::write(note, "").unwrap();
            }
        }))
    }

    /// Takes in which deliveries were acknowledged.
    pub fn learn(&mut self) {
        for (which, sent) in self.sent.iter_mut().enumerate() {
            sent.acknowledged |= self.world.directory.join(format!("acknowledged-{which}")).exists();
        }
    }

    /// One that was delivered, or was not, comes again.
    pub fn send_again(&mut self) {
        let all: Vec<usize> = (0..self.sent.len()).collect();
        if let Some(which) = self.dice.one_of(&all) {
            self.deliver(*which).join();
            self.learn();
        }
    }

    /// Somebody promotes what waits at the gate, as far as the server is there to take it.
    pub fn promote(&mut self) {
        for run in self.runs() {
            if run["status"] == "waiting" {
                let environment = if is_counted(&run) { "harbour" } else { "production" };
                self.world.windlass(&["promote", text(&run["run"]), environment, "--as", "octocat"]);
            }
        }
    }

    // -- what there is

    /// All runs, also while nobody serves.
    pub fn runs(&self) -> Vec<Value> {
        self.list("runs")
    }

    pub fn deliveries(&self) -> Vec<Value> {
        self.list("deliveries")
    }

    /// Empty where it cannot be said just now.
    fn list(&self, what: &str) -> Vec<Value> {
        let said = self.world.windlass(&[what, "--json", "--limit", "1000"]);
        match said.code {
            Some(0) => said.json()[what].as_array().unwrap().clone(),
            _ => Vec::new(),
        }
    }

    fn unfinished(&self) -> usize {
        let ended = ["succeeded", "failed", "cancelled", "superseded"];
        self.runs().iter().filter(|run| !ended.contains(&text(&run["status"]))).count()
    }

    /// Waits until everything that came in was handled, and every run has ended. Nobody helps, but for
    /// somebody who promotes.
    #[track_caller]
    pub fn settle(&mut self) {
        self.serve();
        until("everything ends by itself", || {
            self.promote();
            let settled = self.deliveries().iter().all(|delivery| delivery["status"] != "pending");
            (settled && self.unfinished() == 0).then_some(())
        });
    }
}

/// Whether it is a run of the pipeline that counts, and none of the shop's.
pub fn is_counted(run: &Value) -> bool {
    text(&run["run"]).starts_with("counting/")
}

impl Server {
    /// Waits until it serves.
    #[track_caller]
    pub fn serves(process: Foreground) -> Self {
        let line = process.says("windlass serves");
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        Self { process, address }
    }
}

/// A delivery on its way.
pub struct Delivering(JoinHandle<()>);

impl Delivering {
    pub fn join(self) {
        self.0.join().unwrap();
    }
}

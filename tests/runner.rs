//! Stories about the runner: a real process, real shells, real kills.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal};
use windlass::ids::{AttemptId, StepId};
use windlass::log;
use windlass::pipeline::model::Shell;
use windlass::runner::{Client, Error, Exit, ExitStatus, Runner, StartStep};

#[path = "runner/ending.rs"]
mod ending;

const GRACE: Duration = Duration::from_millis(300);

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data directory with what runs in it. Everything started here has `WORLD` in its environment.
struct World {
    data: tempfile::TempDir,
    client: Client,
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let client = Client::new(data.path().to_owned(), env!("CARGO_BIN_EXE_windlass").into());
        Self { data, client }
    }

    fn path(&self) -> &Path {
        self.data.path()
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }

    fn another_client(&self) -> Client {
        Client::new(self.path().to_owned(), env!("CARGO_BIN_EXE_windlass").into())
    }

    fn step(&self, n: u32, run: &str) -> StartStep {
        let step = step(n);
        StartStep {
            log: log::path(self.path(), &step),
            step,
            born: Timestamp::UNIX_EPOCH,
            shell: Shell::Sh,
            run: run.to_owned(),
            directory: self.path().to_owned(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("WORLD".to_owned(), self.name()),
            ]),
            mask: vec!["hunter22".to_owned()],
        }
    }

    async fn run(&self, start: &StartStep) -> Exit {
        within(self.client.run(start)).await.unwrap()
    }

    /// Starts it and waits until its log has `text`. The task answers how it ended.
    async fn run_until(&self, start: StartStep, text: &str) -> tokio::task::JoinHandle<Result<Exit, Error>> {
        let client = self.client.clone();
        let log = start.log.clone();
        let running = tokio::spawn(async move { client.run(&start).await });
        says(&log, text).await;
        running
    }

    fn runners(&self) -> Vec<Pid> {
        let arguments = format!("runner\0--data\0{}\0", self.name());
        pids().filter(|pid| read(*pid, "cmdline").ends_with(&arguments)).collect()
    }

    fn runner(&self) -> Pid {
        let runners = self.runners();
        assert_eq!(runners.len(), 1, "{runners:?}");
        runners[0]
    }

    /// Processes of steps.
    fn left(&self) -> Vec<String> {
        let world = format!("WORLD={}\0", self.name());
        let mine = pids().filter(|pid| read(*pid, "environ").contains(&world));
        mine.map(|pid| read(pid, "cmdline").replace('\0', " ")).filter(|line| !line.is_empty()).collect()
    }

    /// The end of each story: nothing runs any more.
    async fn end(self) {
        assert_eq!(self.left(), [""; 0], "steps left these behind");
        for runner in self.runners() {
            let gone = watch(runner);
            rustix::process::kill_process(runner, Signal::TERM).unwrap();
            within(gone).await;
        }
        assert_eq!(self.left(), [""; 0]);
        assert_eq!(self.runners(), []);
    }
}

fn step(n: u32) -> StepId {
    let run = "storefront/42".parse().unwrap();
    StepId { attempt: AttemptId { run, stage: "test".parse().unwrap(), attempt: 1 }, step: n }
}

fn pids() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
}

fn read(pid: Pid, what: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default()).into_owned()
}

/// Waits until a process that is there now is gone.
fn watch(pid: Pid) -> impl Future<Output = ()> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    async move {
        let pidfd = windlass::wake::readable(pidfd).unwrap();
        drop(pidfd.readable().await.unwrap());
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits until the log has `text`.
async fn says(log: &Path, text: &str) {
    let mut said = String::new();
    let mut log = log::follow(log.to_owned(), 0, std::future::pending());
    while !said.contains(text) {
        said.push_str(&String::from_utf8_lossy(&within(log.next()).await.unwrap().unwrap()));
    }
}

fn code(code: i32) -> ExitStatus {
    ExitStatus::Code { code }
}

fn output(start: &StartStep) -> String {
    fs::read_to_string(&start.log).unwrap()
}

#[tokio::test]
async fn a_step_ends_as_its_process_does() {
    let world = World::new();
    let bash = |start| StartStep { shell: Shell::Bash, ..start };
    for (n, start, status) in [
        (1, world.step(1, ":"), code(0)),
        (2, world.step(2, "exit 3"), code(3)),
        (3, world.step(3, "false\nexit 0"), code(1)),
        (4, world.step(4, "kill -9 $$"), ExitStatus::Signal { signal: 9 }),
        (5, bash(world.step(5, "false | cat\nexit 0")), code(1)),
        (6, bash(world.step(6, "echo $nobody_set_this")), code(1)),
    ] {
        let exit = world.run(&start).await;
        assert_eq!(exit.status, status, "step {n}");
        assert!(exit.started_at <= exit.finished_at);
    }
    world.end().await;
}

#[tokio::test]
async fn a_step_that_cannot_start_says_why() {
    let world = World::new();
    let gone = StartStep { directory: world.path().join("gone"), ..world.step(1, ":") };
    let mut nul = world.step(2, ":");
    nul.env.insert("X".to_owned(), "a\0b".to_owned());
    let mut huge = world.step(3, ":");
    huge.env.insert("X".to_owned(), "x".repeat(200 * 1024));
    for (start, why) in [(gone, "its directory"), (nul, "NUL"), (huge, "its environment is larger")] {
        let exit = world.run(&start).await;
        let ExitStatus::NotStarted { message } = &exit.status else { panic!("{exit:?}") };
        assert!(message.contains(why), "{message}");
        assert_eq!(world.run(&start).await, exit, "asked again, it says the same");
    }
    let long = world.step(5, &format!("# {}", "x".repeat(5 * 1024 * 1024)));
    let refused = within(world.client.run(&long)).await;
    assert!(matches!(refused, Err(Error::Refused(why)) if why.contains("limit")));
    assert_eq!(world.run(&world.step(6, ":")).await.status, code(0));
    world.end().await;
}

#[tokio::test]
async fn output_keeps_its_order_and_every_byte() {
    let world = World::new();
    let both = world.step(1, "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf end");
    let exit = world.run(&both).await;
    assert_eq!(output(&both), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nend");
    assert_eq!(exit.log_bytes, output(&both).len() as u64);

    let binary = world.step(2, r"printf '\000\377\200'; head -c 300000 /dev/zero; printf x");
    world.run(&binary).await;
    let bytes = fs::read(&binary.log).unwrap();
    assert_eq!((bytes.len(), &bytes[..3], bytes[300_003]), (300_004, &b"\0\xff\x80"[..], b'x'));

    let quiet = world.step(3, ":");
    assert_eq!(world.run(&quiet).await.log_bytes, 0);
    assert!(!quiet.log.exists(), "no file for nothing");
    world.end().await;
}

#[tokio::test]
async fn a_secret_is_masked_also_when_it_comes_in_pieces() {
    let world = World::new();
    let start = world.step(
        1,
        "echo whole hunter22; mkfifo go; printf 'start hun'; read line <go; printf 'ter22 end '; printf hunter2",
    );
    let log = start.log.clone();
    let running = world.run_until(start, "start ").await;
    fs::write(world.path().join("go"), "\n").unwrap();
    within(running).await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(log).unwrap(), "whole ***\nstart *** end hunter2");
    world.end().await;
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_no_more() {
    let world = World::new();
    let mut start = world.step(1, r"tr '\000' '\n' </proc/$$/environ; pwd; cd /proc/$$/fd; echo fds *; cat");
    start.env.insert("ODD".to_owned(), "a=b c".to_owned());
    world.run(&start).await;
    let text = output(&start);
    let mut lines: Vec<&str> = text.lines().collect();
    // The last is the shell's own, which is listing them.
    assert_eq!(lines.pop(), Some("fds 0 1 2 3"), "nothing of the runner's is open in it");
    assert_eq!(lines.pop(), Some(world.name().as_str()), "it runs in its directory");
    lines.retain(|line| !line.starts_with("WINDLASS_STEP=storefront-42.test.1.1."));
    lines.sort_unstable();
    assert_eq!(lines, ["ODD=a=b c", "PATH=/usr/bin:/bin", &format!("WORLD={}", world.name())]);
    world.end().await;
}

#[tokio::test]
async fn the_runner_holds_nothing_of_the_environment_that_a_step_could_find() {
    let world = World::new();
    // Cargo sets it for the test, which is the client here.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let start = world.step(1, r"tr '\000' '\n' </proc/$PPID/environ");
    world.run(&start).await;
    let runners = output(&start);
    assert!(runners.lines().any(|line| line.starts_with("PATH=")), "{runners}");
    assert!(!runners.contains("CARGO_MANIFEST_DIR"), "{runners}");
    assert!(!read(world.runner(), "environ").contains("CARGO_MANIFEST_DIR"));
    world.end().await;
}

#[tokio::test]
async fn a_text_too_long_for_an_argument_runs_all_the_same() {
    let world = World::new();
    let start = world.step(1, &format!("# {}\necho done\nfalse\necho never", "x".repeat(300 * 1024)));
    assert_eq!(world.run(&start).await.status, code(1));
    assert_eq!(output(&start), "done\n");
    assert_eq!(fs::read_dir(world.path().join("runner/scripts")).unwrap().count(), 0);
    world.end().await;
}

/// Not a story: the client process that one of them kills.
#[tokio::test]
#[ignore = "run by the_client_is_killed"]
async fn as_client() {
    let data = PathBuf::from(std::env::var("AS_CLIENT").unwrap());
    let start: StartStep = serde_json::from_slice(&fs::read(data.join("start.json")).unwrap()).unwrap();
    let _ = Client::new(data, env!("CARGO_BIN_EXE_windlass").into()).run(&start).await;
}

#[tokio::test]
async fn the_client_is_killed_and_the_step_goes_on() {
    let world = World::new();
    let start = world.step(1, "mkfifo go; echo started; read line <go; echo went on; exit 7");
    fs::write(world.path().join("start.json"), serde_json::to_vec(&start).unwrap()).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_client", "--ignored"])
        .env("AS_CLIENT", world.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    says(&start.log, "started").await;
    child.kill().unwrap();
    child.wait().unwrap();

    let again = world.client.clone();
    let asked = start.clone();
    let again = tokio::spawn(async move { again.run(&asked).await });
    fs::write(world.path().join("go"), "\n").unwrap();
    assert_eq!(within(again).await.unwrap().unwrap().status, code(7));
    assert_eq!(output(&start), "started\nwent on\n", "it was started once");
    assert_eq!(within(world.another_client().wait(&start.step)).await.unwrap().status, code(7));
    world.end().await;
}

/// Starts children of every kind that could get away, and says when all are there.
const BROOD: &str = r#"
mkfifo ready; exec 3<>ready
child='echo out >&3; exec sleep 1000'
sh -c "$child" &
(trap '' TERM HUP INT; sh -c "$child") &
setsid sh -c "$child" &
(setsid sh -c "trap '' TERM; setsid sh -c '$child' & $child" &)
(exec >/dev/null 2>&1 </dev/null; exec env -i WORLD=$WORLD WINDLASS_STEP=$WINDLASS_STEP setsid sh -c "$child") &
for i in 1 2 3 4 5 6; do read line <&3; done
echo brood is out
"#;

#[tokio::test]
async fn the_runner_is_killed_and_its_steps_are_lost_and_gone() {
    let world = World::new();
    assert_eq!(world.run(&world.step(1, "exit 5")).await.status, code(5));
    let running = world.run_until(world.step(2, &format!("{BROOD}\nsleep 1000")), "brood is out").await;
    let gone = watch(world.runner());
    rustix::process::kill_process(world.runner(), Signal::KILL).unwrap();
    within(gone).await;

    let exit = within(running).await.unwrap().unwrap();
    assert!(matches!(&exit.status, ExitStatus::Lost { message } if message.contains("died")), "{exit:?}");
    assert!(exit.log_bytes > 0);
    assert_eq!(world.left(), [""; 0]);
    assert_eq!(within(world.client.wait(&step(1))).await.unwrap().status, code(5), "what ended is known");
    world.end().await;
}

#[tokio::test]
async fn a_step_that_ignores_every_signal_is_cancelled_in_time() {
    let world = World::new();
    let deaf = world.step(1, "trap '' TERM INT HUP; echo deaf; while :; do sleep 1; done");
    let running = world.run_until(deaf, "deaf").await;
    let begun = Instant::now();
    let exit = within(world.client.cancel(&step(1), GRACE)).await.unwrap();
    assert!((GRACE..GRACE + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(exit.status, ExitStatus::Cancelled);
    assert_eq!(within(running).await.unwrap().unwrap(), exit);
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_step_may_clean_up_within_the_grace() {
    let world = World::new();
    let tidy =
        world.step(1, "mkfifo go; trap 'echo tidy; exit 0' TERM; echo up; while :; do read line <>go; done");
    let log = tidy.log.clone();
    let _running = world.run_until(tidy, "up").await;
    let exit = within(world.client.cancel(&step(1), PATIENCE)).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Cancelled);
    assert_eq!(fs::read_to_string(log).unwrap(), "up\ntidy\n");
    world.end().await;
}

#[tokio::test]
async fn children_that_detached_themselves_are_ended_by_a_cancel() {
    let world = World::new();
    let _running = world.run_until(world.step(1, &format!("{BROOD}\nsleep 1000")), "brood is out").await;
    let exit = within(world.client.cancel(&step(1), GRACE)).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn what_a_step_leaves_in_the_background_ends_with_it() {
    let world = World::new();
    let begun = Instant::now();
    let exit = world.run(&world.step(1, &format!("{BROOD}\nexit 4"))).await;
    assert_eq!(exit.status, code(4));
    assert_eq!(world.left(), [""; 0]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let quiet = world.step(2, "sleep 1000 >/dev/null 2>&1 &");
    let begun = Instant::now();
    assert_eq!(world.run(&quiet).await.status, code(0));
    assert!(begun.elapsed() < Duration::from_secs(1), "nothing to wait for: {:?}", begun.elapsed());

    let unmarked =
        world.step(3, "(env -i WORLD=$WORLD setsid sh -c 'echo up; exec sleep 1000' &) | read line");
    assert_eq!(world.run(&unmarked).await.status, code(0));
    assert_eq!(world.left(), [""; 0], "what shows no mark ends when no step runs");

    let late = world.step(4, "(sleep 0.2; echo late) &");
    assert_eq!(world.run(&late).await.status, code(0));
    assert_eq!(output(&late), "late\n");
    world.end().await;
}

#[tokio::test]
async fn cancelling_what_is_not_there_or_is_over() {
    let world = World::new();
    let unknown = within(world.client.cancel(&step(1), GRACE)).await;
    assert!(matches!(unknown, Err(Error::Unknown(unknown)) if unknown == step(1)));
    assert!(matches!(within(world.client.wait(&step(1))).await, Err(Error::Unknown(_))));
    let exit = world.run(&world.step(1, "exit 2")).await;
    assert_eq!(within(world.client.cancel(&step(1), GRACE)).await.unwrap(), exit);
    world.end().await;
}

#[tokio::test]
async fn two_hundred_steps_at_once() {
    let world = World::new();
    let starts: Vec<StartStep> = (0..200)
        .map(|n| {
            world.step(
                n,
                &format!("mkfifo go.{n}; echo {n} >all; read line <go.{n}; echo {n}; exit {}", n % 7),
            )
        })
        .collect();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        world.path().join("all"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let all = world.path().join("all");
    let let_go = tokio::task::spawn_blocking({
        let data = world.path().to_owned();
        move || {
            // Opened for writing too, so that it has no end between two steps.
            let all = fs::OpenOptions::new().read(true).write(true).open(all).unwrap();
            let lines = std::io::BufRead::lines(std::io::BufReader::new(all));
            let ready: Vec<String> = lines.take(200).map(Result::unwrap).collect();
            for n in ready {
                fs::write(data.join(format!("go.{n}")), "\n").unwrap();
            }
        }
    });
    let exits = within(join_all(starts.iter().map(|start| world.client.run(start)))).await;
    for (n, (start, exit)) in starts.iter().zip(exits).enumerate() {
        assert_eq!(exit.unwrap().status, code(n as i32 % 7));
        assert_eq!(output(start), format!("{n}\n"));
    }
    within(let_go).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_run_that_got_the_number_of_another_starts_its_own_steps() {
    let world = World::new();
    let of_another = |start| StartStep { born: Timestamp::MAX, ..start };
    let old = world.step(1, "echo hi");
    assert_eq!(world.run(&old).await.status, code(0));
    let new = of_another(world.step(1, "exit 9"));
    assert_eq!(world.run(&new).await.status, code(9));
    assert!(!new.log.exists(), "the old log is gone");

    let running = world.run_until(world.step(2, "echo old; sleep 1000"), "old").await;
    let new = of_another(world.step(2, "echo new; exit 8"));
    assert_eq!(world.run(&new).await.status, code(8));
    assert_eq!(output(&new), "new\n");
    assert_eq!(within(running).await.unwrap().unwrap().status, ExitStatus::Cancelled);

    // The next runner knows which run it was.
    let gone = watch(world.runner());
    rustix::process::kill_process(world.runner(), Signal::KILL).unwrap();
    within(gone).await;
    assert_eq!(world.run(&of_another(world.step(2, "exit 1"))).await.status, code(8), "asked again");
    assert_eq!(world.run(&world.step(1, "exit 3")).await.status, code(3), "and not of the first");
    world.end().await;
}

#[tokio::test]
async fn many_clients_find_one_runner() {
    let world = World::new();
    let clients: Vec<Client> = (0..8).map(|_| world.another_client()).collect();
    let start = world.step(1, "echo once");
    let exits = within(join_all(clients.iter().map(|client| client.run(&start)))).await;
    assert!(exits.into_iter().all(|exit| exit.unwrap().status == code(0)));
    assert_eq!(output(&start), "once\n");
    world.runner();
    drop(clients);
    world.end().await;
}

#[tokio::test]
async fn it_ends_when_nobody_needs_it() {
    let world = World::new();
    // As whoever holds the data directory does.
    let holder = fs::File::create(world.path().join("lock")).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let client = world.another_client();
    within(client.run(&world.step(1, ":"))).await.unwrap();
    let mut gone = std::pin::pin!(watch(world.runner()));
    drop(client);
    // Longer than it stays when nobody needs it.
    let stays = tokio::time::timeout(Duration::from_millis(2600), &mut gone).await;
    assert!(stays.is_err(), "it left while the data directory was held");
    drop(holder);
    within(gone).await;
    assert_eq!(world.run(&world.step(2, "exit 1")).await.status, code(1), "and comes back");
    assert_eq!(within(world.client.wait(&step(1))).await.unwrap().status, code(0));
    world.end().await;
}

#[tokio::test]
async fn told_to_end_it_ends_its_steps_and_says_so() {
    let world = World::new();
    let running = world.run_until(world.step(1, "echo up; sleep 1000"), "up").await;
    let gone = watch(world.runner());
    rustix::process::kill_process(world.runner(), Signal::TERM).unwrap();
    let exit = within(running).await.unwrap().unwrap();
    assert!(matches!(&exit.status, ExitStatus::Lost { message } if message.contains("SIGTERM")), "{exit:?}");
    within(gone).await;
    assert_eq!(within(world.client.wait(&step(1))).await.unwrap(), exit, "the next one knows");
    world.end().await;
}

#[tokio::test]
async fn it_survives_clients_that_talk_nonsense() {
    use std::io::{BufRead, BufReader, Write};
    let world = World::new();
    let running = world.run_until(world.step(1, "mkfifo go; echo up; read line <go"), "up").await;
    let talk = |text: Vec<u8>| {
        let path = world.path().join("runner.sock");
        tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            // It may hang up in the middle of it.
            let _ = stream.write_all(&text);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            BufReader::new(stream).lines().map_while(Result::ok).last().unwrap_or_default()
        })
    };
    let hello = "{\"windlass_runner\":1}\n";
    for text in ["?\n", "\0\n", "{\"windlass_runner\":1}\n{\"id\":7,\"ask\":{\"fly\":1}}\n"] {
        let answer = within(talk(text.into())).await.unwrap();
        assert!(answer.contains("this is no message for a runner"), "{answer}");
    }
    within(talk(format!("{hello}{{\"id\":1,\"ask\":{{\"wai").into())).await.unwrap();
    within(talk(format!("{hello}{}", "x".repeat(9 << 20)).into())).await.unwrap();
    within(talk(Vec::new())).await.unwrap();
    fs::write(world.path().join("go"), "\n").unwrap();
    assert_eq!(within(running).await.unwrap().unwrap().status, code(0));
    world.end().await;
}

#[tokio::test]
async fn another_version_waits_until_the_old_one_has_ended_its_steps() {
    use std::io::{Read, Write};
    let world = World::new();
    let running = world.run_until(world.step(1, "mkfifo go; echo up; read line <go; exit 6"), "up").await;
    let gone = watch(world.runner());
    let mut newer = UnixStream::connect(world.path().join("runner.sock")).unwrap();
    newer.write_all(b"{\"windlass_runner\":2}\n").unwrap();
    let mut hello = [0; 22];
    newer.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"{\"windlass_runner\":1}\n");

    // Of the old version, but nothing new is started by a runner that is leaving.
    let client = world.client.clone();
    let start = world.step(2, "exit 9");
    let next = tokio::spawn(async move { client.run(&start).await });
    fs::write(world.path().join("go"), "\n").unwrap();
    assert_eq!(within(running).await.unwrap().unwrap().status, code(6));
    within(gone).await;
    assert_eq!(newer.read(&mut hello).unwrap(), 0, "it hung up");
    assert_eq!(within(next).await.unwrap().unwrap().status, code(9));
    assert_eq!(within(world.client.wait(&step(1))).await.unwrap().status, code(6));
    world.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_loses_the_step_and_nothing_else() {
    let world = World::new();
    let start = world.step(1, "echo one; while echo more; do sleep 0.01; done; sleep 1000");
    fs::create_dir_all(start.log.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &start.log).unwrap();
    let exit = world.run(&start).await;
    assert!(
        matches!(&exit.status, ExitStatus::Lost { message } if message.contains("disk is full")),
        "{exit:?}"
    );

    fs::write(world.path().join("file"), "").unwrap();
    let nowhere =
        StartStep { log: world.path().join("file/logs/01.log"), ..world.step(2, "echo x; sleep 1000") };
    let exit = world.run(&nowhere).await;
    assert!(
        matches!(&exit.status, ExitStatus::Lost { message } if message.contains("file/logs/01.log")),
        "{exit:?}"
    );
    assert_eq!(world.run(&world.step(3, ":")).await.status, code(0));
    world.end().await;
}

#[tokio::test]
async fn much_output_takes_little_memory() {
    let world = World::new();
    let start = StartStep { mask: Vec::new(), ..world.step(1, "head -c 200000000 /dev/zero") };
    assert_eq!(world.run(&start).await.log_bytes, 200_000_000);
    let status = read(world.runner(), "status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} kB");
    world.end().await;
}

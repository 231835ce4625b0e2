//! The pages as people use them: a real server, and chromium driven by `pages.mjs` beside this.
//!
//! Needs node, chromium and playwright-core, which `.ci/test` installs. Where one is missing the tests
//! fail and say so: what was not looked at is not taken for good.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../stories/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what stories are told with; these need a part of it")]
mod support;

use support::{Ended, Foreground, PATIENCE, Signal, World, is, until};

/// Where `.ci/test` installs what the tests need.
fn tools() -> PathBuf {
    let set = std::env::var_os("WINDLASS_TEST_TOOLS").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/windlass-tests");
    set.unwrap_or_else(home)
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|place| place.join("chromium"));
    let found = places.into_iter().find(|program| program.is_file());
    found.expect("there is no chromium: .ci/test installs it")
}

/// A server of a world, and a browser beside it.
struct Site<'a> {
    world: &'a World,
    server: Foreground,
    address: String,
}

impl<'a> Site<'a> {
    fn open(world: &'a World) -> Self {
        let settings = world.settings.to_str().unwrap();
        let server = world.start(&["serve", "--config", settings, "--listen", "127.0.0.1:0"]);
        let line = server.says("at http://");
        let address = line.split_once("at ").unwrap().1.trim().to_owned();
        Self { world, server, address }
    }

    /// Starts a scenario of `pages.mjs`.
    fn browser(&self, words: &[&str]) -> Foreground {
        let tools = tools();
        let playwright = tools.join("node_modules/playwright-core");
        assert!(playwright.is_dir(), "there is no {}: .ci/test installs it", playwright.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(words[0]).arg(&self.address).args(&words[1..]);
        command.env("WINDLASS_TEST_TOOLS", tools).env("WINDLASS_CHROMIUM", chromium());
        // By this its processes are known as this story's.
        command.env("STORY", &self.world.directory).env("TMPDIR", &self.world.directory);
        Foreground::start(&mut command, PATIENCE)
    }

    #[track_caller]
    fn does(&self, words: &[&str]) {
        self.browser(words).ended().with(0).says(&["done"]);
    }

    fn close(self) -> Ended {
        self.server.signal(Signal::TERM);
        self.server.ended()
    }
}

/// A run whose only step says something in colour, waits while it is held, says much more, and fails
/// unless it tastes right.
const HELLO: &str = r#"name: hello
params:
  flavour: { default: sour, description: How it tastes }
stages:
  talk:
    env: { FLAVOUR: "${{ params.flavour }}" }
    steps:
      - name: Talk
        run: |
          printf '\033[1;31mred\033[0m <b>bold</b>\n'
          while [ -e "$STORY/hold-talk" ]; do sleep 0.05; done
          seq 1 3000
          echo "that was all"
          test "$FLAVOUR" != sour
"#;

#[test]
fn a_log_is_followed_and_a_failed_stage_replayed_by_a_click() {
    let world = World::new();
    let hello = world.directory.join("hello.yaml");
    std::fs::write(&hello, HELLO).unwrap();
    let site = Site::open(&world);
    world.hold("talk");
    let run = world.start(&["run", hello.to_str().unwrap(), "--config", world.settings.to_str().unwrap()]);
    world.until("hello/1", "it talks", |run| is(run, "talk", "running"));
    let follows = site.browser(&["follow", "hello/1", "talk", "that was all"]);
    follows.says("ready");
    world.release("talk");
    follows.ended().with(0);
    run.ended().with(1);

    site.does(&["read", "hello/1", "talk", "<b>bold</b>"]);
    site.does(&["refused", "hello/1"]);
    // The same input fails again, another one does not.
    site.does(&["replay", "hello/1", "", "without"]);
    world.until("hello/1", "it fails again", |run| {
        run["status"] == "failed" && run["stages"][0]["attempts"] == 2
    });
    site.does(&["replay", "hello/1", "params.flavour=sweet"]);
    let good = world.until("hello/1", "it succeeds", |run| run["status"] == "succeeded");
    assert_eq!(good["replays"][1]["edits"][0], "params.flavour=sweet");
    assert_eq!(good["replays"][1]["actor"], "Ada");
    site.does(&["narrow", "/", "/runs", "/runs/hello/1", "/runs/hello/1/logs/talk"]);
    site.close().with(0);
    world.end();
}

#[test]
fn a_run_is_promoted_by_a_click_and_by_the_keyboard() {
    let world = World::new();
    let site = Site::open(&world);
    let at_gate = |run: &serde_json::Value| run["status"] == "waiting" && is(run, "production", "waiting");
    let first = world.run(&[]);
    world.until("shop/1", "it waits at the gate", at_gate);
    site.does(&["promote", "shop/1", "production"]);
    first.ended().with(0);

    world.version(2);
    let second = world.run(&[]);
    world.until("shop/2", "it waits at the gate", at_gate);
    site.does(&["narrow", "/", "/runs/shop/2", "/fleets/production/shop"]);
    site.does(&["keyboard", "shop/2", "production"]);
    second.ended().with(0);
    assert_eq!(world.show("shop/2")["gates"][0]["actor"], "Grace");
    site.close().with(0);
    until("the fleet runs it", || {
        (world.fleet("production")["version"] == world.show("shop/2")["version"]).then_some(())
    });
    world.end();
}

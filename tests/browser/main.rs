//! The pages as people use them: a real server, and chromium driven by `pages.mjs` beside this.
//!
//! What it needs `.ci/tools` installs. Where that cannot be done the tests fail and say so: what was not
//! looked at is not taken for good.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

#[path = "../stories/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what stories are told with; these need a part of it")]
mod support;
#[path = "../tools/mod.rs"]
#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
mod tools;

use support::{Ended, Foreground, PATIENCE, Signal, World, edit, is, until};
use tools::tool;

/// A server of a world, and a browser beside it.
struct Site<'a> {
    world: &'a World,
    server: Foreground,
    address: String,
}

impl<'a> Site<'a> {
    fn open(world: &'a World) -> Self {
        Self::with(world, world.settings.to_str().unwrap(), &[])
    }

    fn with(world: &'a World, settings: &str, more: &[&str]) -> Self {
        let words = ["serve", "--config", settings, "--listen", "127.0.0.1:0"];
        let server = world.start(&[&words, more].concat());
        let line = server.says("at http://");
        let address = line.split_once("at ").unwrap().1.trim().to_owned();
        Self { world, server, address }
    }

    /// Starts a scenario of `pages.mjs`.
    fn browser(&self, words: &[&str]) -> Foreground {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/pages.mjs");
        let mut command = Command::new(tool("node"));
        command.arg(script).arg(words[0]).arg(&self.address).args(&words[1..]);
        command.env("NODE_PACKAGES", tool("npm")).env("CHROMIUM", tool("chromium"));
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
    let at_gate = |run: &Value| run["status"] == "waiting" && is(run, "production", "waiting");
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

#[test]
fn a_fleet_is_locked_and_rolled_back_by_clicks_but_not_from_an_outdated_page() {
    let world = World::new();
    // Nothing has a request open that would have to be drained.
    edit(&world.settings, "drain: 5s", "drain: 100ms");
    world.ship();
    world.version(2);
    world.ship();
    let site = Site::open(&world);
    site.does(&["lock", "production", "shop"]);
    assert_eq!(world.fleet("production")["lock"], Value::Null);

    world.version(3);
    let third = world.run(&[]);
    world.until("shop/3", "it waits at the gate", |run| {
        run["status"] == "waiting" && is(run, "production", "waiting")
    });
    // What the browser has open at the gate and at the fleet is outdated by the rollback.
    site.does(&["rollback", "production", "shop", "shop/3", "shop/4"]);
    let back = world.show("shop/4");
    assert_eq!((&back["status"], &back["actor"]), (&json!("succeeded"), &json!("Ada")));
    assert_eq!(world.fleet("production")["version"], world.show("shop/1")["version"]);
    assert_eq!(world.show("shop/3")["gates"][0]["status"], "waiting");
    site.does(&["narrow", "/fleets/production/shop"]);
    site.does(&["reject", "shop/3", "production"]);
    third.ended().with(1);
    assert_eq!(world.show("shop/3")["gates"][0]["reason"], "too late");
    site.close().with(0);
    world.end();
}

const SECRET: &str = "what GitHub and we know";

const HOOKS: &str = "\
github:
  webhook_secrets: [{ file: secret }]
  repositories: { acme/shop: { url: source } }
";

/// Posts a push to the branch, as GitHub does.
#[track_caller]
fn push(site: &Site<'_>, id: &str, commit: &str) {
    let payload = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit, "deleted": false, "forced": false,
        "head_commit": { "id": commit, "message": "Open the shop" },
        "repository": { "full_name": "acme/shop", "default_branch": "main" },
        "sender": { "login": "octocat" },
    });
    let body = payload.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let host = site.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "POST /webhooks/github HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         X-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[test]
fn a_pipeline_is_triggered_and_a_delivery_handled_again_by_clicks() {
    let world = World::new();
    let write = |name: &str, text: &str| std::fs::write(world.directory.join(name), text).unwrap();
    std::fs::create_dir(world.directory.join("pipelines")).unwrap();
    let triggers = "source: { github: acme/shop }\non: { push: { branches: [main] } }\nstages:";
    write("pipelines/hello.yaml", &HELLO.replace("stages:", triggers));
    write("pipelines/broken.yaml", "name: [\n");
    write("secret", SECRET);
    write("hooks.yaml", HOOKS);
    let commit = world.repository.commit("Open the shop again");
    let site = Site::with(&world, "hooks.yaml", &["--pipelines", "pipelines"]);

    push(&site, "72d3162e-cc78-11e3-81ab-4c9367dc0958", &commit);
    world.until("hello/1", "the push starts a run", |run| run["status"] == "failed");
    site.does(&["again", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "hello/1"]);
    site.does(&["trigger", "hello", "flavour=sweet", "hello/2"]);
    let run = world.until("hello/2", "it succeeds", |run| run["status"] == "succeeded");
    assert_eq!((&run["actor"], &run["params"]["flavour"]), (&json!("Ada"), &json!("sweet")));
    assert_eq!(world.runs().len(), 2);
    site.does(&["narrow", "/pipelines", "/deliveries", "/deliveries?status=handled"]);
    site.close().with(0);
    world.end();
}

//! A push at GitHub starts a run at the server, once.

use std::fs;

use serde_json::{Value, json};

use super::support::hooks::{self, SECRET, push, sign};
use super::support::{Foreground, World, text, until};

const PIPELINE: &str = "\
name: hello
source: { github: acme/shop }
on: { push: { branches: [main] } }
stages:
  checkout: { uses: checkout }
  say: { needs: checkout, steps: [{ run: echo $WINDLASS_COMMIT }] }
";

/// A server that knows the pipeline `hello` and the secret.
struct Server {
    process: Foreground,
    address: String,
}

fn prepare(world: &World, settings: &str) {
    fs::create_dir_all(world.directory.join("pipelines")).unwrap();
    fs::write(world.directory.join("pipelines/hello.yaml"), PIPELINE).unwrap();
    fs::write(world.directory.join("secret"), SECRET).unwrap();
    fs::write(world.directory.join("hooks.yaml"), settings).unwrap();
}

const SETTINGS: &str = "\
github:
  webhook_secrets: [{ file: secret }]
  repositories: { acme/shop: { url: source } }
";

fn serve(world: &World) -> Server {
    let words = ["serve", "--config", "hooks.yaml", "--pipelines", "pipelines", "--listen", "127.0.0.1:0"];
    let process = world.start(&words);
    let line = process.says("windlass serves");
    let address = line.rsplit_once("http://").unwrap().1.to_owned();
    Server { process, address }
}

impl Server {
    fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        hooks::post(&self.address, headers, body).unwrap()
    }

    fn send(&self, id: &str, body: &[u8]) -> (u16, Value) {
        hooks::deliver(&self.address, id, body).unwrap()
    }
}

#[test]
fn a_push_that_comes_three_times_runs_once_though_the_server_is_killed() {
    let world = World::new();
    prepare(&world, SETTINGS);
    let commit = world.repository.commit("Open the shop again");
    let (id, body) = ("72d3162e-cc78-11e3-81ab-4c9367dc0958", push(&commit));
    let server = serve(&world);
    let known: Vec<Value> = (0..3)
        .map(|_| {
            let (status, answer) = server.send(id, &body);
            assert_eq!((status, &answer["delivery"]), (202, &json!(id)));
            answer["known"].clone()
        })
        .collect();
    assert_eq!(known, [json!(false), json!(true), json!(true)]);
    drop(server.process.kill());

    let server = serve(&world);
    assert_eq!(server.send(id, &body).1["known"], true);
    let run = world.until("hello/1", "the run ends", |view| view["status"] == "succeeded");
    assert_eq!((text(&run["commit"]), text(&run["actor"])), (commit.as_str(), "octocat"));
    let delivery = until("the delivery is handled", || {
        let list = world.windlass(&["deliveries", "--json"]).with(0).json();
        let all = list["deliveries"].as_array().unwrap().clone();
        assert_eq!(all.len(), 1);
        (all[0]["status"] == "handled").then(|| all[0].clone())
    });
    assert_eq!(delivery["runs"], json!(["hello/1"]));
    world.windlass(&["deliveries", "again", id]).with(0).says(&["handled: hello/1"]);
    assert_eq!(world.runs().len(), 1);

    // A person can do the same.
    let triggered = world.windlass(&["trigger", "hello", "--ref", "main", "--as", "grace"]).with(0);
    triggered.says(&["hello/2 is started", "windlass show hello/2", "windlass logs hello/2 --follow"]);
    world.until("hello/2", "the run ends", |view| view["status"] == "succeeded" && view["actor"] == "grace");
    world.windlass(&["trigger", "hallo"]).with(2).says(&["there is no pipeline hallo", "hello"]);
    drop(server.process.kill());
    world.windlass(&["trigger", "hello"]).with(2).says(&["no server runs", "windlass serve --pipelines"]);
    world.windlass(&["deliveries"]).with(0).says(&[id, "hello/1"]);
    world.end();
}

#[test]
fn what_is_no_webhook_is_refused_and_leaves_nothing() {
    let world = World::new();
    prepare(&world, "github:\n  webhook_secrets: [{ file: secret }, { file: next }]\n");
    fs::write(world.directory.join("next"), "the next secret").unwrap();
    let server = serve(&world);
    let body = b"{}".as_slice();
    let (right, next, wrong) = (sign(SECRET, body), sign("the next secret", body), sign("a guess", body));
    let json = ("Content-Type", "application/json");
    let (event, id) = (("X-GitHub-Event", "ping"), ("X-GitHub-Delivery", "d1"));
    fn signed(signature: &str) -> (&str, &str) {
        ("X-Hub-Signature-256", signature)
    }
    let large = vec![b' '; 25 * 1024 * 1024 + 1];
    let broken = sign(SECRET, b"{");
    for (headers, body, expected) in [
        (vec![json, event, id, signed(&wrong)], body, 401),
        (vec![json, event, id], body, 401),
        (vec![json, event, id, signed("sha1=00")], body, 401),
        (vec![json, event, id, signed(&right)], b"{ }".as_slice(), 401),
        (vec![json, id, signed(&right)], body, 400),
        (vec![json, event, signed(&right)], body, 400),
        (vec![json, event, id, signed(&broken)], b"{", 400),
        (vec![("Content-Type", "text/plain"), event, id, signed(&right)], body, 400),
        (vec![json, event, id, signed(&right)], &large, 413),
    ] {
        let (status, answer) = server.post(&headers, body);
        assert_eq!((status, &answer["status"]), (expected, &json!(expected)), "{headers:?}");
    }
    let deliveries = || world.windlass(&["deliveries", "--json"]).with(0).json()["deliveries"].clone();
    assert_eq!(deliveries(), json!([]));
    for (secret, signature) in [("old", &right), ("new", &next)] {
        let headers = [json, event, ("X-GitHub-Delivery", secret), signed(signature)];
        assert_eq!(server.post(&headers, body).0, 202, "either of two secrets signs");
    }
    until("both are settled", || {
        let all = deliveries();
        let all = all.as_array().unwrap();
        (all.len() == 2 && all.iter().all(|found| found["status"] == "ignored")).then_some(())
    });
    drop(server.process.kill());

    fs::write(world.directory.join("hooks.yaml"), "{}\n").unwrap();
    let server = serve(&world);
    let (status, answer) = server.post(&[json, event, id, signed(&right)], body);
    assert_eq!(status, 403);
    assert!(text(&answer["hint"]).contains("webhook_secrets"), "{answer}");
    drop(server.process.kill());
    world.end();
}

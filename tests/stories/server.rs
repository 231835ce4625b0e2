//! Whatever kills the server: after its next start everything goes on without a hand.

use serde_json::Value;

use crate::support::{Foreground, Signal, World, image, is, is_at, stage, until};

/// Starts `windlass serve` on the story's data, and waits until it serves.
fn serve(world: &World) -> Foreground {
    let settings = world.settings.to_str().unwrap();
    let server = world.start(&["serve", "--config", settings, "--listen", "127.0.0.1:0"]);
    server.says("windlass serves");
    server
}

/// Hands the last commit to the server, and leaves.
fn submit(world: &World, run: &str, more: &[&str]) {
    let client = world.run(more);
    client.says(&format!("{run} is driven by process"));
    client.kill();
}

fn killed_and_served_again(held: &str, looks: impl Fn(&Value) -> bool) {
    let world = World::new();
    world.hold(held);
    let server = serve(&world);
    submit(&world, "shop/1", &["--promote", "all"]);
    world.until("shop/1", held, looks);
    server.kill();
    world.release(held);
    let server = serve(&world);
    let view = world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    assert_eq!(view["status"], "succeeded", "{view:#}");
    for stage in view["stages"].as_array().unwrap() {
        assert_eq!((&stage["status"], &stage["attempts"]), (&"succeeded".into(), &1.into()), "{stage:#}");
    }
    for step in ["test", "build", "provision", "e2e"] {
        let times = (world.count(&format!("{step} starts")), world.count(&format!("{step} is done")));
        assert_eq!(times, (1, 1), "{step}: {:?}", world.ledger());
    }
    world.is_whole("production", image(&view), 3);
    leave(server);
    world.end();
}

/// A server that is asked to end does, and says so with its exit code.
fn leave(server: Foreground) {
    server.signal(Signal::TERM);
    server.ended().with(0);
}

#[test]
fn killed_while_a_step_runs() {
    killed_and_served_again("test", |run| is(run, "test", "running"));
}

#[test]
fn killed_in_a_swap() {
    killed_and_served_again("production", |run| is_at(run, "production", "Swap batch"));
}

#[test]
fn killed_at_a_gate() {
    let world = World::new();
    let server = serve(&world);
    submit(&world, "shop/1", &[]);
    world.until("shop/1", "it waits at the gate", |run| run["status"] == "waiting");
    server.kill();
    let server = serve(&world);
    let gate = "waiting for somebody to promote it to production";
    world.until("shop/1", "it waits again", |run| {
        run["waiting_for"].as_str().is_some_and(|why| why.starts_with(gate))
    });
    world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    let view = world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    assert_eq!(view["status"], "succeeded", "{view:#}");
    leave(server);
    world.end();
}

/// SIGTERM pauses: nothing is cancelled and no attempt is counted, also when somebody follows a run.
#[test]
fn asked_to_end_it_pauses_what_runs() {
    let world = World::new();
    world.hold("test");
    let server = serve(&world);
    submit(&world, "shop/1", &["--promote", "all"]);
    world.until_written("test starts");
    let followed = world.start(&["logs", "shop/1", "--follow"]);
    let asked = std::time::Instant::now();
    leave(server);
    assert!(asked.elapsed() < std::time::Duration::from_secs(5), "{:?}", asked.elapsed());
    followed.kill();
    assert!(!world.processes().iter().any(|process| process.is_windlass("serve")));
    world.release("test");
    world.until_written("test is done");
    let server = serve(&world);
    let view = world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    assert_eq!((&view["status"], &view["cancelled_by"]), (&"succeeded".into(), &Value::Null), "{view:#}");
    assert_eq!((&stage(&view, "test")["attempts"], world.count("test starts")), (&1.into(), 1));
    leave(server);
    until("the socket is gone", || (!world.data.join("windlass.sock").exists()).then_some(()));
    world.end();
}

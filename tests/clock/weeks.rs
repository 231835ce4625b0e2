//! Weeks later: what failed is done again with what was recorded, and what has ended is not.

use std::fs;

use serde_json::{Value, json};

use crate::shim::{Clock, days};
use crate::support::{Signal, World, edit, image, is, stage, text};

fn attempts(view: &Value) -> Vec<(&str, u64)> {
    let stages = view["stages"].as_array().unwrap().iter();
    stages.map(|stage| (text(&stage["name"]), stage["attempts"].as_u64().unwrap())).collect()
}

/// A stage after the build that fails until its param is good, and writes down what it works with.
const PUBLISH: &str = r#"  publish:
    needs: build
    env: { MOOD: "${{ params.mood }}" }
    steps:
      - { name: Publish, run: 'echo "$WINDLASS_COMMIT $(wc -c <dist/start) $(cat src/version.h | cksum)" >>"$STORY/published"; test $MOOD = good' }
"#;

#[test]
fn a_failed_stage_of_five_weeks_ago_is_replayed_with_what_was_recorded_and_with_an_edit() {
    let mut world = World::new();
    let clock = Clock::of(&mut world);
    edit(&world.pipeline, "name: shop\n", "name: shop\nparams: { mood: { default: bad } }\n");
    edit(&world.pipeline, "  upload:", &format!("{PUBLISH}\n  upload:"));
    edit(&world.pipeline, "needs: [test, build], with", "needs: [test, publish, build], with");
    let settings = world.settings.to_str().unwrap().to_owned();
    let serve = || world.serve(&["--config", &settings]);
    let server = serve();
    let client = world.run(&["--promote", "all"]);
    let failed = world.until("shop/1", "it fails", |view| view["status"] == "failed");
    client.kill();
    assert!(is(&failed, "publish", "failed") && is(&failed, "build", "succeeded"));
    let commit = text(&failed["commit"]).to_owned();
    let workspace = world.data.join("workspaces/shop/1/publish.1");
    assert!(workspace.exists());

    // Five weeks: the server is started anew on the way, the commit is not in the repository any more, its
    // file asks for other things, and the day's housekeeping was done.
    clock.jump(days(35));
    server.signal(Signal::TERM);
    server.ended().with(0);
    fs::remove_dir_all(&world.repository.path).unwrap();
    fs::write(&world.pipeline, "name: shop\nstages: { ship: { steps: [{ run: 'false' }] } }\n").unwrap();
    fs::remove_dir_all(world.data.join("workspaces")).unwrap();
    let server = serve();
    world.windlass(&["gc"]).with(0);
    clock.jump(days(-1));
    clock.jump(days(2));

    let refused = world.windlass(&["replay", "shop/1", "--failed", "--set", "params.mod=good"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    refused.says(&["mood"]);
    let words = ["replay", "shop/1", "--failed", "--set", "params.mood=good", "--as", "hubot"];
    let client = world.start(&words);
    let view = world.until("shop/1", "it goes on to the gate", |view| {
        let replayed = view["replays"].as_array().is_some_and(|replays| replays.len() == 1);
        let asks = view["waiting_for"].as_str().is_some_and(|reason| reason.contains("promote it"));
        replayed && (asks || !view["finished_at"].is_null())
    });
    // What `--promote` said beforehand holds, as nothing of it was used.
    if view["finished_at"].is_null() {
        world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    }
    let view = world.until("shop/1", "it ends", |view| !view["finished_at"].is_null());
    client.ended().with(0);
    assert_eq!((&view["status"], text(&view["commit"])), (&"succeeded".into(), commit.as_str()), "{view:#}");
    let wanted = ["checkout", "test", "build", "publish", "upload", "bake", "staging", "e2e", "certify"];
    let all = wanted.into_iter().chain(["production"]).map(|name| (name, 1 + u64::from(name == "publish")));
    assert_eq!(attempts(&view), all.collect::<Vec<_>>());
    for step in ["test", "build", "provision", "e2e"] {
        assert_eq!(world.count(&format!("{step} starts")), 1, "{:?}", world.ledger());
    }
    let published = fs::read_to_string(world.directory.join("published")).unwrap();
    let lines: Vec<&str> = published.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].starts_with(&commit), "{published}");
    let replay = &view["replays"][0];
    assert_eq!((&replay["actor"], &replay["edits"]), (&"hubot".into(), &json!(["params.mood=good"])));
    assert_eq!(stage(&view, "publish")["history"].as_array().unwrap().len(), 2);
    let instances = world.is_whole("production", image(&view), 3);

    // A deploy of weeks ago converges on the recorded image, under the policy of today.
    clock.jump(days(30));
    edit(&world.settings, "        size: 3\n", "        size: 2\n");
    server.signal(Signal::HUP);
    server.says("settings read again");
    let client = world.start(&["replay", "shop/1", "--stage", "production", "--as", "hubot"]);
    world.until("shop/1", "its gate asks again", |view| view["status"] == "waiting");
    world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    client.ended().with(0);
    let after = world.is_whole("production", image(&view), 2);
    assert!(after.iter().all(|id| instances.contains(id)), "nothing had to be replaced: {after:?}");
    server.signal(Signal::TERM);
    server.ended().with(0);
    world.end();
}

/// The server was killed while a step ran; the step has ended, and nobody came for weeks.
#[test]
fn a_step_that_ended_while_nobody_was_there_for_weeks_is_not_done_again() {
    let mut world = World::new();
    fs::write(
        &world.pipeline,
        "name: shop\nstages:\n  checkout: { uses: checkout }\n  \
         test: { needs: checkout, steps: [{ run: ./step test true }, { run: ./step after true }] }\n",
    )
    .unwrap();
    world.hold("test");
    let run = world.run(&[]);
    world.until_written("test starts");
    run.kill();
    world.release("test");
    world.until_written("test is done");
    crate::support::until("the runner leaves", || world.processes().is_empty().then_some(()));
    // The next one is started by hand, as the program would start it with the true clock.
    let clock = Clock::of(&mut world);
    clock.jump(days(35));
    let runner = world.start(&["runner", "--data", world.data.to_str().unwrap()]);
    runner.says("ready");
    world.resume("shop/1").ended().with(0);
    assert_eq!(world.ledger(), ["test starts", "test is done", "after starts", "after is done"]);
    let view = world.show("shop/1");
    assert_eq!(stage(&view, "test")["attempts"], 1);
    drop(runner);
    world.end();
}

/// What a bake left behind is ended by `gc` when the clock says that it is old, and nothing that is at work.
#[test]
fn gc_ends_what_is_old_by_the_clock_and_nothing_that_somebody_works_with() {
    let mut world = World::new();
    let clock = Clock::of(&mut world);
    let baked = r#"name: baked
params: { well: { default: "true" } }
stages:
  make:
    env: { WELL: "${{ params.well }}" }
    steps: [{ run: 'mkdir out; echo $WELL >out/app; cp step out/' }]
    needs: checkout
    artifacts: { app: out/ }
  checkout: { uses: checkout }
  upload: { uses: upload, needs: make, with: { artifact: app } }
  bake:
    uses: bake
    needs: upload
    with: { provision: [{ run: './step bake grep true app' }], start: ./app }
"#;
    fs::write(&world.pipeline, baked).unwrap();
    world.run(&["--param", "well=false"]).ended().with(1);
    world.hold("bake");
    let run = world.run(&["--param", "well=true"]);
    crate::support::until("the second one bakes", || (world.count("bake starts") == 2).then_some(()));
    let builder = |number: u32| world.data.join(format!("builders/baked-{number}.bake.1"));
    for (jump, left) in [(days(0), true), (days(-400), true), (days(435), false)] {
        clock.jump(jump);
        world.windlass(&["gc"]).with(0);
        assert_eq!((builder(1).exists(), builder(2).exists()), (left, true), "{jump}");
    }
    world.release("bake");
    run.ended().with(0);
    let gc = || world.windlass(&["gc", "--json"]).with(0).json();
    let images = |list: &Value| {
        let things = list["things"].as_array().unwrap().iter();
        things.filter(|thing| thing["kind"] == "image" && thing["ended"] == false).count()
    };
    assert_eq!(images(&gc()), 1);
    clock.jump(days(2));
    assert_eq!(images(&gc()), 0, "never certified nor rolled out, for longer than a day");
    world.end();
}

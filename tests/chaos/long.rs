//! Everything at once: pushes, promotions and releases under traffic, while whatever there is is killed and
//! the database is taken away. The ordinary test is one short storm; `WINDLASS_CHAOS=MINUTES` is so many
//! minutes of them, each in a place of its own and with the next seed.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::checks::{Killed, all_is_well, is_named};
use crate::database::Locked;
use crate::fleets::CLIENTS;
use crate::ground::{Ground, RETRY, is_counted};
use crate::number;
use crate::support::{Traffic, image, kill, text};

/// So many things happen in a storm.
const ACTS: u64 = 30;

/// What a storm did that its traffic may have felt.
#[derive(Default)]
struct Felt {
    instances: usize,
    balancers: usize,
}

#[test]
fn long() {
    let until = Instant::now() + Duration::from_secs(60 * number("WINDLASS_CHAOS").unwrap_or(0));
    let mut storms = 0;
    loop {
        storm(storms);
        storms += 1;
        if Instant::now() >= until {
            break;
        }
    }
    println!("{storms} storms");
}

fn storm(number: u64) {
    let mut ground = Ground::seeded("a storm", RETRY, number);
    ground.release(1);
    let first = ground.world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    assert_eq!(first["status"], "succeeded", "{first:#}");
    let traffic = Traffic::on(ground.world.production);
    traffic.goes_on(20);
    ground.send();
    // Without the balancer there is no traffic, so in half of them it lives.
    let balancer = ground.dice.chance(50);
    let (mut felt, mut versions) = (Felt::default(), 1);
    for _ in 0..ACTS {
        ground.serve();
        happens(&mut ground, balancer, &mut felt, &mut versions);
        ground.dice.pause(150);
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Runner);
    let there = shop_is_well(&ground, &first);
    if felt.balancers == 0 {
        traffic.goes_on(20);
    }
    let seen = traffic.stop();
    println!(
        "storm {number}: {} kills, {} deliveries, {versions} versions; {} of {} requests failed with {} instances \
         and {} balancers killed; {there} serves",
        ground.kills,
        ground.sent.len(),
        seen.failures.len(),
        seen.requests,
        felt.instances,
        felt.balancers
    );
    if felt.balancers == 0 {
        assert!(seen.failures.len() <= felt.instances * CLIENTS, "{:#?}", seen.failures);
    }
    ground.leave();
}

fn happens(ground: &mut Ground, balancer: bool, felt: &mut Felt, versions: &mut u32) {
    match ground.dice.below(20) {
        0..7 => ground.act(),
        7..11 => {
            ground.dice.pause(400);
            ground.kill_server();
        }
        11..13 => drop(ground.kill("runner")),
        13 => drop(ground.kill("guard")),
        14 => {
            // Only where enough are left to serve.
            if ground.world.living("production").len() >= 3 {
                ground.kill_instance();
                felt.instances += 1;
            }
        }
        15 if balancer => felt.balancers += ground.kill("balancer"),
        16 => {
            let locked = Locked::new(&ground.world.data);
            ground.dice.pause(1000);
            if ground.dice.chance(30) {
                ground.kill_server();
            } else if number("WINDLASS_CHAOS").is_some() && ground.dice.chance(20) {
                // Longer than the server waits for it, so that what it writes fails.
                std::thread::sleep(Duration::from_secs(12));
            }
            locked.over();
        }
        17 => {
            let running = |run: &Value| !is_counted(run) && run["status"] == "running";
            if !ground.runs().iter().any(running) {
                *versions += 1;
                ground.release(*versions);
            }
        }
        18 => {
            // Whoever is asked to end while it is being killed.
            ground.kill("runner");
            ground.kill_server();
        }
        19 if balancer => {
            // The machine loses its power.
            for name in ["guard", "runner", "serve", "balancer"] {
                ground.kill(name);
            }
            ground.kill_server();
            felt.balancers += 1;
            ground.world.processes().iter().for_each(|process| kill(process.pid));
        }
        _ => ground.dice.pause(300),
    }
}

/// Each of the shop's runs ended, well or with what it lost; its fleets are whole, and run what the last that
/// shipped brought. Answers the image.
fn shop_is_well(ground: &Ground, first: &Value) -> String {
    let mut shipped = image(first).to_owned();
    let mut runs = ground.runs();
    runs.retain(|run| !is_counted(run));
    runs.sort_by_key(|run| {
        text(&run["run"]).rsplit('/').next().and_then(|number| number.parse::<u64>().ok())
    });
    for run in &runs {
        let name = text(&run["run"]);
        let view = ground.world.show(name);
        for stage in view["stages"].as_array().unwrap() {
            if stage["status"] == "failed" {
                let reason = text(&stage["reason"]);
                // Instances that were killed while a version went in, which nobody can tell from a version that
                // is at fault, or on its way back: what serves in the end is looked at below.
                if stage["name"] == "production"
                    && reason.contains("ended by itself: it was killed by signal 9")
                {
                    continue;
                }
                assert_eq!(stage["cause"], "infrastructure", "{name}: {stage:#}");
                is_named(name, reason);
            }
            if stage["name"] == "production" && stage["status"] == "succeeded" {
                shipped = image(&view).to_owned();
            }
        }
    }
    ground.world.until_whole("production", 3);
    ground.world.is_whole("production", &shipped, 3);
    shipped
}

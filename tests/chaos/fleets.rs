//! Fleets under traffic while whatever keeps them is killed.

use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::kills;
use crate::support::{Traffic, get, image, kill, text, until};

/// Traffic has six clients: so many requests may be open at one moment.
pub const CLIENTS: usize = 6;

impl Ground {
    /// Hands the shop's next version to the server, and answers the name of its run.
    #[track_caller]
    pub fn release(&mut self, number: u32) -> String {
        self.serve();
        self.world.version(number);
        let run = format!("shop/{number}");
        let client = self.world.run(&["--promote", "all"]);
        client.says(&format!("{run} is driven by process"));
        client.kill();
        run
    }

    /// Kills one instance of the shop.
    pub fn kill_instance(&mut self) {
        let living = self.world.living("production");
        if let Some(id) = self.dice.one_of(&living) {
            let home = format!("{}/instances/{id}/home", self.world.data.display());
            self.world.processes().iter().filter(|p| p.carries("HOME", &home)).for_each(|p| kill(p.pid));
            self.kills += 1;
        }
    }
}

/// A rollout whose server and runner are killed all the way: no request fails, nothing is done twice.
#[test]
fn a_rollout_under_traffic_while_the_server_is_killed() {
    let mut ground = Ground::new("a rollout while the server is killed", "");
    ground.release(1);
    let view = ground.world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    assert_eq!(view["status"], "succeeded", "{view:#}");
    let traffic = Traffic::on(ground.world.production);
    traffic.goes_on(50);
    let run = ground.release(2);
    ground.world.until_written(&format!("{} is done", "e2e"));
    while ground.kills < kills(6) {
        ground.serve();
        ground.dice.pause(500);
        ground.kill_server();
    }
    ground.serve();
    let view = ground.world.until(&run, "it ends", |run| !run["finished_at"].is_null());
    assert_eq!(view["status"], "succeeded", "{view:#}");
    for stage in view["stages"].as_array().unwrap() {
        assert_eq!(stage["attempts"], 1, "{stage:#}");
    }
    traffic.goes_on(50);
    let seen = traffic.stop().without_failure();
    assert_eq!(seen.versions.keys().map(String::as_str).collect::<Vec<_>>(), ["1", "2"]);
    ground.world.is_whole("production", image(&view), 3);
    ground.world.is_whole("staging", image(&view), 1);
    ground.leave();
}

/// Instances and the balancer are killed, with the server and without it.
#[test]
fn instances_and_balancer_killed_again_and_again() {
    let mut ground = Ground::new("instances and balancer killed", "");
    ground.release(1);
    let view = ground.world.until("shop/1", "it ends", |run| !run["finished_at"].is_null());
    let image = text(&image(&view).into()).to_owned();
    let traffic = Traffic::on(ground.world.production);
    traffic.goes_on(50);
    let mut instances = 0;
    while ground.kills < kills(6) {
        ground.serve();
        ground.kill_instance();
        instances += 1;
        if ground.dice.chance(40) {
            ground.dice.pause(300);
            ground.kill_server();
            ground.dice.pause(300);
            ground.serve();
        }
        ground.world.until_whole("production", 3);
        ground.world.is_whole("production", &image, 3);
        traffic.goes_on(20);
    }
    let seen = traffic.stop();
    println!("{} of {} requests failed, {instances} instances killed", seen.failures.len(), seen.requests);
    assert!(seen.failures.len() <= instances * CLIENTS, "{:#?}", seen.failures);

    for _ in 0..3 {
        ground.dice.pause(200);
        let killed = Instant::now();
        assert_eq!(ground.kill("balancer"), 1);
        if ground.dice.chance(40) {
            ground.kill_server();
            ground.serve();
        }
        until("the balancer is back", || get(ground.world.production, "/").ok());
        println!("the balancer was back after {:?}", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());
    }
    ground.world.until_whole("production", 3);
    ground.world.is_whole("production", &image, 3);
    ground.leave();
}

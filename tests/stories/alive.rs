//! Fleets stay alive between rollouts: what is killed comes back, what cannot live is put off.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::{
    Foreground, PATIENCE, PROGRAM, Seen, Signal, Traffic, World, edit, get, image, kill, signal, stage, text,
    until,
};

impl World {
    fn serve_fleets(&self) -> Foreground {
        self.serve(&["--config", self.settings.to_str().unwrap()])
    }
}

/// Traffic has six clients: so many requests may be open at one moment.
const CLIENTS: usize = 6;

fn few_failed(seen: &Seen, most: usize) {
    assert!(
        seen.failures.len() <= most,
        "{} of {}: {:#?}",
        seen.failures.len(),
        seen.requests,
        seen.failures
    );
    println!("{} of {} requests failed", seen.failures.len(), seen.requests);
}

/// Ends the server as an administrator does.
fn pause(serve: Foreground) {
    serve.signal(Signal::TERM);
    serve.ended().with(0);
}

/// Settings that are read again hold for the fleets that stand, too.
#[test]
fn a_fleet_moves_to_the_port_that_the_settings_name_now() {
    let world = World::new();
    world.ship();
    let serve = world.serve_fleets();
    until("it serves", || get(world.production, "/").ok());
    let elsewhere = crate::support::free_port();
    edit(&world.settings, &format!("port: {}", world.production), &format!("port: {elsewhere}"));
    serve.signal(Signal::HUP);
    until("it serves elsewhere", || get(elsewhere, "/").ok());
    until("and no more where it was", || get(world.production, "/").is_err().then_some(()));
    pause(serve);
    world.end();
}

#[test]
fn an_instance_that_is_killed_under_traffic_is_back_within_seconds() {
    let world = World::new();
    let shipped = world.ship();
    let before = world.is_whole("production", image(&shipped), 3);
    let serve = world.serve_fleets();
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    let killed = Instant::now();
    kill(world.process_of(&before[1]).pid);
    let after = until("another takes its place", || {
        let there = world.until_whole("production", 3);
        (!there.contains(&before[1])).then_some(there)
    });
    let took = killed.elapsed();

    traffic.goes_on(50);
    few_failed(&traffic.stop(), CLIENTS);
    println!("back after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(after.contains(&before[0]) && after.contains(&before[2]), "{before:?} {after:?}");
    world.is_whole("production", image(&shipped), 3);
    pause(serve);
    world.end();
}

#[test]
fn after_everything_was_killed_at_once_serve_brings_all_of_it_back() {
    let world = World::new();
    let shipped = world.ship();
    let serve = world.serve_fleets();
    let pid = serve.pid();
    for process in world.processes() {
        signal(process.pid, Signal::KILL);
    }
    serve.kill();
    until("nothing is left", || world.processes().iter().all(|p| p.pid == pid).then_some(()));
    assert!(get(world.production, "/").is_err());

    let started = Instant::now();
    let serve = world.serve_fleets();
    until("production answers", || get(world.production, "/").ok());
    println!("production answers after {:?}", started.elapsed());
    assert_eq!(world.until_whole("production", 3).len(), 3);
    assert_eq!(world.until_whole("staging", 1).len(), 1);
    world.is_whole("production", image(&shipped), 3);
    world.is_whole("staging", image(&shipped), 1);
    pause(serve);
    world.end();
}

#[test]
fn a_balancer_that_is_killed_under_traffic_is_back_within_a_second() {
    let world = World::new();
    world.ship();
    let serve = world.serve_fleets();
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    let balancer = world.the("balancer").pid;
    let killed = Instant::now();
    kill(balancer);
    until("somebody answers", || get(world.production, "/").ok());
    let took = killed.elapsed();

    traffic.goes_on(50);
    traffic.stop();
    println!("answers again after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_ne!(world.the("balancer").pid, balancer);
    assert_eq!(world.until_whole("production", 3).len(), 3);
    pause(serve);
    world.end();
}

#[test]
fn a_crash_loop_is_put_off_and_said_and_ends_when_its_cause_does() {
    let world = World::new();
    let shipped = world.ship();
    let serve = world.serve_fleets();
    let crash = world.directory.join("crash-production");
    std::fs::write(&crash, "").unwrap();
    for id in world.living("production") {
        kill(world.process_of(&id).pid);
    }

    let said = until("status says what is the matter", || {
        world.fleet("production")["trouble"]
            .as_str()
            .filter(|said| said.contains("3 times"))
            .map(str::to_owned)
    });
    for part in ["of 3 instances ended within", "exit code 7", "the till is empty", "next try at"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let starts = world.ledger().iter().filter(|line| line.starts_with("shop-production-")).count();
    assert!(starts <= 3 * 5, "{starts} starts: it is put off");

    std::fs::remove_file(crash).unwrap();
    world.until_whole("production", 3);
    world.is_whole("production", image(&shipped), 3);
    assert!(world.fleet("production")["trouble"].is_null());
    pause(serve);
    world.end();
}

#[test]
fn a_fleet_that_is_not_in_the_settings_is_left_alone_and_said_and_down_is_not_undone() {
    let world = World::new();
    let shipped = world.ship();
    let serve = world.serve(&[]);
    let said = until("status says so", || world.fleet("production")["trouble"].as_str().map(str::to_owned));
    assert!(said.contains("left alone"), "{said}");
    world.is_whole("production", image(&shipped), 3);
    pause(serve);

    let serve = world.serve_fleets();
    world.until_whole("staging", 1);
    for environment in ["staging", "production"] {
        world.windlass(&["down", "shop", environment]).with(0);
        assert!(world.living(environment).is_empty());
        assert!(world.fleet(environment).is_null());
    }
    pause(serve);
    world.end();
}

impl World {
    /// Production is swapped at once from now on, and what ran before is held for so long.
    fn blue_green(&self, hold: &str) {
        let new = format!("strategy: {{ blue_green: {{ hold: {hold} }} }}");
        edit(&self.settings, "strategy: { rolling: { batch: 1, surge: 1 } }", &new);
    }

    fn until_gone(&self, ids: &[String]) {
        until("what stood by is ended", || {
            let there = self.living("production");
            (!ids.iter().any(|id| there.contains(id))).then_some(())
        });
    }
}

#[test]
fn a_switch_under_traffic_loses_no_request_and_the_way_back_is_instant() {
    let world = World::new();
    world.blue_green("10m");
    edit(&world.pipeline, "      from: production\n", "");
    let first = world.ship();
    let old = world.is_whole("production", image(&first), 3);
    let serve = world.serve_fleets();
    world.version(2);
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    let second = world.ship();
    let fleet = world.fleet("production");
    assert_eq!(
        (fleet["healthy"].as_u64(), fleet["image"].as_str()),
        (Some(3), Some(image(&second))),
        "{fleet:#}"
    );
    let standing: Vec<&Value> =
        fleet["instances"].as_array().unwrap().iter().filter(|i| i["health"] == "standby").collect();
    assert_eq!(standing.len(), 3, "{fleet:#}");
    assert!(standing.iter().all(|instance| instance["image"] == image(&first)), "{fleet:#}");
    assert!(fleet["standby"]["until"].is_string(), "{fleet:#}");

    // The same commit again is the same image: what stands by is switched to.
    let starts = || world.ledger().iter().filter(|line| line.starts_with("shop-production-")).count();
    let before = starts();
    let back = ["--commit", text(&first["commit"]), "--promote", "all", "--json"];
    let third = world.run(&back).ended().with(0).json();
    assert_eq!(image(&third), image(&first));
    assert_eq!(starts(), before, "nothing was launched");
    let steps: Vec<&str> =
        stage(&third, "production")["steps"].as_array().unwrap().iter().map(|s| text(&s["name"])).collect();
    assert_eq!(steps, ["Begin rollout", "Switch"]);

    traffic.goes_on(50);
    let seen = traffic.stop().without_failure();
    assert_eq!(seen.versions.keys().map(String::as_str).collect::<Vec<_>>(), ["1", "2"]);
    let fleet = world.fleet("production");
    let healthy = |instance: &&Value| instance["health"] == "healthy";
    let mut serving: Vec<&str> =
        fleet["instances"].as_array().unwrap().iter().filter(healthy).map(|i| text(&i["id"])).collect();
    serving.sort();
    assert_eq!(serving, old, "{fleet:#}");
    pause(serve);
    world.end();
}

#[test]
fn a_release_that_is_not_well_is_never_switched_to() {
    let world = World::new();
    world.blue_green("10m");
    edit(&world.settings, "strategy: {", "patience: 2s\n        strategy: {");
    let first = world.ship();
    world.is_whole("production", image(&first), 3);
    world.version(2);
    std::fs::write(world.directory.join("crash-production"), "").unwrap();
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    let ended = world.run(&["--promote", "all", "--json"]).ended().with(1);
    let second = ended.json();
    assert!(text(&stage(&second, "production")["reason"]).contains("did not go in"), "{second:#}");

    traffic.goes_on(50);
    let seen = traffic.stop().without_failure();
    assert_eq!(seen.versions.keys().map(String::as_str).collect::<Vec<_>>(), ["1"]);
    world.is_whole("production", image(&first), 3);
    std::fs::remove_file(world.directory.join("crash-production")).unwrap();
    world.end();
}

#[test]
fn what_stands_by_is_ended_in_time_also_by_who_comes_after_a_kill() {
    let world = World::new();
    world.blue_green("4s");
    let first = world.ship();
    let old = world.is_whole("production", image(&first), 3);
    let serve = world.serve_fleets();
    world.version(2);
    let second = world.ship();
    assert_eq!(world.living("production").len(), 6);
    serve.kill();
    let serve = world.serve_fleets();
    world.until_gone(&old);
    world.until_whole("production", 3);
    world.is_whole("production", image(&second), 3);
    pause(serve);
    world.end();
}

#[test]
fn where_nobody_keeps_fleets_the_old_instances_are_not_held_and_that_is_said() {
    let world = World::new();
    world.blue_green("10m");
    world.ship();
    world.version(2);
    let second = world.ship();
    world.is_whole("production", image(&second), 3);
    let log = world.windlass(&["logs", "shop/2", "production"]).with(0);
    log.says(&["the old instances are not held after the switch"]);
    world.end();
}

impl World {
    /// This program, as if it had been built later.
    fn newer_program(&self) -> PathBuf {
        let newer = self.directory.join("newer").join("windlass");
        std::fs::create_dir(newer.parent().unwrap()).unwrap();
        std::fs::copy(PROGRAM, &newer).unwrap();
        let file = std::fs::File::options().write(true).open(&newer).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        newer
    }

    /// Waits until this program serves the balancer, alone.
    fn until_balanced_by(&self, program: &Path, traffic: &Traffic) {
        until("the newer program has the balancer", || {
            let balancers: Vec<_> =
                self.processes().into_iter().filter(|p| p.is_windlass("balancer")).collect();
            balancers.iter().any(|p| runs(p.pid, program)).then_some(())
        });
        traffic.goes_on(50);
    }
}

fn runs(pid: i32, program: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
}

#[test]
fn an_upgrade_under_traffic_loses_no_request_and_the_server_goes_on_as_the_newer_program() {
    let world = World::new();
    let shipped = world.ship();
    let before = world.is_whole("production", image(&shipped), 3);
    let serve = world.serve_fleets();
    // One of the instances is a child of the server: it is looked after also by the newer program.
    kill(world.process_of(&before[0]).pid);
    until("it is replaced", || (!world.until_whole("production", 3).contains(&before[0])).then_some(()));
    let newer = world.newer_program();
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    let mut upgrade = std::process::Command::new(&newer);
    upgrade.arg("upgrade").current_dir(&world.directory).env("WINDLASS_DATA", &world.data);
    let said = Foreground::start(&mut upgrade, PATIENCE).ended().with(0);
    said.says(&[
        "the balancer is process",
        &format!("the server, process {}, is this program now", serve.pid()),
    ]);
    assert!(runs(serve.pid(), &newer), "it has the process number it had");
    world.until_balanced_by(&newer, &traffic);
    let again = world.command(&["upgrade"]).output().unwrap();
    let again = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.contains("not older than this program"), "an older one replaces nothing: {again}");
    traffic.goes_on(50);
    traffic.stop().without_failure();

    let there = world.until_whole("production", 3);
    let child = there.iter().find(|id| !before.contains(id)).unwrap();
    kill(world.process_of(child).pid);
    until("it is replaced again", || (!world.until_whole("production", 3).contains(child)).then_some(()));
    pause(serve);
    world.end();
}

#[test]
fn a_newer_serve_takes_the_balancer_over_under_traffic() {
    let world = World::new();
    world.ship();
    let serve = world.serve_fleets();
    let newer = world.newer_program();
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);
    pause(serve);
    let mut command = std::process::Command::new(&newer);
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", world.settings.to_str().unwrap()]);
    command.current_dir(&world.directory).env("WINDLASS_DATA", &world.data).env("STORY", &world.directory);
    let serve = Foreground::start(&mut command, PATIENCE);
    serve.says("windlass serves");
    world.until_balanced_by(&newer, &traffic);
    traffic.stop().without_failure();
    pause(serve);
    world.end();
}

//! Production is swapped while it is used: no request fails, whatever happens to those who swap it.

use crate::support::{Seen, Traffic, World, image, is_at, list, stage};

/// Ships version 1, and then version 2 under traffic, while `meanwhile` happens to it.
fn swapped_under_traffic(meanwhile: impl FnOnce(&World, &Traffic)) {
    let world = World::new();
    let first = world.ship();
    let before = world.is_whole("production", image(&first), 3);
    world.version(2);
    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);

    meanwhile(&world, &traffic);

    traffic.goes_on(50);
    let seen: Seen = traffic.stop().without_failure();
    assert_eq!(seen.versions.keys().map(String::as_str).collect::<Vec<_>>(), ["1", "2"]);
    let second = world.show("shop/2");
    assert_eq!(second["status"], "succeeded", "{second:#}");
    let after = world.is_whole("production", image(&second), 3);
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
    assert_eq!(list(&stage(&second, "production")["outputs"]["before"]).len(), 3);
    // Each was launched once: none by a process that forgot it.
    for id in after {
        assert_eq!(world.count(&format!("{id} starts")), 1);
    }
    let launches = world.ledger().iter().filter(|line| line.starts_with("shop-production-2-")).count();
    assert_eq!(launches, 3);
    world.end();
}

#[test]
fn a_swap_under_traffic_loses_no_request() {
    swapped_under_traffic(|world, _| {
        world.ship();
    });
}

#[test]
fn a_swap_whose_driver_is_killed_and_resumed_loses_no_request() {
    swapped_under_traffic(|world, traffic| {
        // The second of the new instances takes its time, so that there is a middle.
        world.hold("production-2");
        let run = world.run(&["--promote", "all"]);
        run.says("production: Swap batch 2 of 3");
        world.until_written("shop-production-2");
        run.kill();
        let view = world.show("shop/2");
        assert!(is_at(&view, "production", "Swap batch 2 of 3"), "{view:#}");
        traffic.goes_on(50);
        let resumed = world.resume("shop/2");
        world.release("production-2");
        resumed.ended().with(0);
    });
}

#[test]
fn a_balancer_that_is_replaced_twice_in_a_swap_loses_no_request() {
    swapped_under_traffic(|world, traffic| {
        let mut served_by = vec![world.the("balancer").pid];
        let mut replace = || {
            world.windlass(&["balancer", "--data", world.data.to_str().unwrap(), "--replace"]).with(0);
            let there: Vec<i32> = world
                .processes()
                .iter()
                .filter(|process| process.is_windlass("balancer"))
                .map(|process| process.pid)
                .filter(|pid| !served_by.contains(pid))
                .collect();
            assert_eq!(there.len(), 1, "{there:?}, after {served_by:?}");
            served_by.extend(there);
            traffic.goes_on(50);
        };
        world.hold("production-1");
        world.hold("production-3");
        let run = world.run(&["--promote", "all"]);
        run.says("production: Swap batch 1 of 3");
        replace();
        world.release("production-1");
        run.says("production: Swap batch 3 of 3");
        replace();
        world.release("production-3");
        run.ended().with(0);
    });
}

#[test]
fn a_swap_in_which_everything_happens_loses_no_request() {
    swapped_under_traffic(|world, traffic| {
        let data = world.data.to_str().unwrap();
        for number in 1..=3 {
            world.hold(&format!("production-{number}"));
        }
        let mut driver = world.run(&["--promote", "all"]);
        for number in 1..=3 {
            driver.says(&format!("production: Swap batch {number} of 3"));
            driver.kill();
            world.windlass(&["balancer", "--data", data, "--replace"]).with(0);
            traffic.goes_on(20);
            driver = world.resume("shop/2");
            world.release(&format!("production-{number}"));
        }
        driver.ended().with(0);
    });
}

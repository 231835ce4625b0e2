//! The server is killed, again and again: nothing at all is to be seen of that afterwards.

use crate::checks::{Killed, all_is_well};
use crate::ground::{Ground, Server};
use crate::kills;
use crate::support::until;

/// Kills it wherever it is: long after it serves, while it does what somebody asks, while it starts.
fn killed_somewhere(ground: &mut Ground) {
    match ground.dice.below(5) {
        0 => {
            let starting = ground.start();
            ground.dice.pause(200);
            ground.kills += 1;
            starting.kill();
        }
        1 => {
            ground.serve();
            let push = ground.push();
            ground.dice.pause(8);
            ground.kill_server();
            push.into_iter().for_each(|push| push.join());
        }
        _ => {
            ground.serve();
            for _ in 0..ground.dice.below(4) {
                ground.act();
            }
            ground.dice.pause(500);
            ground.kill_server();
        }
    }
    // GitHub and people do not wait until somebody is there.
    if ground.dice.chance(30) {
        ground.act();
    }
}

#[test]
fn the_server_killed_again_and_again() {
    let mut ground = Ground::new("the server killed again and again", "");
    ground.serve();
    ground.send();
    while ground.kills < kills(12) {
        killed_somewhere(&mut ground);
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    println!("{} kills, {} deliveries", ground.kills, ground.sent.len());
    ground.leave();
}

#[test]
fn killed_twice_while_it_starts() {
    let mut ground = Ground::new("killed twice while it starts", "");
    for life in 0..4 {
        for _ in 0..2 {
            let starting = ground.start();
            ground.dice.pause(if life == 0 { 60 } else { 150 });
            starting.kill();
        }
        ground.serve();
        ground.send();
        ground.dice.pause(400);
        ground.kill_server();
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

#[test]
fn of_two_servers_that_start_at_once_one_refuses_and_names_the_other() {
    let mut ground = Ground::new("two servers at once", "");
    for _ in 0..4 {
        let mut both = vec![ground.start(), ground.start()];
        let loser = until("one of them refuses", || both.iter().position(|server| server.is_over()));
        let loser = both.remove(loser).ended().with(3);
        let winner = both.remove(0);
        let pid = winner.pid();
        loser.says(&[&format!("is held by process {pid} (windlass serve")]);
        ground.server = Some(Server::serves(winner));
        ground.send();
        ground.dice.pause(300);
        ground.kill_server();
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

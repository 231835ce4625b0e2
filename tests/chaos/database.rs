//! The database is taken away for a while: nothing that was acknowledged is lost, and nothing is put in its
//! place.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};

use crate::checks::{Killed, all_is_well};
use crate::ground::Ground;
use crate::support::{hooks, until};

/// The database locked by another process than the server: this one.
pub struct Locked {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Locked {
    pub fn new(data: &std::path::Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new().filename(data.join("windlass.db"));
        let options = options.busy_timeout(Duration::from_secs(20));
        let connection = runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            connection
        });
        Self { runtime, connection }
    }

    pub fn over(mut self) {
        self.runtime.block_on(async {
            self.connection.execute("ROLLBACK").await.unwrap();
            self.connection.close().await.unwrap();
        });
    }
}

#[test]
fn locked_by_somebody_else_while_webhooks_come_and_their_sender_hangs_up() {
    let mut ground = Ground::new("the database is locked", "");
    ground.serve();
    ground.send();
    let server = ground.server.as_ref().unwrap();
    let locked = Locked::new(&ground.world.data);
    // Both senders give up before anything could be written; one of them comes again.
    for id in ["hung-up", "hung-up-and-back"] {
        let commit = ground.world.repository.commit(id);
        let body = hooks::push(&commit);
        let patience = Some(Duration::from_millis(300));
        hooks::deliver_within(&server.address, id, &body, patience).unwrap_err();
        ground.sent.push(crate::ground::Sent { id: id.to_owned(), commit, acknowledged: false });
    }
    locked.over();
    let back = ground.sent.last_mut().unwrap();
    let (status, _) = hooks::deliver(&server.address, &back.id, &hooks::push(&back.commit)).unwrap();
    assert_eq!(status, 202);
    back.acknowledged = true;
    // Nobody starts the server again: what is in the inbox is not only handled then.
    until("all that was taken in is handled", || {
        let deliveries = ground.deliveries();
        (deliveries.len() >= 2 && deliveries.iter().all(|found| found["status"] == "handled")).then_some(())
    });
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

#[test]
fn locked_by_somebody_else_while_the_server_starts_and_dies() {
    let mut ground = Ground::new("the database is locked and the server dies", "");
    ground.serve();
    for _ in 0..2 {
        ground.send();
        ground.dice.pause(400);
        let locked = Locked::new(&ground.world.data);
        ground.dice.pause(300);
        ground.kill_server();
        let starting = ground.start();
        ground.dice.pause(1500);
        locked.over();
        ground.server = Some(crate::ground::Server::serves(starting));
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

/// What belongs to the database, as it was killed.
fn files(ground: &Ground) -> Vec<PathBuf> {
    ["windlass.db", "windlass.db-wal", "windlass.db-shm"]
        .iter()
        .map(|name| ground.world.data.join(name))
        .collect()
}

#[test]
fn moved_away_while_nobody_looks_it_is_missed_and_not_made_anew() {
    let mut ground = Ground::new("the database is moved away", "");
    for life in 0..3 {
        ground.serve();
        // In the first life nothing but a webhook has come: there is no log and no instance yet.
        if life == 0 {
            let push = ground.push();
            push.into_iter().for_each(|push| push.join());
        } else {
            ground.send();
            ground.dice.pause(500);
        }
        ground.kill_server();
        let [database, wal, _] = &files(&ground)[..] else { unreachable!() };
        let aside = database.with_extension("aside");
        fs::rename(database, &aside).unwrap();
        // Whoever moves it may leave the log beside it, or take that too where something else is left.
        let wal_aside = ground.world.data.join("windlass-wal.aside");
        let both = ground.world.data.join("logs").exists() && ground.dice.chance(50);
        if both {
            fs::rename(wal, &wal_aside).unwrap();
        }
        let refused = ground.start().ended().with(3);
        refused.says(&["is missing", "restore it from a backup"]);
        assert!(!database.exists(), "a new one was put in its place");
        fs::rename(&aside, database).unwrap();
        if both {
            fs::rename(&wal_aside, wal).unwrap();
        }
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

/// The file goes while it is open: what is written goes where it went, and once it is back it is all there.
#[test]
fn moved_away_while_the_server_runs() {
    let mut ground = Ground::new("the database is moved away under the server", "");
    ground.serve();
    ground.send();
    ground.dice.pause(400);
    let database = ground.world.data.join("windlass.db");
    let aside = database.with_extension("aside");
    fs::rename(&database, &aside).unwrap();
    ground.dice.pause(400);
    ground.send();
    ground.dice.pause(1000);
    assert!(!database.exists(), "a new one was put in its place");
    fs::rename(&aside, &database).unwrap();
    ground.kill_server();
    ground.settle();
    all_is_well(&mut ground, Killed::Server);
    ground.leave();
}

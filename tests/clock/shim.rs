//! A clock that a test sets for the programs of its world, and for nobody else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};

use crate::support::World;

/// The clock of all programs that a world starts from now on.
pub struct Clock {
    ahead: File,
}

impl Clock {
    /// Gives the world a clock that shows the true time, until it is set. What the program itself starts in
    /// an empty environment (the runner, the balancer, instances, steps) keeps the true one.
    pub fn of(world: &mut World) -> Self {
        let library = world.directory.join("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-lpthread"]);
        assert!(compiler.status().unwrap().success(), "{compiler:?}");
        let path = world.directory.join("clock");
        fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        let ahead = File::options().read(true).write(true).open(&path).unwrap();
        world.env.push(("LD_PRELOAD", library.display().to_string()));
        world.env.push(("WINDLASS_TEST_CLOCK", path.display().to_string()));
        Self { ahead }
    }

    fn ahead(&self) -> SignedDuration {
        let mut number = [0; 8];
        self.ahead.read_exact_at(&mut number, 0).unwrap();
        SignedDuration::from_nanos(i64::from_ne_bytes(number))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead()
    }

    /// Moves it, also for what runs already.
    pub fn jump(&self, by: SignedDuration) {
        let ahead = (self.ahead() + by).as_nanos() as i64;
        self.ahead.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }

    pub fn set(&self, to: &str) {
        self.jump(to.parse::<Timestamp>().unwrap().duration_since(self.now()));
    }
}

pub const fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

pub const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

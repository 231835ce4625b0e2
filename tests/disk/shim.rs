//! A disk that fails on demand, for the server, the runner and the balancer alike: `tests/tools/full.c`,
//! preloaded into each.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use crate::support::{Foreground, World, until};

/// What the preloaded library and this share; `full.c` says what the numbers are.
pub struct Disk(File);

impl Disk {
    /// Puts it under the data directory of a world: every command of it runs with the library from now on.
    pub fn under(world: &mut World) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/full.c");
        let (library, state) = (world.directory.join("full.so"), world.directory.join("full.state"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        assert!(compiler.status().unwrap().success(), "cc is needed, as for the stories");
        fs::write(&state, [0; 32]).unwrap();
        fs::create_dir_all(&world.data).unwrap();
        world.env.extend([
            ("LD_PRELOAD", library.display().to_string()),
            ("FULL_BELOW", world.data.display().to_string()),
            ("FULL_STATE", state.display().to_string()),
        ]);
        Self(File::options().read(true).write(true).open(state).unwrap())
    }

    fn number(&self, place: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, place * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, place: u64, number: u64) {
        self.0.write_all_at(&number.to_ne_bytes(), place * 8).unwrap();
    }

    /// How many writes there were.
    pub fn writes(&self) -> u64 {
        self.number(0)
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.number(3)
    }

    /// From the `nth` write from now on all fail.
    pub fn fails_at(&self, nth: u64, how: Errno) {
        self.set(2, how.raw_os_error().cast_unsigned().into());
        self.set(1, self.writes() + nth);
    }

    pub fn is_good(&self) {
        self.set(1, 0);
    }
}

/// The server, the runner and the balancer of a world. The latter two are started by hand: what the server
/// starts gets nothing of its environment.
pub struct Processes {
    pub server: Foreground,
    _runner: Foreground,
    _balancer: Foreground,
}

impl Processes {
    #[track_caller]
    pub fn start(world: &World) -> Self {
        let server = world.serve(&["--config", world.settings.to_str().unwrap()]);
        let data = world.data.to_str().unwrap();
        let start = |what: &str| {
            let process = world.start(&[what, "--data", data]);
            until(what, || world.data.join(format!("{what}.sock")).exists().then_some(()));
            process
        };
        Self { server, _runner: start("runner"), _balancer: start("balancer") }
    }
}

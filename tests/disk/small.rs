//! A disk that is really full: a small tmpfs at the data directory. Only root may mount one; whoever is not
//! uses [`crate::shim`].

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::World;

/// A mounted disk, taken away when it is dropped.
pub struct Small {
    at: PathBuf,
    ballast: PathBuf,
}

pub fn may_mount() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Small {
    /// Mounts a disk of so many MiB at the data directory of a world.
    pub fn under(world: &World, size: u32) -> Self {
        fs::create_dir_all(&world.data).unwrap();
        let at = world.data.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}m,mode=0700"), "windlass-test", at]);
        Self { at: world.data.clone(), ballast: world.data.join("ballast") }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.ballast).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![7; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(&self.ballast).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        detach(&self.at);
    }
}

/// Something mounted again elsewhere, for reading only.
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    pub fn of(directory: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        run("mount", &["--bind", directory.to_str().unwrap(), at.to_str().unwrap()]);
        let mounted = Self(at);
        run("mount", &["-o", "remount,bind,ro", mounted.0.to_str().unwrap()]);
        mounted
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

fn detach(at: &Path) {
    // At once, whoever still works there.
    let _ = Command::new("umount").arg("--lazy").arg(at).status();
}

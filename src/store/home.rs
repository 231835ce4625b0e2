//! Where a data directory is at home: so that a copy of it is not taken for the directory itself.
//!
//! What is in a data directory names things outside it: processes by their numbers, ports, instances. A
//! copy names them too, and whoever worked on it would end or take over what belongs to the original. The
//! file `home.json` says which directory it was written in; in a copy that is another one. Always true:
//! nothing is changed before the answer is known, and only the holder of a directory asks.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file in the data directory.
const FILE: &str = "home.json";

/// The version of its format. A field may be added when it has a default.
const FORMAT: u32 = 1;

/// Which directory it is, as the kernel tells directories apart, and where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Home {
    format: u32,
    path: PathBuf,
    inode: u64,
    device: u64,
    /// A device may have another number after a boot.
    boot: String,
}

/// Why a directory is not to be worked on.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Its original is still there.
    #[error(
        "{0} is a copy of {1}, which is still there: what the copy records, the processes, ports and instances, \
         belongs to the original, and would be ended or taken over. Reading works: windlass runs --data {0}. \
         To work on the copy by itself, remove in it what belongs to the original: \
         cd {0} && rm -rf {FILE} instances runner balancer.json",
        .copy.display(), .original.display()
    )]
    Copy { copy: PathBuf, original: PathBuf },
    /// It was moved away under its processes, which go on writing to where it was.
    #[error(
        "{0} was moved here from {1} while its {2} was running, which still works at the old place: \
         move it back, or end that process first: kill {3}",
        .now.display(), .before.display(), .what, .pid
    )]
    Moved { now: PathBuf, before: PathBuf, what: &'static str, pid: u32 },
    #[error("{} cannot be used: {message}", .path.display())]
    Unreadable { path: PathBuf, message: String },
}

/// Sees that `data`, which the caller holds and whose path is the true one, is no copy of a directory that
/// is still there, and writes down where it is. `process` finds the number of what was started for it and
/// still runs.
pub fn settle(data: &Path, process: impl Fn(&'static str) -> Option<u32>) -> Result<(), HomeError> {
    let path = data.join(FILE);
    let unreadable = |message: String| HomeError::Unreadable { path: path.clone(), message };
    let here = Home::of(data).map_err(|error| unreadable(error.to_string()))?;
    match read(&path).map_err(unreadable)? {
        Some(home) if home == here => return Ok(()),
        Some(home) if home.is_copied_to(&here) && home.is_still_there(&here) => {
            return Err(HomeError::Copy { copy: data.to_owned(), original: home.path });
        }
        // What it was copied from is gone.
        Some(home) if home.is_copied_to(&here) => {}
        Some(home) if home.path != here.path && !home.is_still_there(&Home { inode: 0, ..here.clone() }) => {
            for what in ["runner", "balancer"] {
                if let Some(pid) = process(what) {
                    let (now, before) = (data.to_owned(), home.path);
                    return Err(HomeError::Moved { now, before, what, pid });
                }
            }
        }
        _ => {}
    }
    if let Err(error) = here.write(data, &path) {
        // It matters to a copy that is made later, and the next one who opens the directory tries again.
        tracing::warn!(%error, path = %path.display(), "where the directory is at home could not be written down");
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Home>, String> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| error.to_string())?,
    };
    // Not worth a refusal: what is not readable says nothing.
    let Ok(home) = serde_json::from_slice::<Home>(&text) else { return Ok(None) };
    match home.format > FORMAT {
        true => Err(format!("a newer Windlass wrote it (format {}, this one reads {FORMAT})", home.format)),
        false => Ok(Some(home)),
    }
}

impl Home {
    fn of(data: &Path) -> io::Result<Self> {
        let directory = fs::metadata(data)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            format: FORMAT,
            path: data.to_owned(),
            inode: directory.ino(),
            device: directory.dev(),
            boot: boot.trim().to_owned(),
        })
    }

    /// Whether `here`, where this was found, is another directory.
    fn is_copied_to(&self, here: &Self) -> bool {
        self.inode != here.inode || self.boot == here.boot && self.device != here.device
    }

    /// Whether the directory that this speaks of is at its path, and is not `here`.
    fn is_still_there(&self, here: &Self) -> bool {
        Self::of(&self.path).is_ok_and(|there| {
            !self.is_copied_to(&there) && (there.inode, there.device) != (here.inode, here.device)
        })
    }

    fn write(&self, data: &Path, path: &Path) -> io::Result<()> {
        let new = data.join(format!(".{FILE}.new"));
        let mut file = fs::File::create(&new)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: &'static str) -> Option<u32> {
        None
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        fs::copy(from.join(FILE), to.join(FILE)).unwrap();
    }

    #[test]
    fn a_copy_is_refused_as_long_as_its_original_is_there() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        fs::create_dir(&first).unwrap();
        settle(&first, nobody).unwrap();
        settle(&first, nobody).unwrap();
        copy(&first, &second);
        let before = fs::read(second.join(FILE)).unwrap();
        let refused = settle(&second, nobody).unwrap_err();
        assert!(matches!(&refused, HomeError::Copy { original, .. } if *original == first), "{refused}");
        assert_eq!(fs::read(second.join(FILE)).unwrap(), before);
        // The original does not mind.
        settle(&first, nobody).unwrap();
        fs::remove_dir_all(&first).unwrap();
        settle(&second, nobody).unwrap();
    }

    #[test]
    fn a_restored_directory_is_at_home_where_the_lost_one_was() {
        let root = tempfile::tempdir().unwrap();
        let (data, backup) = (root.path().join("data"), root.path().join("backup"));
        fs::create_dir(&data).unwrap();
        settle(&data, nobody).unwrap();
        copy(&data, &backup);
        fs::rename(&data, root.path().join("lost")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::copy(backup.join(FILE), data.join(FILE)).unwrap();
        settle(&data, nobody).unwrap();
    }

    #[test]
    fn a_directory_may_be_moved_unless_its_processes_run() {
        let root = tempfile::tempdir().unwrap();
        let (before, now) = (root.path().join("before"), root.path().join("now"));
        fs::create_dir(&before).unwrap();
        settle(&before, nobody).unwrap();
        fs::rename(&before, &now).unwrap();
        let refused = settle(&now, |what| (what == "balancer").then_some(42)).unwrap_err();
        assert!(refused.to_string().contains("kill 42"), "{refused}");
        settle(&now, nobody).unwrap();
        // At home here from now on.
        settle(&now, |_| Some(42)).unwrap();
    }

    #[test]
    fn after_a_boot_a_device_may_have_another_number() {
        let home = Home { format: 1, path: "/data".into(), inode: 7, device: 1, boot: "a".to_owned() };
        assert!(!home.is_copied_to(&Home { device: 2, boot: "b".to_owned(), ..home.clone() }));
        assert!(home.is_copied_to(&Home { device: 2, ..home.clone() }));
        assert!(home.is_copied_to(&Home { inode: 8, boot: "b".to_owned(), ..home.clone() }));
    }

    #[test]
    fn a_later_format_is_refused_and_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let text = r#"{"format":2,"path":"/data","inode":1,"device":1,"boot":"b"}"#;
        fs::write(data.path().join(FILE), text).unwrap();
        let refused = settle(data.path(), nobody).unwrap_err();
        assert!(refused.to_string().contains("newer Windlass"), "{refused}");
        assert_eq!(fs::read_to_string(data.path().join(FILE)).unwrap(), text);
    }
}

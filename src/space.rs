//! How much room is left on the disk that holds a path, and what is said when there is none.
//!
//! Always true: nothing here is remembered. Who asks again hears how it is now, so that whoever waits
//! for room goes on when there is some.

use std::io;
use std::path::Path;

/// With less, a disk counts as full: what is left is what file systems keep in crumbs.
const FULL: u64 = 1024 * 1024;

/// With less than this, or than [`SHARE`] of the disk where that is less, nothing is begun that writes:
/// enough for what is under way to end and to be recorded.
const SHORT: u64 = 64 * 1024 * 1024;
const SHARE: u64 = 20;

/// With fewer free files than this a disk counts as full, however many bytes are left.
const FILES: u64 = 16;

/// The room on a disk, as an ordinary user has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub free: u64,
    pub total: u64,
    /// Files that can still be made; `None` where the file system sets no limit.
    pub files: Option<u64>,
}

/// The room on the disk that holds `path`, which is there.
pub fn of(path: &Path) -> io::Result<Space> {
    let disk = rustix::fs::statvfs(path)?;
    let files = (disk.f_files > 0).then_some(disk.f_favail);
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Space { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks), files })
}

impl Space {
    /// Whether nothing can be written any more.
    pub fn is_full(&self) -> bool {
        self.free < FULL || self.has_no_files()
    }

    /// Whether nothing should be begun.
    pub fn is_short(&self) -> bool {
        self.free < self.wanted() || self.has_no_files()
    }

    /// How many bytes must be free for something to be begun.
    pub fn wanted(&self) -> u64 {
        SHORT.min(self.total / SHARE)
    }

    fn has_no_files(&self) -> bool {
        self.files.is_some_and(|files| files < FILES)
    }
}

/// `12.3 MiB free of 2.0 GiB`
impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} free of {}", size(self.free), size(self.total))?;
        match self.files.filter(|_| self.has_no_files()) {
            Some(files) => write!(f, ", and room for {files} more files"),
            None => Ok(()),
        }
    }
}

/// A number of bytes for people: `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut units = UNITS.iter().peekable();
    let mut value = bytes as f64 / 1024.0;
    while value >= 1024.0 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    match units.next() {
        Some(unit) if bytes >= 1024 => format!("{value:.1} {unit}"),
        _ => format!("{bytes} bytes"),
    }
}

/// Why a disk takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Full,
    ReadOnly,
}

impl Trouble {
    /// What an error of the system says.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ => None,
        }
    }

    /// The same, of an error that came as a sentence: from git, from another process, through a
    /// protocol. The words are those of the C library without a locale, which this program never sets.
    pub fn told_by(sentence: &str) -> Option<Self> {
        let says = |words: &[&str]| words.iter().any(|words| sentence.contains(words));
        if says(&[
            "No space left on device",
            "Disk quota exceeded",
            "the disk is full",
            "no space is left on the disk",
        ]) {
            return Some(Self::Full);
        }
        says(&["Read-only file system"]).then_some(Self::ReadOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn space(free: u64, total: u64, files: Option<u64>) -> Space {
        Space { free, total, files }
    }

    #[test]
    fn a_disk_is_short_before_it_is_full_and_a_small_disk_later() {
        let large = |free| space(free, 1000 * 1024 * MIB, None);
        assert!(!large(64 * MIB).is_short());
        assert!(large(64 * MIB - 1).is_short() && !large(64 * MIB - 1).is_full());
        assert!(large(MIB - 1).is_full());
        let small = |free| space(free, 100 * MIB, None);
        assert!(!small(5 * MIB).is_short());
        assert!(small(5 * MIB - 1).is_short());
        assert!(space(9 * 1024 * MIB, 1000 * 1024 * MIB, Some(3)).is_full());
    }

    #[test]
    fn the_room_is_said_in_units_that_people_read() {
        assert_eq!(space(12 * MIB + 300 * 1024, 2048 * MIB, None).to_string(), "12.3 MiB free of 2.0 GiB");
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        assert!(space(5 * MIB, 9 * MIB, Some(0)).to_string().ends_with(", and room for 0 more files"));
    }

    #[test]
    fn a_full_disk_is_known_by_its_error_and_by_its_words() {
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let read_only = io::Error::from_raw_os_error(rustix::io::Errno::ROFS.raw_os_error());
        assert_eq!(Trouble::of(&full), Some(Trouble::Full));
        assert_eq!(Trouble::told_by(&format!("git: {full}")), Some(Trouble::Full));
        assert_eq!(Trouble::of(&read_only), Some(Trouble::ReadOnly));
        assert_eq!(Trouble::told_by(&read_only.to_string()), Some(Trouble::ReadOnly));
        assert_eq!(Trouble::told_by("no such file"), None);
    }

    #[test]
    fn the_disk_of_a_directory_has_room_or_not() {
        let space = of(Path::new("/")).unwrap();
        assert!(space.total >= space.free && space.total > 0);
        assert!(of(Path::new("/nowhere/at/all")).is_err());
    }
}

//! Which lines of which files tests ran through, of several reports together.

use std::collections::{BTreeMap, HashMap};

use super::{Error, check_size, cobertura, lcov};
use crate::run::report::Coverage;

/// The lines of all files that were read so far.
#[derive(Debug, Default)]
pub struct Lines {
    files: HashMap<String, File>,
}

#[derive(Debug, Default)]
pub(super) struct File {
    /// Whether something ran through the line, in any report.
    lines: BTreeMap<u32, bool>,
    /// All and covered, where a report only says how many.
    counted: (u64, u64),
}

impl File {
    pub fn line(&mut self, number: u32, covered: bool) {
        *self.lines.entry(number).or_default() |= covered;
    }

    pub fn count(&mut self, all: u64, covered: u64) {
        self.counted = self.counted.max((all, covered.min(all)));
    }

    fn sums(&self) -> (u64, u64) {
        match self.lines.len() as u64 {
            0 => self.counted,
            all => (all, self.lines.values().filter(|covered| **covered).count() as u64),
        }
    }

    fn merge(&mut self, other: Self) {
        for (number, covered) in other.lines {
            self.line(number, covered);
        }
        self.count(other.counted.0, other.counted.1);
    }
}

impl Lines {
    /// Takes in an LCOV file.
    pub fn lcov(&mut self, bytes: &[u8]) -> Result<(), Error> {
        check_size(bytes)?;
        let mut read = Self::default();
        lcov::read(bytes, &mut read)?;
        self.merge(read);
        Ok(())
    }

    /// Takes in a Cobertura file.
    pub fn cobertura(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut read = Self::default();
        cobertura::read(bytes, &mut read)?;
        self.merge(read);
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        for (name, file) in other.files {
            self.add(name, file);
        }
    }

    /// Takes in what was read of a file.
    pub(super) fn add(&mut self, name: String, file: File) {
        match self.files.get_mut(&name) {
            Some(known) => known.merge(file),
            None => drop(self.files.insert(name, file)),
        }
    }

    /// The sums, with the gate that the pipeline asks for.
    pub fn finish(self, at_least: Option<u32>) -> Coverage {
        let mut coverage = Coverage { lines: 0, covered: 0, at_least };
        for (lines, covered) in self.files.values().map(File::sums) {
            coverage.lines = coverage.lines.saturating_add(lines);
            coverage.covered = coverage.covered.saturating_add(covered);
        }
        coverage
    }
}

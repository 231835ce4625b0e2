//! Chance from a seed: the same seed rolls the same acts, though not at the same moments.

use std::time::Duration;

/// Numbers that depend on the seed alone (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// Of the seed that comes so many `after` `WINDLASS_SEED`, or of one that no other test has; prints
    /// which, beside `what`.
    pub fn new(what: &str, after: u64) -> Self {
        let random = || u64::from(std::process::id()) ^ jiff::Timestamp::now().as_nanosecond() as u64;
        let seed =
            crate::number("WINDLASS_SEED").unwrap_or_else(|| random() & 0xffff_ffff).wrapping_add(after);
        println!("{what}: WINDLASS_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 on, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Waits for at most so many milliseconds.
    pub fn pause(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most + 1)));
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len() as u64) as usize)
    }
}

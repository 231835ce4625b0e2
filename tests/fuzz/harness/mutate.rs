//! Makes inputs out of others.

/// A stream of numbers that depends on its seed alone (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, some: &'a [T]) -> Option<&'a T> {
        some.get(self.below(some.len()))
    }

    /// A piece of it, most often a short one.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let longest = bytes.len() - start;
        let length = match self.below(4) {
            0 => self.below(longest + 1),
            _ => self.below(longest.min(24) + 1),
        };
        &bytes[start..start + length]
    }
}

/// What stands at the edges of numbers and formats.
const EDGES: [&str; 24] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65535",
    "2147483647",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
    "NaN",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "ä",
    "😀",
    "\r\n",
    "\t",
    "\u{1b}",
    "%00",
    "\u{fffd}",
];

/// One of the seeds with a few changes.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>], words: &[&str], longest: usize) -> Vec<u8> {
    let mut bytes = random.of(seeds).cloned().unwrap_or_default();
    for _ in 0..1 + random.below(6) {
        change(random, &mut bytes, seeds, words);
        bytes.truncate(longest);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let at = random.below(bytes.len() + 1);
    match random.below(13) {
        // A bit.
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        // A piece goes, comes again, comes many times.
        2 => {
            let end = at + random.below((bytes.len() - at).min(64) + 1);
            bytes.drain(at..end);
        }
        3 => {
            let piece = random.piece(bytes).to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let piece = random.piece(bytes).to_vec();
            let most = if random.below(8) == 0 { 2_000 } else { 12 };
            let times = 2 + random.below(most);
            bytes.splice(at..at, piece.repeat(times.min(1 + 16_384 / piece.len().max(1))));
        }
        5 => bytes.truncate(at),
        // A piece of another seed.
        6 => {
            if let Some(other) = random.of(seeds) {
                let piece = random.piece(other).to_vec();
                bytes.splice(at..at, piece);
            }
        }
        7 => {
            if let Some(other) = random.of(seeds) {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        // A word in the place of another, or between.
        8 | 9 => {
            if let Some(word) = random.of(words) {
                let end = if random.below(2) == 0 { at } else { word_end(bytes, at) };
                bytes.splice(at..end, word.bytes());
            }
        }
        10 => {
            if let Some(edge) = random.of(&EDGES) {
                let end = if random.below(2) == 0 { at } else { word_end(bytes, at) };
                bytes.splice(at..end, edge.bytes());
            }
        }
        // Whole lines.
        11 => {
            let mut lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if lines.len() > 1 {
                let (one, other) = (random.below(lines.len()), random.below(lines.len()));
                match random.below(3) {
                    0 => lines.swap(one, other),
                    1 => drop(lines.remove(one)),
                    _ => lines.insert(other, lines[one].clone()),
                }
                *bytes = lines.concat();
            }
        }
        _ => {
            if let Some(other) = random.of(seeds) {
                let lines: Vec<&[u8]> = other.split_inclusive(|b| *b == b'\n').collect();
                let line = random.of(&lines).map(|line| line.to_vec()).unwrap_or_default();
                let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
                bytes.splice(start..start, line);
            }
        }
    }
}

/// Where the word ends that begins there.
fn word_end(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
}

//! LCOV's tracefiles, as geninfo(1) describes them: `SF:` begins a file, `DA:` is a line, `end_of_record`
//! ends the file. A file may come several times, for each test or each translation unit.

use std::borrow::Cow;

use super::lines::Lines;
use super::{Error, text};

const FORMAT: &str = "LCOV";

pub fn read(bytes: &[u8], into: &mut Lines) -> Result<(), Error> {
    let mut name: Option<Cow<'_, str>> = None;
    let mut files = 0;
    // Of the file at hand: lines found and hit, as `LF:` and `LH:` say.
    let mut counted = (0, 0);
    for (at, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let record = String::from_utf8_lossy(raw.trim_ascii());
        let malformed = || Error::Malformed {
            line: at + 1,
            why: format!("“{}” is no record of {FORMAT}", text::cut(&text::line(&record), 100)),
        };
        let (word, value) = record.split_once(':').unwrap_or((&record, ""));
        match (word, &name) {
            ("SF", _) => {
                files += 1;
                counted = (0, 0);
                name = Some(Cow::Owned(value.to_owned()));
                into.file(value);
            }
            ("DA", Some(name)) => {
                let mut parts = value.split(',');
                let line = parts.next().and_then(|line| line.parse().ok()).ok_or_else(malformed)?;
                // Some writers have fractions, and some negative counts where a counter ran over.
                let hits: f64 = parts.next().and_then(|hits| hits.parse().ok()).ok_or_else(malformed)?;
                into.file(name).line(line, hits > 0.0);
            }
            ("LF", Some(_)) => counted.0 = value.parse().map_err(|_| malformed())?,
            ("LH", Some(_)) => counted.1 = value.parse().map_err(|_| malformed())?,
            ("end_of_record", Some(ended)) => {
                into.file(ended).count(counted.0, counted.1);
                name = None;
            }
            ("DA" | "LF" | "LH", None) => return Err(malformed()),
            _ => {}
        }
    }
    match (files, name) {
        (0, _) => Err(Error::Other { format: FORMAT, why: "it has no line that begins with SF:" }),
        (_, Some(_)) => Err(Error::Other { format: FORMAT, why: "it ends in the middle of a record" }),
        (_, None) => Ok(()),
    }
}

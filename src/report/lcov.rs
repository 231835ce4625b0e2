//! LCOV's tracefiles, as geninfo(1) describes them: `SF:` begins a file, `DA:` is a line, `end_of_record`
//! ends the file. A file may come several times, for each test or each translation unit.

use super::lines::{File, Lines};
use super::{Error, text};

const FORMAT: &str = "LCOV";

pub fn read(bytes: &[u8], into: &mut Lines) -> Result<(), Error> {
    // The file at hand. Its name is looked up once and not with each line: names may be long, and lines many.
    let mut open: Option<(String, File)> = None;
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
        match (word, &mut open) {
            ("SF", _) => {
                files += 1;
                counted = (0, 0);
                // One that was not ended counts as far as it goes.
                if let Some((name, file)) = open.replace((value.to_owned(), File::default())) {
                    into.add(name, file);
                }
            }
            ("DA", Some((_, file))) => {
                let mut parts = value.split(',');
                let line = parts.next().and_then(|line| line.parse().ok()).ok_or_else(malformed)?;
                // Some writers have fractions, and some negative counts where a counter ran over.
                let hits: f64 = parts.next().and_then(|hits| hits.parse().ok()).ok_or_else(malformed)?;
                file.line(line, hits > 0.0);
            }
            ("LF", Some(_)) => counted.0 = value.parse().map_err(|_| malformed())?,
            ("LH", Some(_)) => counted.1 = value.parse().map_err(|_| malformed())?,
            ("end_of_record", _) => {
                if let Some((name, mut file)) = open.take() {
                    file.count(counted.0, counted.1);
                    into.add(name, file);
                }
            }
            ("DA" | "LF" | "LH", None) => return Err(malformed()),
            _ => {}
        }
    }
    match (files, open) {
        (0, _) => Err(Error::Other { format: FORMAT, why: "it has no line that begins with SF:" }),
        (_, Some(_)) => Err(Error::Other { format: FORMAT, why: "it ends in the middle of a record" }),
        (_, None) => Ok(()),
    }
}

//! What a copy of a data directory takes over of its runner.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::journal::{self, Journal, Past};
use super::{Exit, ExitStatus, place};

/// The boot that a copy's records name: none, so that no process of this machine is taken for one of a
/// step's.
const NO_BOOT: &str = "a copy";

/// Writes the records of the runner of `data` into the copy `to`: how steps ended, also those that the
/// journal does not know yet. A step that is under way stays with the original; the copy has it as lost,
/// and no process of it, so that nobody who opens the copy ends it. Answers how many those are.
///
/// # Errors
/// The records cannot be read, or a newer version wrote them; or they cannot be written.
pub fn carry_over(data: &Path, to: &Path) -> io::Result<usize> {
    let from = place::own_directory(data).join("journal");
    let found = journal::read(&from, NO_BOOT)?;
    let mut ended = found.ended;
    let under_way = found.abandoned.len();
    for step in found.abandoned {
        let message = "it was under way when this copy of the data directory was taken".to_owned();
        let exit = Exit {
            status: ExitStatus::Lost { message },
            started_at: step.started_at,
            finished_at: Timestamp::now(),
            log_bytes: std::fs::metadata(&step.log).map_or(0, |log| log.len()),
            flooded: None,
        };
        ended.insert(step.step, Past { born: step.born, exit });
    }
    if ended.is_empty() {
        return Ok(0);
    }
    let own = place::own_directory(to);
    crate::directory::make_private(&own)?;
    Journal::create(&own.join("journal"), NO_BOOT.to_owned(), None, &mut ended)?;
    Ok(under_way)
}

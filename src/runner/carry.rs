//! What a copy of a data directory takes over of its runner.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::journal::{self, Journal, Past};
use super::{Exit, ExitStatus, place};

/// The boot that a copy's records name: none, so that no process of this machine is taken for one of a
/// step's.
const NO_BOOT: &str = "a copy";

/// Writes the records of the runner of `data` into the copy `to`. How a step ended that the copied journal
/// knows is in that journal. Any other one was under way then, and the copy has it as lost, also where it has
/// ended since: its workspace stays with the original. No process is named, so that nobody who opens the copy
/// ends one of the original. Answers how many steps are under way at this moment.
///
/// # Errors
/// The records cannot be read, or a newer version wrote them; or they cannot be written.
pub fn carry_over(data: &Path, to: &Path) -> io::Result<usize> {
    let from = place::own_directory(data).join("journal");
    let found = journal::read(&from, NO_BOOT)?;
    let under_way = found.abandoned.len();
    let message = "it was under way when this copy of the data directory was taken";
    let lost = || ExitStatus::Lost { message: message.to_owned() };
    let mut ended = found.ended;
    for past in ended.values_mut() {
        past.exit.status = lost();
    }
    for step in found.abandoned {
        let exit = Exit {
            status: lost(),
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

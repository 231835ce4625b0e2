//! What the room on the disk of the data directory means for runs: nothing that writes is begun while
//! there is too little, and what failed for want of it says so.

use std::path::Path;

use crate::ids::RunId;
use crate::run::event::{Cause, Failure};
use crate::space::{self, Trouble};

/// Why nothing that writes is to be begun now, in one sentence; `None` while there is room.
pub(super) fn wanting(data: &Path) -> Option<String> {
    let space = space::of(data).ok().filter(space::Space::is_short)?;
    Some(format!(
        "waiting for disk space: {space} at {}, and work begins again at {}; free some, or see what \
         windlass gc would remove",
        data.display(),
        space::size(space.wanted())
    ))
}

/// The failure as people should read it: where the disk was full or read-only that is said, with what to
/// do about it, and it is the infrastructure's, whatever a command made of it.
pub(super) fn explain(failure: Failure, data: &Path, run: &RunId) -> Failure {
    let space = space::of(data).ok();
    let is_full = space.is_some_and(|space| space.is_full());
    let trouble = match failure.cause {
        Cause::Timeout | Cause::Cancelled => return failure,
        Cause::Infrastructure | Cause::Policy => Trouble::told_by(&failure.message),
        // A command says of a full disk what it likes.
        Cause::Task => None,
    };
    // Also what does not speak of the disk, such as a process that could not start, most likely failed
    // for want of room.
    let trouble = trouble.or((is_full && failure.cause != Cause::Policy).then_some(Trouble::Full));
    let advice = match trouble {
        None => return failure,
        Some(Trouble::Full) if is_full => "the disk is full: free some space",
        Some(Trouble::Full) => "the disk was full: free some space",
        Some(Trouble::ReadOnly) => "the file system is read-only: `dmesg` says why; mount it to be written",
    };
    let space = space.map(|space| format!(", which has {space}")).unwrap_or_default();
    Failure::infrastructure(format!(
        "{}. At {}{space}, {advice}, then: windlass replay {run} --failed",
        failure.message.trim_end_matches('.'),
        data.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(failure: Failure) -> Failure {
        explain(failure, Path::new("/nowhere"), &"shop/7".parse().unwrap())
    }

    #[test]
    fn a_full_disk_is_said_with_where_and_what_to_do() {
        let failure =
            Failure::infrastructure("/nowhere/x cannot be made: No space left on device (os error 28)");
        let failure = explained(failure);
        assert_eq!(failure.cause, Cause::Infrastructure);
        assert_eq!(
            failure.message,
            "/nowhere/x cannot be made: No space left on device (os error 28). At /nowhere, the disk was full: \
             free some space, then: windlass replay shop/7 --failed"
        );
        let denied = explained(Failure::policy("/nowhere/x: Read-only file system (os error 30)"));
        assert_eq!(denied.cause, Cause::Infrastructure);
        assert!(denied.message.contains("is read-only"), "{denied:?}");
    }

    #[test]
    fn what_failed_for_another_reason_stays_as_it_is() {
        for failure in [Failure::task("“make” ended with exit code 2"), Failure::infrastructure("no network")]
        {
            assert_eq!(explained(failure.clone()), failure);
        }
    }
}

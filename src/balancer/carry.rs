//! What a balancer has saved, for whoever copies or checks a data directory.

use std::path::Path;

use super::saved::Saved;

/// Whether the state of the balancer of `data` can be read.
///
/// # Errors
/// It cannot; why, in words.
pub fn examine(data: &Path) -> Result<(), String> {
    Saved::read(data).map(drop)
}

/// Writes the state of the balancer of `data` into the copy `to`: its listeners, and none of their
/// targets, whose instances stay with the original. Whoever opens the copy launches its own.
///
/// # Errors
/// The state cannot be read or written; why, in words.
pub fn carry_over(data: &Path, to: &Path) -> Result<(), String> {
    let mut saved = Saved::read(data)?;
    if saved.fleets.is_empty() {
        return Ok(());
    }
    for fleet in &mut saved.fleets {
        fleet.targets.clear();
    }
    let path = to.join(super::STATE);
    saved.write(to).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

use super::{Desired, Move, Observed};

/// The next move towards `desired`, seeing `observed`.
pub fn plan(_observed: &Observed, _desired: &Desired) -> Move {
    todo!("written next")
}

//! Whether this version can serve.

/// Set this to `false` to make a version that builds, passes its unit tests and is never healthy.
pub const HEALTHY: bool = true;

/// What stands in the way, if anything does.
pub fn check() -> Result<(), &'static str> {
    if HEALTHY { Ok(()) } else { Err("the shelves are empty") }
}

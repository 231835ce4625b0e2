//! `${{ … }}`: parsed when the file is read, evaluated once for each attempt.

/// A condition, as behind `if`.
#[derive(Debug, Clone)]
pub struct Expression {}

/// A text with expressions in it.
#[derive(Debug, Clone)]
pub struct Template {}

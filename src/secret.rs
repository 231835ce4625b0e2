//! A value that cannot be printed, logged, serialised or compared by accident.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// Shortest secret that is taken, in bytes: masking a shorter one would shred the log, and not masking
/// it would show it.
pub const SHORTEST: usize = 4;

/// A secret's value. `Debug` hides it; there is no `Display`, no `Serialize`. It is wiped from
/// memory when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(SecretString::from(value))
    }

    /// The value itself: for the process that is given it and for the redactor, nobody else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }
}

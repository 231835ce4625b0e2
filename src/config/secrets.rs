//! Secrets are looked up when a stage needs them, by whoever starts its steps.

use std::path::PathBuf;

use crate::secret::{SHORTEST, Secret};

use super::{SecretSource, Settings};

/// Why a secret has no value. Never says anything of the value itself.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no secret {0}; name it under `secrets:` of the settings")]
    Unknown(String),
    #[error(
        "the secret {name} comes from the environment variable {variable}, which is not set; set it where Windlass is started"
    )]
    NotSet { name: String, variable: String },
    #[error("the secret {name} comes from {}, which cannot be read: {message}", .path.display())]
    Unreadable { name: String, path: PathBuf, message: String },
    /// An empty value is a mistake, and nothing could mask it.
    #[error("the secret {0} is empty")]
    Empty(String),
    /// It could not be masked in what steps say.
    #[error("the secret {0} has fewer than {SHORTEST} bytes, too few to be masked in logs; use a longer one")]
    TooShort(String),
    #[error("the secret {0} is not UTF-8 or has a NUL in it, so it cannot be an environment variable")]
    NotText(String),
}

impl Settings {
    /// The value of the secret `name`, looked up now.
    pub fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        self.secrets.get(name).ok_or_else(|| SecretError::Unknown(name.to_owned()))?.value(name)
    }
}

impl SecretSource {
    /// The value, looked up now. `name` is what it is called in messages.
    pub fn value(&self, name: &str) -> Result<Secret, SecretError> {
        let not_text = || SecretError::NotText(name.to_owned());
        let value = match self {
            SecretSource::Env(variable) => match std::env::var(variable) {
                Ok(value) => value,
                Err(std::env::VarError::NotUnicode(_)) => return Err(not_text()),
                Err(std::env::VarError::NotPresent) => {
                    return Err(SecretError::NotSet { name: name.to_owned(), variable: variable.clone() });
                }
            },
            SecretSource::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| SecretError::Unreadable {
                    name: name.to_owned(),
                    path: path.clone(),
                    message: error.to_string(),
                })?;
                let mut text = String::from_utf8(bytes).map_err(|_| not_text())?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                text
            }
        };
        if value.contains('\0') {
            return Err(not_text());
        }
        match value.len() {
            0 => Err(SecretError::Empty(name.to_owned())),
            length if length < SHORTEST => Err(SecretError::TooShort(name.to_owned())),
            _ => Ok(Secret::new(value)),
        }
    }
}

//! Secrets are looked up when they are needed: those of stages by whoever starts the steps, those that
//! webhooks are signed with and people's tokens by the server.

use std::collections::BTreeMap;
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
    /// It lets somebody in, and could be guessed.
    #[error(
        "the {name} has fewer than {least} bytes, too few to be safe; make a longer one: openssl rand -hex 32"
    )]
    TooFew { name: String, least: usize },
    #[error(
        "the tokens of {person} and {other} are the same, so they do not tell who acts; give each their own"
    )]
    Shared { person: String, other: String },
    #[error("the secret {0} is not UTF-8 or has a NUL in it, so it cannot be an environment variable")]
    NotText(String),
}

/// Fewest bytes of a token: with fewer, it could be guessed over the network.
pub const TOKEN_LEAST: usize = 16;

/// Fewest bytes of what webhooks are signed with: whoever saw one webhook can try short ones at home.
pub const WEBHOOK_LEAST: usize = 8;

impl Settings {
    /// The value of the secret `name`, looked up now.
    pub fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        self.secrets.get(name).ok_or_else(|| SecretError::Unknown(name.to_owned()))?.value(name)
    }

    /// What webhooks are signed with, looked up now: none, one, or while it is changed two.
    ///
    /// # Errors
    ///
    /// The first that has no value, or fewer than [`WEBHOOK_LEAST`] bytes.
    pub fn webhook_secrets(&self) -> Result<Vec<Secret>, SecretError> {
        let sources = self.github.webhook_secrets.iter().enumerate();
        sources.map(|(place, source)| guarding(source, &webhook(place), WEBHOOK_LEAST)).collect()
    }

    /// The token of each person who has one, looked up now, by the name they act under.
    ///
    /// # Errors
    ///
    /// The first that has no value, fewer than [`TOKEN_LEAST`] bytes, or the value of somebody else's: it
    /// would not tell who acts.
    pub fn tokens(&self) -> Result<BTreeMap<String, Secret>, SecretError> {
        let mut tokens: BTreeMap<String, Secret> = BTreeMap::new();
        for (person, found) in &self.people {
            let Some(source) = &found.token else { continue };
            let token = guarding(source, &format!("token of {person}"), TOKEN_LEAST)?;
            if let Some((other, _)) = tokens.iter().find(|(_, other)| other.expose() == token.expose()) {
                return Err(SecretError::Shared { person: person.clone(), other: other.clone() });
            }
            tokens.insert(person.clone(), token);
        }
        Ok(tokens)
    }
}

impl SecretSource {
    /// The value, looked up now. `name` is what it is called in messages.
    pub fn value(&self, name: &str) -> Result<Secret, SecretError> {
        let value = look_up(self, name)?;
        match value.len() {
            length if length < SHORTEST => Err(SecretError::TooShort(name.to_owned())),
            _ => Ok(Secret::new(value)),
        }
    }
}

fn webhook(place: usize) -> String {
    format!("{} of github.webhook_secrets", if place == 0 { "first" } else { "second" })
}

/// The value of a secret that lets somebody in.
fn guarding(source: &SecretSource, name: &str, least: usize) -> Result<Secret, SecretError> {
    let value = look_up(source, name)?;
    match value.len() {
        length if length < least => Err(SecretError::TooFew { name: name.to_owned(), least }),
        _ => Ok(Secret::new(value)),
    }
}

/// A value that is text and not empty.
fn look_up(source: &SecretSource, name: &str) -> Result<String, SecretError> {
    let not_text = || SecretError::NotText(name.to_owned());
    let value = match source {
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
    match value.is_empty() {
        true => Err(SecretError::Empty(name.to_owned())),
        false => Ok(value),
    }
}

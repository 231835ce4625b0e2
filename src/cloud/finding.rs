//! What was found out about a cloud before it is used.

use serde::Serialize;

use super::Error;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `bucket acme-artifacts`
    pub about: String,
    pub found: Found,
    /// What is so, or what is wrong.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Ok,
    /// It would stop a run.
    Missing,
    /// It could not be checked.
    Unchecked,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn ok(&mut self, about: impl Into<String>, says: impl Into<String>) {
        self.add(about, Found::Ok, says, None);
    }

    pub fn missing(&mut self, about: impl Into<String>, says: impl Into<String>, next: impl Into<String>) {
        self.add(about, Found::Missing, says, Some(next.into()));
    }

    pub fn unchecked(&mut self, about: impl Into<String>, says: impl Into<String>, next: impl Into<String>) {
        self.add(about, Found::Unchecked, says, Some(next.into()));
    }

    /// What an error says of the thing that was looked at.
    pub fn failed(&mut self, about: impl Into<String>, error: &Error, next: &str) {
        match error {
            Error::NotFound(_) | Error::Denied(_) | Error::Conflict(_) | Error::NoCapacity(_) => {
                self.missing(about, error.to_string(), next);
            }
            _ => self.unchecked(about, error.to_string(), "try again in a while"),
        }
    }

    fn add(&mut self, about: impl Into<String>, found: Found, says: impl Into<String>, next: Option<String>) {
        self.0.push(Finding { about: about.into(), found, says: says.into(), next });
    }
}

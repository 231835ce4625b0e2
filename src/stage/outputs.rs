//! What steps hand on: lines of `key=value` in the file `WINDLASS_OUTPUT`, from its text.

use std::collections::BTreeMap;

/// Why a text is not what a step hands on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("WINDLASS_OUTPUT takes lines of key=value, not {0:?}")]
    NoValue(String),
    #[error("an output's name has letters, digits, hyphens and underscores, unlike {0:?}")]
    Name(String),
    /// It could be handed on to no step: an environment variable ends at a NUL.
    #[error("the output {0:?} has a NUL in its value, which no environment variable can have")]
    Nul(String),
}

/// Of a line that is wrong, as much is said, in characters.
const SAID: usize = 200;

/// The outputs, each by its name; of two of one name, the later one. Lines of nothing but blanks are passed
/// over.
pub fn read(text: &str) -> Result<BTreeMap<String, &str>, Wrong> {
    let said = |text: &str| text.chars().take(SAID).collect::<String>();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut outputs = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(|| Wrong::NoValue(said(line)))?;
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Wrong::Name(said(name)));
        }
        if value.contains('\0') {
            return Err(Wrong::Nul(name.to_owned()));
        }
        outputs.insert(name.to_owned(), value);
    }
    Ok(outputs)
}

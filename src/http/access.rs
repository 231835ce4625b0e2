//! Who may ask, and under which names: what the settings say of that, ready to be compared.
//!
//! Always true: of a token only its SHA-256 digest is kept, and every comparison takes the same time
//! whichever token was meant.

use std::sync::{Arc, RwLock};

use sha2::{Digest as _, Sha256};

use crate::config::{SecretError, Settings};

/// Fewest bytes of a token. Twice as many random hexadecimal digits cannot be guessed; fewer bytes than
/// this could be.
pub const SHORTEST: usize = 16;

/// The credentials and names of a server. Replaced as a whole when the settings are read again.
#[derive(Clone, Default)]
pub struct Access(Arc<RwLock<Arc<Rules>>>);

#[derive(Default)]
struct Rules {
    hosts: Vec<String>,
    tokens: Vec<Token>,
}

struct Token {
    person: String,
    digest: [u8; 32],
}

/// Why the settings give no credentials.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(
        "the token of {0} has fewer than {SHORTEST} bytes and could be guessed; make one: openssl rand -hex 32"
    )]
    TooShort(String),
    #[error(
        "{0} and {1} have the same token, so nobody could tell who of them acts; give each one of their own"
    )]
    Same(String, String),
    /// `serve` listens beyond this machine, and nobody would have to prove anything any more.
    #[error("the settings name no token any more, and the server listens beyond this machine")]
    Open,
}

/// A proof that was sent along with a request.
pub(super) enum Proof<'a> {
    Bearer(&'a str),
    Basic { person: &'a str, token: &'a str },
}

impl Access {
    /// What `settings` say; the tokens are looked up now.
    pub fn new(settings: &Settings) -> Result<Self, AccessError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Rules::new(settings)?)))))
    }

    /// Takes what `settings` say from now on. With an error everything stays as it was. A server that
    /// asks for tokens does not stop to.
    pub fn replace(&self, settings: &Settings) -> Result<(), AccessError> {
        let rules = Rules::new(settings)?;
        if rules.tokens.is_empty() && self.asks() {
            return Err(AccessError::Open);
        }
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(rules);
        Ok(())
    }

    /// Whether requests must prove who they come from.
    pub fn asks(&self) -> bool {
        !self.rules().tokens.is_empty()
    }

    /// Whose proof it is.
    pub(super) fn person(&self, proof: &Proof<'_>) -> Option<String> {
        let (name, token) = match proof {
            Proof::Bearer(token) => (None, token),
            Proof::Basic { person, token } => (Some(*person), token),
        };
        let digest = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        // All of them, whichever it is.
        for token in &self.rules().tokens {
            if same(&token.digest, &digest) && name.is_none_or(|name| name == token.person) {
                found = Some(token.person.clone());
            }
        }
        found
    }

    /// Whether the settings name this host; in any case, without a port.
    pub(super) fn names(&self, host: &str) -> bool {
        self.rules().hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn rules(&self) -> Arc<Rules> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Rules {
    fn new(settings: &Settings) -> Result<Self, AccessError> {
        let mut tokens: Vec<Token> = Vec::new();
        for (person, about) in &settings.people {
            let Some(source) = &about.token else { continue };
            let value = source.value(&format!("people.{person}.token"))?;
            if value.expose().len() < SHORTEST {
                return Err(AccessError::TooShort(person.clone()));
            }
            let digest = Sha256::digest(value.expose().as_bytes()).into();
            if let Some(other) = tokens.iter().find(|other| other.digest == digest) {
                return Err(AccessError::Same(other.person.clone(), person.clone()));
            }
            tokens.push(Token { person: person.clone(), digest });
        }
        Ok(Self { hosts: settings.server.hosts.clone(), tokens })
    }
}

/// Compares without telling by its time where they differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

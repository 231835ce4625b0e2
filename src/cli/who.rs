//! Who acts: whoever says so, or the user that runs the command. Nothing proves it, and that is
//! recorded with the name.

use super::Error;
use crate::run::event::Actor;

#[derive(Debug, Clone, clap::Args)]
pub struct Who {
    /// Who acts, for the history; without it, the user that runs this command.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

impl Who {
    pub fn actor(&self) -> Result<Actor, Error> {
        match &self.name {
            Some(name) => Actor::named(name)
                .map_err(|error| Error::input(format!("--as: {error}")).hint("for example: --as octocat")),
            None => Ok(user()),
        }
    }
}

fn user() -> Actor {
    let known = std::env::var("USER").ok().and_then(|name| Actor::named(&name).ok());
    known.unwrap_or_else(|| Actor::unverified(format!("uid-{}", rustix::process::getuid().as_raw())))
}

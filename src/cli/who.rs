//! Who acts: whoever says so, or the user that runs the command. Nothing proves it, and that is
//! recorded with the name.

use super::Error;
use super::reach::Where;
use crate::run::event::Actor;

#[derive(Debug, Clone, clap::Args)]
pub struct Who {
    /// Who acts, for the history; without it, the user that runs this command.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

impl Who {
    /// Who acts at `place`. Where a token proves that, nobody can be somebody else.
    pub fn actor_at(&self, place: &Where) -> Result<Actor, Error> {
        match place.is_proved() && self.name.is_some() {
            true => Err(Error::input("--as is not for a server that a token proves to who acts")
                .hint("leave out --as, or unset WINDLASS_TOKEN")),
            false => self.actor(),
        }
    }

    pub fn actor(&self) -> Result<Actor, Error> {
        match &self.name {
            Some(name) => Actor::named(name)
                .map_err(|error| Error::input(format!("--as: {error}")).hint("for example: --as octocat")),
            None => Ok(user()),
        }
    }
}

fn user() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    let named = std::env::var("USER").ok().or_else(|| user_name(uid));
    let known = named.and_then(|name| Actor::named(&name).ok());
    known.unwrap_or_else(|| Actor::unverified(format!("uid-{uid}")))
}

/// The user's name where the environment does not tell, as in a container; see passwd(5).
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    };
    users.lines().find_map(of)
}

//! Where a command finds its runs: at a server, at the process that holds the data directory, or in the
//! directory itself when nobody does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::app::{self, House};
use crate::config::Settings;
use crate::http::Client;
use crate::http::client::AddressError;
use crate::ids::RunId;
use crate::secret::Secret;
use crate::store::Store;
use crate::store::hold::{Hold, HoldError};

/// A process that has just taken the directory gets so long until it serves, and one that leaves it
/// until it has let go. Both take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks at a directory that is held and not served.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the runs are.
#[derive(Debug, Clone, clap::Args)]
pub struct Where {
    /// The data directory: runs, logs, artifacts and images. Without it,
    /// $XDG_STATE_HOME/windlass or ~/.local/state/windlass.
    #[arg(long, env = "WINDLASS_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server to ask instead, such as http://127.0.0.1:7430; WINDLASS_TOKEN proves who asks
    #[arg(long, env = "WINDLASS_SERVER", value_name = "URL", conflicts_with = "data")]
    server: Option<String>,
}

/// Where a command asks.
#[derive(Debug, Clone)]
pub enum Place {
    /// A data directory, absolute. It need not exist.
    Data(PathBuf),
    Server {
        client: Client,
        url: String,
    },
}

impl Place {
    /// Whether it is a directory that nobody holds. Somebody may hold one who does not serve it yet: then
    /// it is not for us to say that nobody carries on.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Data(data) => Hold::holder(data).is_ok_and(|holder| holder.is_none()),
            Self::Server { .. } => false,
        }
    }

    /// The directory, where it is one of this machine.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Data(data) => Some(data),
            Self::Server { .. } => None,
        }
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

impl From<&PathBuf> for Place {
    fn from(data: &PathBuf) -> Self {
        Self::Data(data.clone())
    }
}

impl From<&Path> for Place {
    fn from(data: &Path) -> Self {
        Self::Data(data.to_owned())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(data) => write!(f, "{}", data.display()),
            Self::Server { url, .. } => write!(f, "{url}"),
        }
    }
}

/// Who answers.
pub enum Reach {
    /// The process that holds the directory.
    Holder(Client),
    /// Nobody holds it: what is stored answers. `None` for a directory that has no runs.
    Stored(Option<Arc<dyn Store>>),
}

/// Who takes a run on.
pub enum Driver {
    /// The process that holds the directory.
    Holder(Client),
    /// This process, which holds it now.
    Us(Box<House>),
}

impl Where {
    /// Where to ask: the server that is named, else the data directory.
    pub fn place(&self) -> Result<Place, Error> {
        let Some(url) = self.named_server() else { return Ok(Place::Data(self.directory()?)) };
        let token = std::env::var("WINDLASS_TOKEN").ok().filter(|token| !token.is_empty());
        let client = Client::server(url, token.map(Secret::new)).map_err(|error| match error {
            AddressError::Https(_) => Error::input(error)
                .hint(
                    "a tunnel does it: ssh -L 7430:127.0.0.1:7430 HOST, then --server http://127.0.0.1:7430",
                )
                .hint("or a proxy on this machine that speaks https to the server"),
            AddressError::Shape(_) => Error::input(error).hint("for example: --server http://127.0.0.1:7430"),
            AddressError::Token => Error::input(error).hint("WINDLASS_TOKEN is the token alone, on one line"),
        })?;
        Ok(Place::Server { client, url: url.to_owned() })
    }

    /// The data directory, for a command that works in it. Absolute; it need not exist.
    pub fn data(&self) -> Result<PathBuf, Error> {
        match self.named_server() {
            None => self.directory(),
            Some(server) => Err(Error::input(format!(
                "this command works in a data directory, and cannot ask a server at {server:?}"
            ))
            .hint("leave out --server and WINDLASS_SERVER, and name a data directory with --data")),
        }
    }

    /// Whether a server is asked, with a token.
    pub fn is_proved(&self) -> bool {
        self.named_server().is_some() && std::env::var("WINDLASS_TOKEN").is_ok_and(|token| !token.is_empty())
    }

    fn named_server(&self) -> Option<&str> {
        self.server.as_deref().filter(|server| !server.is_empty())
    }

    fn directory(&self) -> Result<PathBuf, Error> {
        let given = self.data.clone().filter(|data| !data.as_os_str().is_empty());
        let data = given.or_else(default).ok_or_else(|| {
            Error::input("there is no home directory to keep runs in").hint("name a directory: --data DIR")
        })?;
        Ok(std::path::absolute(data)?)
    }

    /// What a command needs besides to find the same runs: ` --data DIR`, ` --server URL`, or nothing.
    pub fn suffix(&self) -> String {
        if let Some(server) = self.named_server() {
            return match std::env::var("WINDLASS_SERVER").is_ok_and(|named| named == server) {
                true => String::new(),
                false => format!(" --server {}", quoted(server)),
            };
        }
        let named = std::env::var_os("WINDLASS_DATA").map(PathBuf::from);
        match &self.data {
            Some(data) if self.data != named && !data.as_os_str().is_empty() => {
                format!(" --data {}", quoted(&data.display().to_string()))
            }
            _ => String::new(),
        }
    }
}

/// The XDG Base Directory Specification: a relative path there counts as none.
fn default() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("windlass"))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@' | '%');
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Looks who answers for `place`, for a command that only reads.
pub async fn reach(place: impl Into<Place>) -> Result<Reach, Error> {
    match place.into() {
        Place::Server { client, .. } => Ok(Reach::Holder(client)),
        Place::Data(data) => match connect(&data).await? {
            Some(client) => Ok(Reach::Holder(client)),
            None => Ok(Reach::Stored(app::read_store(&data).await?)),
        },
    }
}

/// Finds the holder of `place`, or becomes it: whoever is first. `what` tells others who we are.
pub async fn driver(place: impl Into<Place>, what: &str, settings: &Settings) -> Result<Driver, Error> {
    let data = match place.into() {
        Place::Server { client, .. } => return Ok(Driver::Holder(client)),
        Place::Data(data) => data,
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(client) = connect(&data).await? {
            return Ok(Driver::Holder(client));
        }
        match House::open(&data, what, settings).await {
            Ok(house) => return Ok(Driver::Us(Box::new(house))),
            Err(app::Error::Hold(HoldError::Held { .. } | HoldError::Unnamed { .. }))
                if tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn connect(data: &Path) -> Result<Option<Client>, Error> {
    Client::connect(data).await.map_err(|error| {
        Error::world(format!("cannot ask the process that holds {}: {error}", data.display()))
    })
}

/// What is said of a run that is not there.
pub fn no_run(run: &RunId, place: impl Into<Place>) -> Error {
    let place = place.into();
    let error = Error::input(format!("there is no run {run} in {place}"));
    match place {
        Place::Data(data) => error.hint(format!("windlass runs --data {}", data.display())),
        Place::Server { url, .. } => error.hint(format!("windlass runs --server {url}")),
    }
    .hint("--data or WINDLASS_DATA names another data directory")
}

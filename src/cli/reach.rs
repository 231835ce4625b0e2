//! Where a command finds its runs: at the process that holds the data directory, or in the directory
//! itself when nobody does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::app::{self, House};
use crate::config::Settings;
use crate::http::Client;
use crate::ids::RunId;
use crate::store::Store;
use crate::store::hold::HoldError;

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
    /// The server to ask.
    #[arg(long, env = "WINDLASS_SERVER", value_name = "URL", hide = true)]
    server: Option<String>,
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
    /// The data directory, absolute. It need not exist.
    pub fn data(&self) -> Result<PathBuf, Error> {
        if let Some(server) = self.server.as_deref().filter(|server| !server.is_empty()) {
            return Err(Error::input(format!("a server at {server:?} is not supported yet"))
                .hint("leave out --server and WINDLASS_SERVER, and name a data directory with --data"));
        }
        let given = self.data.clone().filter(|data| !data.as_os_str().is_empty());
        let data = given.or_else(default).ok_or_else(|| {
            Error::input("there is no home directory to keep runs in").hint("name a directory: --data DIR")
        })?;
        Ok(std::path::absolute(data)?)
    }

    /// What a command needs besides to find the same directory: ` --data DIR`, or nothing.
    pub fn suffix(&self) -> String {
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

/// Looks who answers for `data`, for a command that only reads.
pub async fn reach(data: &Path) -> Result<Reach, Error> {
    match connect(data).await? {
        Some(client) => Ok(Reach::Holder(client)),
        None => Ok(Reach::Stored(app::read_store(data).await?)),
    }
}

/// Finds the holder of `data`, or becomes it: whoever is first. `what` tells others who we are.
pub async fn driver(data: &Path, what: &str, settings: &Settings) -> Result<Driver, Error> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(client) = connect(data).await? {
            return Ok(Driver::Holder(client));
        }
        match House::open(data, what, settings).await {
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
pub fn no_run(run: &RunId, data: &Path) -> Error {
    Error::input(format!("there is no run {run} in {}", data.display()))
        .hint(format!("windlass runs --data {}", data.display()))
        .hint("--data or WINDLASS_DATA names another data directory")
}

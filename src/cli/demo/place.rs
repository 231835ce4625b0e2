//! Where the demo takes place: its data directory, with all that a server is set up with.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::push::REPOSITORY;
use super::sample;
use crate::cli::Error;
use crate::secret::Secret;

/// The file of the webhook's secret, beside the settings.
const SECRET: &str = "webhook-secret";

/// The directory of the sample's repository, beside the settings.
const SAMPLE: &str = "storefront";

/// The demo's directory. One that nobody named is removed with this.
pub struct Place {
    pub data: PathBuf,
    pub settings: PathBuf,
    /// The directory of the pipeline files.
    pub pipelines: PathBuf,
    /// Where the sample's repository is to be.
    pub repository: PathBuf,
    /// What webhooks are signed with.
    pub secret: Secret,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// Makes the directory and the files in it, the repository excepted.
    pub fn make(named: Option<&Path>) -> Result<Self, Error> {
        let (data, temporary) = directory(named)?;
        let pipelines = data.join("pipelines");
        std::fs::create_dir(&pipelines)?;
        std::fs::write(pipelines.join("storefront.yaml"), sample::PIPELINE)?;
        let settings = data.join("windlass.yaml");
        std::fs::write(&settings, settings_text())?;
        let secret = random()?;
        let mut private = std::fs::OpenOptions::new();
        private
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(data.join(SECRET))?
            .write_all(secret.as_bytes())?;
        let (repository, secret) = (data.join(SAMPLE), Secret::new(secret));
        Ok(Self { data, settings, pipelines, repository, secret, _temporary: temporary })
    }
}

/// The data directory, private and empty.
fn directory(named: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    let Some(named) = named else {
        let temporary = tempfile::Builder::new().prefix("windlass-demo-").tempdir()?;
        return Ok((temporary.path().canonicalize()?, Some(temporary)));
    };
    crate::directory::make_private(named)?;
    let data = named.canonicalize()?;
    if std::fs::read_dir(&data)?.next().is_some() {
        return Err(Error::input(format!("{} is not empty; the demo starts from nothing", data.display()))
            .hint("name a new directory, or leave out --data"));
    }
    Ok((data, None))
}

/// The settings, with other ports where somebody else has those that are named there, and with what a
/// server has to know of GitHub.
fn settings_text() -> String {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut text = sample::SETTINGS.to_owned();
    let mut next = 7433;
    for port in [7431, 7432] {
        if !free(port) {
            while next < 7600 && !free(next) {
                next += 1;
            }
            text = text.replace(&format!("port: {port}"), &format!("port: {next}"));
            next += 1;
        }
    }
    text + &format!(
        "\n# Webhooks are signed with this secret. GitHub is not asked for the commits: they are here.\n\
         github:\n  webhook_secrets: [{{ file: {SECRET} }}]\n  repositories: {{ {REPOSITORY}: {{ url: {SAMPLE} }} }}\n"
    )
}

/// 256 bits that nobody can guess, in hexadecimal.
fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn the_settings_know_the_repository_and_the_secret() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let place = Place::make(Some(directory.path())).unwrap();
        let settings = Settings::read(&place.settings).unwrap();
        assert_eq!(settings.github.url(REPOSITORY), Some(SAMPLE));
        let secrets = settings.webhook_secrets().unwrap();
        assert_eq!((secrets.len(), secrets[0].expose()), (1, place.secret.expose()));
        let mode = std::fs::metadata(place.data.join(SECRET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(place.secret.expose(), random().unwrap());
    }
}

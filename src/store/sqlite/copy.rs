//! A copy of the whole file, also while another process writes to it.

use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use super::error::{failed, understand};
use super::{FILE, Sqlite, schema};
use crate::store::Error;

impl Sqlite {
    /// Writes the store in `directory` as it is at this moment to a new file in `to`, which has none, in
    /// whatever format it has. Whoever writes meanwhile is neither waited for nor held up. Answers
    /// whether there is a store.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Damaged`], [`Error::Full`].
    pub async fn copy(directory: &Path, to: &Path) -> Result<bool, Error> {
        let (path, to) = (directory.join(FILE), to.join(FILE));
        if Self::is_missing(directory) {
            return Ok(false);
        }
        let name = to.to_str().ok_or_else(|| failed(&to, "its path is not UTF-8"))?;
        let understand = |error| understand(&path, error);
        let mut connection = schema::options(&path).read_only(true).connect().await.map_err(understand)?;
        if schema::format(&path, &mut connection).await? == 0 {
            return Ok(false);
        }
        sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await.map_err(understand)?;
        connection.close().await.map_err(understand)?;
        Ok(true)
    }
}

//! Opening a database file: its settings, its format, and how an older format becomes this one.
//!
//! The format is SQLite's `user_version`, and says how the whole data directory is laid out. A file
//! of a newer format, or of somebody else, is recognised before anything is written to it.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, query_scalar, raw_sql};

use super::error::{damaged, failed, understand};
use crate::store::Error;

/// What turns format `n` into format `n + 1`, from format 0, the empty file.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/0001_journal.sql"), include_str!("../migrations/0002_server.sql")];

/// The format that this program writes.
pub const FORMAT: i64 = MIGRATIONS.len() as i64;

/// "WIND", in the header of every store, so that no other program's database is taken for one.
const APPLICATION: i64 = 0x5749_4E44;

/// How long to wait for another process that writes: far longer than any transaction of ours.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all connections have in common.
pub fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
}

/// A connection for the one who writes, to a file that has this program's format afterwards; makes the
/// file when there is none.
pub async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    prepare(path, options(path).create_if_missing(true)).await
}

/// The same, to a file that was open before: one that was taken away meanwhile is not made anew.
pub async fn reconnect(path: &Path) -> Result<SqliteConnection, Error> {
    prepare(path, options(path)).await
}

async fn prepare(path: &Path, options: SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    let understand = |error| understand(path, error);
    let mut connection = options.connect().await.map_err(understand)?;
    let mut found = format(path, &mut connection).await?;
    // Only ever set where it is not: changing it cannot wait for other processes.
    let mode: String =
        query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.map_err(understand)?;
    if mode != "wal" {
        raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(understand)?;
    }
    while found < FORMAT {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(understand)?;
        // Another process may have been quicker.
        found = format(path, &mut transaction).await?;
        let next = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found));
        if let Some(migration) = next {
            raw_sql(*migration).execute(&mut *transaction).await.map_err(understand)?;
            found += 1;
            let recorded = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {found}"));
            raw_sql(recorded).execute(&mut *transaction).await.map_err(understand)?;
        }
        transaction.commit().await.map_err(understand)?;
    }
    Ok(connection)
}

/// What is known of a file that is only going to be read.
pub enum Readable {
    Yes,
    /// Nobody has written a store to it yet.
    Empty,
}

/// Whether a connection that only reads understands the file.
pub async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<Readable, Error> {
    match format(path, connection).await? {
        0 => Ok(Readable::Empty),
        FORMAT => Ok(Readable::Yes),
        older => {
            let message =
                format!("it has the older format {older}; any command that writes brings it up to date");
            Err(failed(path, message))
        }
    }
}

/// The format of the file; 0 for one that nobody has written a store to.
pub async fn format(path: &Path, connection: &mut SqliteConnection) -> Result<i64, Error> {
    let understand = |error| understand(path, error);
    let (found, application, tables): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT user_version FROM pragma_user_version),
                (SELECT application_id FROM pragma_application_id),
                (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(connection)
    .await
    .map_err(understand)?;
    let ours = application == APPLICATION || (found == 0 && application == 0 && tables == 0);
    match found {
        _ if !ours => Err(damaged(path, "it is a database of another program")),
        found if found > FORMAT => {
            Err(Error::Newer { path: path.display().to_string(), found, known: FORMAT })
        }
        found if found < 0 => Err(damaged(path, format!("there is no format {found}"))),
        found => Ok(found),
    }
}

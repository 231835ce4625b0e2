//! Opening a database file: its settings, its format, and how an older format becomes this one.
//!
//! The format is SQLite's `user_version`, and says how the whole data directory is laid out. A file
//! of a newer format, or of somebody else, is recognised before anything is written to it.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, query_scalar, raw_sql};

use super::error::{damaged, failed, understand};
use crate::store::Error;

/// What turns format `n` into format `n + 1`, from format 0, the empty file.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001_journal.sql"),
    include_str!("../migrations/0002_server.sql"),
    include_str!("../migrations/0003_bodies.sql"),
];

/// The format that this program writes.
pub const FORMAT: i64 = MIGRATIONS.len() as i64;

/// "WIND", in the header of every store, so that no other program's database is taken for one.
const APPLICATION: i64 = 0x5749_4E44;

/// Bytes of a database's header.
const HEADER: usize = 100;

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
    check_length(path)?;
    // What a statement that fails takes back is kept in memory: a file for it costs as much as a commit.
    let options = options.pragma("temp_store", "memory");
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

/// Sees that the file is as long as its header says: SQLite itself would find out only when it comes to
/// what is missing. While there is a write-ahead log the file may be shorter, and is left to SQLite.
///
/// # Errors
/// [`Error::Damaged`] for a file that was cut off, as by a copy that was not finished.
pub fn check_length(path: &Path) -> Result<(), Error> {
    let mut header = [0; HEADER];
    let io = |error: io::Error| failed(path, format!("it cannot be read: {error}"));
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(io)?,
    };
    let length = file.metadata().map_err(io)?.len();
    if length == 0 || has_log(path) {
        return Ok(());
    }
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, format!("it is cut off after {length} bytes")));
        }
        read => read.map_err(io)?,
    }
    let wanted = length_of(&header);
    match wanted.is_some_and(|wanted| length < wanted) {
        true => {
            let wanted = wanted.unwrap_or_default();
            Err(damaged(path, format!("it is cut off: it has {length} of {wanted} bytes")))
        }
        false => Ok(()),
    }
}

/// How long a database is, by its header; `None` where that does not say. See the database file format,
/// https://www.sqlite.org/fileformat2.html, section 1.3.
fn length_of(header: &[u8; HEADER]) -> Option<u64> {
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?)) };
    let page = u16::from_be_bytes(header.get(16..18)?.try_into().ok()?);
    let page = if page == 1 { 65_536 } else { u64::from(page) };
    // The number of pages counts only where it was written with the last change.
    let counts = header.starts_with(b"SQLite format 3\0") && number(24)? == number(92)?;
    counts.then_some(u64::from(number(28)?) * page)
}

/// Whether there are commits that are not in the file yet.
pub fn has_log(path: &Path) -> bool {
    let beside = |suffix: &str| {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        std::fs::metadata(file).is_ok_and(|file| file.len() > 0)
    };
    beside("-wal") || beside("-journal")
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

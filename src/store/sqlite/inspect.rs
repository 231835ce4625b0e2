//! Everything that a store holds, as it lies there, for whoever judges whether it is sound. Nothing is
//! refused here for what it says; what cannot be understood is answered as a sentence. All answers of one
//! inspection are of one moment, whoever writes meanwhile.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection, query, query_as};

use super::error::understand;
use super::read::{self, Fields};
use super::{FILE, Sqlite, schema};
use crate::ids::StreamId;
use crate::store::{Delivery, Error, Event, FleetRow, RunRow};

/// The first format that has an inbox, and the last whose deliveries have their bodies in their rows.
const WITH_INBOX: i64 = 2;

/// An event as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: i64,
    pub at: Result<Timestamp, String>,
    pub event: Result<Event, String>,
}

/// All that is no journal.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    pub runs: Vec<Result<RunRow, String>>,
    pub fleets: Vec<Result<FleetRow, String>>,
    /// Rows that stand at the place of another journal's first event.
    pub misplaced: Vec<String>,
    /// By pipeline: the number of its newest run.
    pub numbers: Vec<(String, i64)>,
    /// Which run a trigger key created.
    pub triggers: Vec<(String, String)>,
    /// With their bodies as far as `Some(vec![])` says that there is one.
    pub deliveries: Vec<Result<Delivery, String>>,
}

/// A store that is looked through.
pub struct Inspection {
    path: PathBuf,
    connection: SqliteConnection,
    format: i64,
}

impl Sqlite {
    /// Begins to look through the store in `directory`, for which nothing is written. `None` when there
    /// is none.
    pub async fn inspect(directory: &Path) -> Result<Option<Inspection>, Error> {
        if Self::is_missing(directory) {
            return Ok(None);
        }
        let path = directory.join(FILE);
        let failed = |error| understand(&path, error);
        let mut connection = schema::options(&path).read_only(true).connect().await.map_err(failed)?;
        let format = schema::format(&path, &mut connection).await?;
        if format == 0 {
            return Ok(None);
        }
        connection.execute("BEGIN").await.map_err(failed)?;
        Ok(Some(Inspection { path, connection, format }))
    }
}

impl Inspection {
    pub fn format(&self) -> i64 {
        self.format
    }

    /// What SQLite itself finds wrong, in its words; at most 100 things.
    pub async fn integrity(&mut self) -> Result<Vec<String>, Error> {
        let path = &self.path;
        let found: Vec<(String,)> = query_as("PRAGMA integrity_check(100)")
            .fetch_all(&mut self.connection)
            .await
            .map_err(|error| understand(path, error))?;
        let mut found: Vec<String> =
            found.into_iter().map(|(line,)| line).filter(|line| line != "ok").collect();
        let orphans: Vec<(String, Option<i64>)> =
            query_as("SELECT \"table\", rowid FROM pragma_foreign_key_check LIMIT 100")
                .fetch_all(&mut self.connection)
                .await
                .map_err(|error| understand(path, error))?;
        found.extend(orphans.into_iter().map(|(table, row)| {
            let row = row.unwrap_or_default();
            format!("row {row} of {table} belongs to no event")
        }));
        Ok(found)
    }

    /// Hands each journal over, whole and in order. The events of one are in memory at a time.
    pub async fn journals(&mut self, mut each: impl FnMut(&str, Vec<Entry>)) -> Result<(), Error> {
        let path = &self.path;
        let failed = |error| understand(path, error);
        let mut rows =
            query("SELECT stream, sequence, format, at, payload FROM events ORDER BY stream, sequence")
                .fetch(&mut self.connection);
        let mut name = String::new();
        let mut stream: Option<StreamId> = None;
        let mut journal = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let row = Fields { path, row: &row };
            let of = row.text(0)?;
            if of != name {
                if !journal.is_empty() {
                    each(&name, std::mem::take(&mut journal));
                }
                of.clone_into(&mut name);
                stream = name.parse().ok();
            }
            let sequence = row.integer(1)?;
            let event = match &stream {
                None => Err("there is no such journal".to_owned()),
                Some(stream) => {
                    let number = u64::try_from(sequence).unwrap_or_default();
                    let event = read::decode(path, stream, number, row.integer(2)?, row.text(4)?);
                    event.map_err(|error| message(&error))
                }
            };
            let at = row.time(3).map_err(|error| message(&error));
            journal.push(Entry { sequence, at, event });
        }
        if !journal.is_empty() {
            each(&name, journal);
        }
        Ok(())
    }

    /// The lists, the numbers, and the inbox.
    pub async fn lists(&mut self) -> Result<Lists, Error> {
        let path = &self.path;
        let failed = |error| understand(path, error);
        let connection = &mut self.connection;
        let runs = query(
            "SELECT pipeline, number, status, ended, commit_sha, actor, waiting_for, created_at, updated_at
               FROM runs ORDER BY position",
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        let fleets = query("SELECT service, environment, ended, updated_at FROM fleets ORDER BY position")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let misplaced: Vec<(String,)> = query_as(
            "SELECT 'run:' || pipeline || '/' || number AS name FROM runs JOIN events USING (position)
              WHERE sequence <> 1 OR stream <> name
             UNION ALL
             SELECT 'fleet:' || environment || '/' || service AS name FROM fleets JOIN events USING (position)
              WHERE sequence <> 1 OR stream <> name",
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        let numbers = query_as("SELECT pipeline, last FROM numbers").fetch_all(&mut *connection).await;
        let triggers = query_as("SELECT key, run FROM triggers").fetch_all(&mut *connection).await;
        let mut lists = Lists {
            runs: runs.iter().map(|row| told(read::run(&Fields { path, row }))).collect(),
            fleets: fleets.iter().map(|row| told(read::fleet(&Fields { path, row }))).collect(),
            misplaced: misplaced.into_iter().map(|(name,)| name).collect(),
            numbers: numbers.map_err(failed)?,
            triggers: triggers.map_err(failed)?,
            deliveries: Vec::new(),
        };
        if self.format >= WITH_INBOX {
            let rows = match self.format {
                WITH_INBOX => {
                    "SELECT source, id, event, received_at, status, reason, runs, body IS NOT NULL FROM deliveries"
                }
                _ => {
                    "SELECT source, id, event, received_at, status, reason, runs, body IS NOT NULL
                       FROM deliveries LEFT JOIN bodies USING (position)"
                }
            };
            let rows = query(rows).fetch_all(&mut *connection).await.map_err(failed)?;
            let delivery = |row: &Fields<'_>| {
                let body = (row.integer(7)? != 0).then(Vec::new);
                Ok(Delivery { body, ..read::received(row)? })
            };
            lists.deliveries = rows.iter().map(|row| told(delivery(&Fields { path, row }))).collect();
        }
        Ok(lists)
    }

    pub async fn end(self) -> Result<(), Error> {
        let path = self.path;
        self.connection.close().await.map_err(|error| understand(&path, error))
    }
}

fn told<T>(read: Result<T, Error>) -> Result<T, String> {
    read.map_err(|error| message(&error))
}

/// Without the path, which whoever reads this knows.
fn message(error: &Error) -> String {
    match error {
        Error::Damaged { message, .. } | Error::Failed { message, .. } => message.clone(),
        Error::Newer { found, known, .. } => {
            format!("it has format {found}, and this Windlass reads formats up to {known}")
        }
        other => other.to_string(),
    }
}

/// What is made anew from the journals.
#[derive(Debug, Clone, Default)]
pub struct Mending {
    /// Rows as the journals have them.
    pub runs: Vec<RunRow>,
    pub fleets: Vec<FleetRow>,
    /// All rows of the lists are made anew, and these are all there are.
    pub afresh: bool,
    /// By pipeline: the number of its newest run.
    pub numbers: Vec<(String, u64)>,
    /// The indexes are made anew.
    pub indexes: bool,
}

impl Sqlite {
    /// Writes lists, numbers and indexes anew, all of it or nothing. Whoever calls this holds the
    /// directory, and has nobody else at the store.
    pub async fn mend(directory: &Path, mending: &Mending) -> Result<(), Error> {
        let path = directory.join(FILE);
        let failed = |error| understand(&path, error);
        let mut connection = schema::options(&path).connect().await.map_err(failed)?;
        match schema::format(&path, &mut connection).await? {
            schema::FORMAT => {}
            found => {
                let message =
                    format!("it has the older format {found}; any command that writes brings it up to date");
                return Err(Error::Failed { path: path.display().to_string(), message });
            }
        }
        if mending.indexes {
            // Also what the statements below find rows with.
            connection.execute("REINDEX").await.map_err(failed)?;
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        if mending.afresh {
            transaction.execute("DELETE FROM runs; DELETE FROM fleets").await.map_err(failed)?;
        }
        for row in &mending.runs {
            query(
                "INSERT INTO runs (position, pipeline, number, status, ended, commit_sha, actor, waiting_for,
                                   created_at, updated_at)
                 SELECT position, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM events
                  WHERE stream = $1 AND sequence = 1",
            )
            .bind(StreamId::Run(row.run.clone()).to_string())
            .bind(row.run.pipeline.as_str())
            .bind(i64::try_from(row.run.number).unwrap_or(i64::MAX))
            .bind(&row.status)
            .bind(row.ended)
            .bind(row.commit.as_ref().map(|commit| commit.as_str()))
            .bind(&row.actor)
            .bind(&row.waiting_for)
            .bind(row.created_at.as_microsecond())
            .bind(row.updated_at.as_microsecond())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        for row in &mending.fleets {
            query(
                "INSERT INTO fleets (position, service, environment, ended, updated_at)
                 SELECT position, $2, $3, $4, $5 FROM events WHERE stream = $1 AND sequence = 1",
            )
            .bind(StreamId::Fleet(row.fleet.clone()).to_string())
            .bind(row.fleet.service.as_str())
            .bind(row.fleet.environment.as_str())
            .bind(row.ended)
            .bind(row.updated_at.as_microsecond())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        for (pipeline, last) in &mending.numbers {
            query(
                "INSERT INTO numbers (pipeline, last) VALUES ($1, $2)
                   ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
            )
            .bind(pipeline)
            .bind(i64::try_from(*last).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        connection.close().await.map_err(failed)
    }
}

//! Journals in a SQLite file, `windlass.db` in the data directory: the embedded default.
//!
//! All writes of this process go through one task ([`writer`]) that shares commits; reads have
//! connections of their own and never wait for it (the write-ahead log lets them see the last
//! commit). A commit is on the disk before it is answered (`synchronous=FULL`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::task::JoinHandle;

use self::draft::{Done, Encoded, Request};
use self::error::{failed, understand};
use self::writer::Writer;
use super::{
    Append, Delivery, DeliveryFilter, DeliveryKey, Error, FleetRow, Inbox, NewDelivery, NewRun, Receipt,
    Recorded, RunFilter, RunRow, Settlement, Store,
};
use crate::ids::{PipelineName, RunId, StreamId};

mod copy;
mod draft;
mod error;
mod inspect;
mod read;
mod reserve;
mod schema;
mod writer;

pub use inspect::{Entry, Inspection, Lists, Mending};

#[cfg(test)]
mod tests;

/// The database in its data directory.
const FILE: &str = "windlass.db";

/// A store in a SQLite file.
pub struct Sqlite {
    path: PathBuf,
    readers: SqlitePool,
    /// None when opened for reading only, or closed.
    writer: Mutex<Option<Arc<Writer>>>,
    task: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Sqlite {
    /// Opens the store in `directory`, which exists; makes it when there is none, and brings one of
    /// an older format up to date. Whoever calls this holds the directory
    /// ([`Hold`](super::hold::Hold)).
    ///
    /// [`Error::Newer`] and [`Error::Damaged`] for files that this program should leave alone: it does.
    pub async fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let connection = schema::connect(&path).await?;
        let (writer, task) = Writer::start(path.clone(), connection);
        Ok(Self {
            readers: readers(schema::options(&path)),
            path,
            writer: Mutex::new(Some(Arc::new(writer))),
            task: Mutex::new(Some(task)),
        })
    }

    /// Whether `directory` has no store yet, or has it no more.
    pub fn is_missing(directory: &Path) -> bool {
        match std::fs::metadata(directory.join(FILE)) {
            Ok(metadata) => metadata.len() == 0,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Whether there is a write-ahead log in `directory` that has something in it: the newest part of the
    /// database that it lies beside, and of no other.
    pub fn has_log(directory: &Path) -> bool {
        std::fs::metadata(directory.join(format!("{FILE}-wal"))).is_ok_and(|log| log.len() > 0)
    }

    /// Opens the store in `directory` for reading, also while another process writes to it. `None`
    /// when there is no store; nothing is created then. Writes answer [`Error::Failed`].
    pub async fn open_read_only(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(failed(&path, error.to_string())),
        }
        schema::check_length(&path)?;
        let (readers, readable) = match examine(&path, schema::options(&path)).await {
            // Where nothing can be written, as on a copy on read-only media, nobody else writes either.
            Err(Unreadable::LockedOut(_)) if !schema::has_log(&path) => {
                examine(&path, schema::options(&path).immutable(true)).await
            }
            Err(Unreadable::LockedOut(error)) if is_read_only(directory) => {
                tracing::debug!(%error, "the write-ahead log cannot be read");
                return Err(failed(
                    &path,
                    "it was copied while somebody wrote to it, and cannot be read from a read-only file \
                     system: copy the directory to where you can write, and name the copy with --data",
                ));
            }
            examined => examined,
        }?;
        Ok(match readable {
            schema::Readable::Yes => {
                Some(Self { path, readers, writer: Mutex::new(None), task: Mutex::new(None) })
            }
            schema::Readable::Empty => None,
        })
    }

    /// Writes all that waits, and closes the file; the write-ahead log is empty then unless another
    /// process has the file open. Later calls on the store answer [`Error::Failed`].
    ///
    /// A store that is dropped does the same, but nobody hears when it is done.
    pub async fn close(&self) -> Result<(), Error> {
        self.readers.close().await;
        drop(lock(&self.writer).take());
        let task = lock(&self.task).take();
        match task {
            Some(task) => task.await.map_err(|error| failed(&self.path, error.to_string()))?,
            None => Ok(()),
        }
    }

    fn confused(&self) -> Error {
        failed(&self.path, "it answered something else")
    }

    async fn write(&self, request: Request) -> Result<Done, Error> {
        let writer = lock(&self.writer).clone();
        match writer {
            Some(writer) => writer.write(request).await,
            None => Err(failed(&self.path, "it is not open for writing")),
        }
    }
}

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    // Without time limits the pool has nothing to wake up for.
    SqlitePoolOptions::new()
        .max_connections(read::READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        // It cannot have gone away: asking it costs as much as most questions do.
        .test_before_acquire(false)
        .connect_lazy_with(options.read_only(true))
}

/// Why a file cannot be read with certain options.
enum Unreadable {
    /// The index of the write-ahead log can be neither opened nor made.
    LockedOut(Error),
    Store(Error),
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::LockedOut(error) | Unreadable::Store(error) => error,
        }
    }
}

/// Readers with these options, and whether they understand the file.
async fn examine(
    path: &Path,
    options: SqliteConnectOptions,
) -> Result<(SqlitePool, schema::Readable), Unreadable> {
    let readers = readers(options);
    let locked_out = |error: sqlx::Error| match error::is_locked_out(&error) {
        true => Unreadable::LockedOut(understand(path, error)),
        false => Unreadable::Store(understand(path, error)),
    };
    let mut connection = readers.acquire().await.map_err(locked_out)?;
    // The first read is what opens the write-ahead log.
    sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut *connection).await.map_err(locked_out)?;
    let readable = schema::check(path, &mut connection).await.map_err(Unreadable::Store)?;
    drop(connection);
    Ok((readers, readable))
}

fn is_read_only(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|disk| disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for Sqlite {
    async fn create_run(&self, new: NewRun) -> Result<RunId, Error> {
        match self.write(Request::Create(Box::new(new))).await? {
            Done::Created(run) => Ok(run),
            _ => Err(self.confused()),
        }
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), Error> {
        let batch: Result<_, _> = batch.into_iter().map(Encoded::new).collect();
        self.write(Request::Append(batch?)).await.map(drop)
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Recorded>, Error> {
        read::journal(&self.path, &self.readers, stream, after).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Error> {
        read::runs(&self.path, &self.readers, filter).await
    }

    async fn read_each(&self, streams: &[StreamId]) -> Vec<Result<Vec<Recorded>, Error>> {
        read::journals(&self.path, &self.readers, streams).await
    }

    async fn gone_on(&self, known: &[(StreamId, u64)]) -> Result<Vec<StreamId>, Error> {
        read::gone_on(&self.path, &self.readers, known).await
    }

    async fn pipelines(&self) -> Result<Vec<PipelineName>, Error> {
        read::pipelines(&self.path, &self.readers).await
    }

    async fn fleets(&self) -> Result<Vec<FleetRow>, Error> {
        read::fleets(&self.path, &self.readers).await
    }
}

#[async_trait]
impl Inbox for Sqlite {
    async fn deliver(&self, new: NewDelivery) -> Result<Receipt, Error> {
        match self.write(Request::Deliver(Box::new(new))).await? {
            Done::Delivered(receipt) => Ok(receipt),
            _ => Err(self.confused()),
        }
    }

    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        read::delivery(&self.path, &self.readers, id).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Error> {
        read::deliveries(&self.path, &self.readers, filter).await
    }

    async fn pending_deliveries(&self) -> Result<Vec<DeliveryKey>, Error> {
        read::pending_deliveries(&self.path, &self.readers).await
    }

    async fn settle_delivery(&self, key: &DeliveryKey, settlement: Settlement) -> Result<(), Error> {
        self.write(Request::Settle(Box::new((key.clone(), settlement)))).await.map(drop)
    }

    async fn drop_bodies(&self, before: Timestamp) -> Result<(), Error> {
        self.write(Request::DropBodies { before }).await.map(drop)
    }

    async fn schedule_mark(&self, pipeline: &PipelineName) -> Result<Option<Timestamp>, Error> {
        read::schedule_mark(&self.path, &self.readers, pipeline).await
    }

    async fn mark_schedule(&self, pipeline: &PipelineName, until: Timestamp) -> Result<(), Error> {
        self.write(Request::Mark { pipeline: pipeline.clone(), until }).await.map(drop)
    }
}

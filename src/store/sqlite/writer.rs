//! The one who writes: a task with a connection of its own. It takes all requests that wait and
//! commits them in one transaction, so that many share the wait for the disk.
//!
//! - A request is answered after the commit that holds it, never before.
//! - A request that is refused leaves no trace and disturbs no other.
//! - A failure ends nothing: the connection is thrown away, in whatever state it is, and the next
//!   request gets a new one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sqlx::{Connection, Executor, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::draft::{Done, Draft, Request};
use super::error::{blames_content, damaged, failed, understand};
use super::reserve::Reserve;
use super::schema;
use crate::ids::StreamId;
use crate::store::{DeliveryKey, Error};

/// Requests that may wait before callers do. More than the most that share a transaction.
const QUEUE: usize = 1024;

/// A transaction takes no more requests than this, and none beyond so many bytes: the first in it
/// should not wait long for the last.
const SHARED_BY: usize = 512;
const SHARED_BYTES: usize = 4 * 1024 * 1024;

/// Of so many journals it is remembered where they stand: about 2 MB.
const REMEMBERED: usize = 16 * 1024;

// Statements take their rows as JSON arrays: a text that never changes is prepared once, and a
// transaction costs two messages to the connection's thread, however much it writes; one where all it
// depends on is remembered. The bodies of deliveries come beside their rows, as they are, one after the
// other.

/// $1 streams, $2 pipelines, $3 trigger keys, $4 deliveries.
const BEGIN: &str = "BEGIN IMMEDIATE;
SELECT 0, value, (SELECT max(sequence) FROM events WHERE stream = value), NULL
  FROM json_each($1)
UNION ALL
SELECT 1, value, (SELECT last FROM numbers WHERE pipeline = value), NULL
  FROM json_each($2)
UNION ALL
SELECT 2, value, NULL, (SELECT run FROM triggers WHERE key = value)
  FROM json_each($3)
UNION ALL
SELECT 3, value, (SELECT 1 FROM deliveries WHERE id = value->>1 AND source = value->>0), NULL
  FROM json_each($4)";

/// What appends write. $1 events, $2 runs, $3 fleets.
//
// A run that stands in its list as it did before, but for what it waits for and since when, is in the same
// place of every index: naming only those two leaves the indexes alone, which is half of the pages.
macro_rules! appends {
    () => {
        "
INSERT INTO events (stream, sequence, format, at, payload)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each($1);

UPDATE runs SET waiting_for = value->>7, updated_at = value->>9 FROM json_each($2)
 WHERE pipeline = value->>1 AND number = value->>2 AND status = value->>3 AND ended = value->>4
   AND commit_sha IS value->>5 AND actor = value->>6 AND created_at = value->>8;

INSERT INTO runs (position, pipeline, number, status, ended, commit_sha, actor, waiting_for,
                  created_at, updated_at)
SELECT (SELECT position FROM events WHERE stream = value->>0 AND sequence = 1),
       value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
       value->>8, value->>9
  FROM json_each($2)
 WHERE NOT EXISTS (
    SELECT 1 FROM runs
     WHERE pipeline = value->>1 AND number = value->>2 AND status = value->>3 AND ended = value->>4
       AND commit_sha IS value->>5 AND actor = value->>6 AND created_at = value->>8)
ON CONFLICT DO UPDATE SET
    status = excluded.status, ended = excluded.ended, commit_sha = excluded.commit_sha,
    actor = excluded.actor, waiting_for = excluded.waiting_for,
    created_at = excluded.created_at, updated_at = excluded.updated_at;

INSERT INTO fleets (position, service, environment, ended, updated_at)
SELECT (SELECT position FROM events WHERE stream = value->>0 AND sequence = 1),
       value->>1, value->>2, value->>3, value->>4
  FROM json_each($3) WHERE true
ON CONFLICT DO UPDATE SET ended = excluded.ended, updated_at = excluded.updated_at;
"
    };
}

/// A whole transaction, for appends to journals of which it is remembered where they stand. Where one stands
/// elsewhere the table itself refuses it: a journal has no gaps.
const APPEND: &str = concat!("BEGIN IMMEDIATE;", appends!(), "COMMIT");

/// What comes after [`BEGIN`]. $1 to $3 as above, $4 numbers, $5 trigger keys, $6 deliveries, $7 what came of
/// some, $8 marks of schedules, $9 how old a body may be, $10 bodies of the deliveries.
const COMMIT: &str = concat!(
    appends!(),
    "
INSERT INTO numbers (pipeline, last) SELECT value->>0, value->>1 FROM json_each($4) WHERE true
ON CONFLICT DO UPDATE SET last = excluded.last;

INSERT INTO triggers (key, run) SELECT value->>0, value->>1 FROM json_each($5);

INSERT INTO deliveries (source, id, event, received_at, status, runs)
SELECT value->>0, value->>1, value->>2, value->>3, 'pending', '[]' FROM json_each($6);

INSERT INTO bodies (position, body)
SELECT position, coalesce(substr($10, value->>4, value->>5), x'')
  FROM json_each($6) CROSS JOIN deliveries ON deliveries.id = value->>1 AND source = value->>0;

UPDATE deliveries SET status = value->>2, reason = value->>3, runs = value->>4
  FROM json_each($7) WHERE deliveries.id = value->>1 AND source = value->>0;

INSERT INTO schedules (pipeline, considered_until) SELECT value->>0, value->>1 FROM json_each($8) WHERE true
ON CONFLICT DO UPDATE SET considered_until = excluded.considered_until;

DELETE FROM bodies WHERE $9 IS NOT NULL AND position IN (
    SELECT position FROM bodies CROSS JOIN deliveries USING (position)
     WHERE status <> 'pending' AND received_at < $9);

COMMIT"
);

type Answer = Result<Done, Error>;

struct Job {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

/// Takes requests. The task ends when this is dropped and all that waits is written.
pub struct Writer {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    pub fn start(path: PathBuf, connection: SqliteConnection) -> (Self, JoinHandle<Result<(), Error>>) {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let reserve = Reserve::new(&path);
        let task = Task { path: path.clone(), connection: Some(connection), reserve, heads: HashMap::new() };
        (Self { path, jobs }, tokio::spawn(task.run(waiting)))
    }

    pub async fn write(&self, request: Request) -> Answer {
        let ended = || failed(&self.path, "the task that writes to it has ended");
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { request, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

struct Task {
    path: PathBuf,
    /// None after a failure.
    connection: Option<SqliteConnection>,
    reserve: Reserve,
    /// Where the journals stand that this task wrote to, unless somebody else has written to them since.
    heads: HashMap<StreamId, u64>,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) -> Result<(), Error> {
        while let Some(first) = waiting.recv().await {
            let mut bytes = first.request.size();
            let mut jobs = vec![first];
            while jobs.len() < SHARED_BY
                && bytes < SHARED_BYTES
                && let Ok(job) = waiting.try_recv()
            {
                bytes += job.request.size();
                jobs.push(job);
            }
            self.work(jobs).await;
        }
        // Closing the last connection to the file also empties the write-ahead log.
        match self.connection {
            Some(connection) => connection.close().await.map_err(|error| understand(&self.path, error)),
            None => Ok(()),
        }
    }

    async fn work(&mut self, jobs: Vec<Job>) {
        let (requests, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.request, job.answer)).unzip();
        let results = match self.commit(&requests).await {
            // One of them cannot be written: the others shall not suffer.
            Err(Failure::Content(_)) if requests.len() > 1 => {
                let mut results = Vec::with_capacity(requests.len());
                for request in &requests {
                    results.push(match self.commit(std::slice::from_ref(request)).await {
                        Ok(mut done) => done.pop().unwrap_or_else(|| Err(failed(&self.path, "no answer"))),
                        Err(failure) => Err(failure.into()),
                    });
                }
                results
            }
            Ok(results) => results,
            Err(failure) => {
                let error = Error::from(failure);
                requests.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // Whoever asked may have gone; what is written stays written.
            let _ = answer.send(result);
        }
    }

    /// Writes the requests in one transaction; the answers are in their order.
    async fn commit(&mut self, requests: &[Request]) -> Result<Vec<Answer>, Failure> {
        if let Some(foreseen) = self.foresee(requests) {
            match self.carry_out(requests, Some(foreseen)).await {
                // What is remembered may be what is wrong: the store itself tells.
                Err(Failure::Content(_)) => {}
                done => return done,
            }
        }
        self.carry_out(requests, None).await
    }

    /// What the transaction comes to, if all of it can be told from what is remembered.
    fn foresee(&self, requests: &[Request]) -> Option<(Draft, Vec<Answer>)> {
        if !requests.iter().all(Request::only_appends_events) {
            return None;
        }
        let streams = requests.iter().flat_map(Request::streams);
        let head = |stream: &StreamId| Some((stream.clone(), *self.heads.get(stream)?));
        let heads = streams.map(head).collect::<Option<_>>()?;
        let mut draft = Draft::after(heads);
        let answers: Vec<Answer> = requests.iter().map(|request| draft.add(request)).collect();
        answers.iter().all(Result::is_ok).then_some((draft, answers))
    }

    async fn carry_out(
        &mut self,
        requests: &[Request],
        foreseen: Option<(Draft, Vec<Answer>)>,
    ) -> Result<Vec<Answer>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::reconnect(&self.path).await?,
        };
        match transact(&self.path, &mut connection, requests, foreseen).await {
            Ok((heads, answers)) => {
                self.connection = Some(connection);
                self.reserve.keep();
                if self.heads.len() + heads.len() > REMEMBERED {
                    self.heads.clear();
                }
                self.heads.extend(heads);
                Ok(answers)
            }
            Err(failure) => {
                // Closing rolls back, and gives up all locks before a new one is opened.
                let _ = connection.close().await;
                self.reserve.forget();
                self.heads.clear();
                Err(failure)
            }
        }
    }
}

/// Why a transaction as a whole was not committed.
enum Failure {
    /// Something in the requests is at fault.
    Content(Error),
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Content(error) | Failure::Store(error) => error,
        }
    }
}

/// Where the journals stand afterwards that the requests are about, and the requests' answers.
async fn transact(
    path: &Path,
    connection: &mut SqliteConnection,
    requests: &[Request],
    foreseen: Option<(Draft, Vec<Answer>)>,
) -> Result<(HashMap<StreamId, u64>, Vec<Answer>), Failure> {
    let understand = |error| match blames_content(&error) {
        true => Failure::Content(understand(path, error)),
        false => Failure::Store(understand(path, error)),
    };
    let (text, mut draft, answers) = match foreseen {
        Some((draft, answers)) => (APPEND, draft, answers),
        None => {
            let mut draft = begin(path, connection, requests).await?;
            let answers = requests.iter().map(|request| draft.add(request)).collect();
            if draft.is_empty() {
                connection.execute("ROLLBACK").await.map_err(understand)?;
                return Ok((draft.heads, answers));
            }
            (COMMIT, draft, answers)
        }
    };
    let heads = std::mem::take(&mut draft.heads);
    let rows = draft.rows().map_err(|error| failed(path, error.to_string()))?;
    sqlx::query(text)
        .bind(rows.events)
        .bind(rows.runs)
        .bind(rows.fleets)
        .bind(rows.numbers)
        .bind(rows.triggers)
        .bind(rows.deliveries)
        .bind(rows.settled)
        .bind(rows.marks)
        .bind(rows.bodies_before)
        .bind(rows.bodies)
        .execute(connection)
        .await
        .map_err(understand)?;
    Ok((heads, answers))
}

/// A delivery as the statements take it.
fn place(key: &DeliveryKey) -> (&str, &str) {
    (&key.source, &key.id)
}

/// Begins the transaction and reads all that the requests depend on.
async fn begin(path: &Path, connection: &mut SqliteConnection, requests: &[Request]) -> Result<Draft, Error> {
    let text = |values: serde_json::Result<String>| values.map_err(|error| failed(path, error.to_string()));
    let streams: Vec<_> = requests.iter().flat_map(Request::streams).collect();
    let new: Vec<_> = requests.iter().filter_map(Request::creates).collect();
    let pipelines: Vec<_> = new.iter().map(|new| &new.pipeline).collect();
    let keys: Vec<_> = new.iter().filter_map(|new| new.trigger_key.as_ref()).collect();
    let deliveries: Vec<_> = requests.iter().filter_map(Request::delivery).map(place).collect();
    let rows = sqlx::query(BEGIN)
        .bind(text(serde_json::to_string(&streams))?)
        .bind(text(serde_json::to_string(&pipelines))?)
        .bind(text(serde_json::to_string(&keys))?)
        .bind(text(serde_json::to_string(&deliveries))?)
        .fetch_all(connection)
        .await
        .map_err(|error| understand(path, error))?;

    let mut draft = Draft::default();
    for row in rows {
        let understand = |error| understand(path, error);
        let name: String = row.try_get(1).map_err(understand)?;
        let wrong = || damaged(path, format!("what is known of {name:?} makes no sense"));
        let number: Option<i64> = row.try_get(2).map_err(understand)?;
        let number = number.map(u64::try_from).transpose().map_err(|_| wrong())?;
        match row.try_get::<i64, _>(0).map_err(understand)? {
            0 => drop(draft.heads.insert(name.parse().map_err(|_| wrong())?, number.unwrap_or(0))),
            1 => drop(draft.numbers.insert(name.parse().map_err(|_| wrong())?, number.unwrap_or(0))),
            3 => {
                let (source, id) = serde_json::from_str(&name).map_err(|_| wrong())?;
                if number.is_some() {
                    draft.known.insert(DeliveryKey { source, id });
                }
            }
            _ => {
                if let Some(run) = row.try_get::<Option<String>, _>(3).map_err(understand)? {
                    draft.triggers.insert(name.clone(), run.parse().map_err(|_| wrong())?);
                }
            }
        }
    }
    Ok(draft)
}

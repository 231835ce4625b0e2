//! The one who writes: a task with a connection of its own. It takes all requests that wait and
//! commits them in one transaction, so that many share the wait for the disk.
//!
//! - A request is answered after the commit that holds it, never before.
//! - A request that is refused leaves no trace and disturbs no other.
//! - A failure ends nothing: the connection is thrown away, in whatever state it is, and the next
//!   request gets a new one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::draft::{Done, Draft, Request, Rows};
use super::error::{blames_content, damaged, failed, understand};
use super::reserve::Reserve;
use super::schema;
use crate::ids::{PipelineName, RunId, StreamId};
use crate::store::{DeliveryKey, Error};

/// Requests that may wait before callers do. More than the most that share a transaction.
const QUEUE: usize = 1024;

/// A transaction takes no more requests than this, and none beyond so many bytes: the first in it
/// should not wait long for the last.
const SHARED_BY: usize = 512;
const SHARED_BYTES: usize = 4 * 1024 * 1024;

/// What may wait, waits so long for others to share a transaction with.
const COMPANY: Duration = Duration::from_millis(10);

/// Of so many journals it is remembered where they stand: about 2 MB.
const REMEMBERED: usize = 16 * 1024;

// Statements take their rows as JSON arrays: a text that never changes is prepared once, and a
// transaction costs two messages to the connection's thread, however much it writes; one where all it
// depends on is remembered. As JSONB a row is not made a text and read again for each of its columns. The
// bodies of deliveries come beside their rows, as they are, one after the other.
//
// Each statement, and each row that is answered, wakes whoever waits for the transaction: so there is one row,
// and no statement that has nothing to write.

/// $1 streams, $2 pipelines, $3 trigger keys, $4 deliveries. Answers [`Known`] as JSON.
const BEGIN: &str = "BEGIN IMMEDIATE;
SELECT json_array(
  (SELECT json_group_array(json_array(value, (SELECT max(sequence) FROM events WHERE stream = value)))
     FROM json_each($1)),
  (SELECT json_group_array(json_array(value, (SELECT last FROM numbers WHERE pipeline = value)))
     FROM json_each($2)),
  (SELECT json_group_array(json_array(triggers.key, run))
     FROM json_each($3) CROSS JOIN triggers ON triggers.key = value),
  (SELECT json_group_array(json_array(source, deliveries.id))
     FROM jsonb_each($4) CROSS JOIN deliveries ON deliveries.id = value->>1 AND source = value->>0))";

/// Where the journals stand, the last numbers of the pipelines, the runs of the trigger keys and the
/// deliveries that are there.
type Known = (
    Vec<(StreamId, Option<u64>)>,
    Vec<(PipelineName, Option<u64>)>,
    Vec<(String, RunId)>,
    Vec<(String, String)>,
);

/// $1 events.
const EVENTS: &str = "
INSERT INTO events (stream, sequence, format, at, payload)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM jsonb_each($1);";

/// $2 runs.
//
// A run that stands in its list as it did before, but for what it waits for and since when, is in the same
// place of every index: naming only those two leaves the indexes alone, which is half of the pages.
const RUNS: &str = "
UPDATE runs SET waiting_for = value->>7, updated_at = value->>9 FROM jsonb_each($2)
 WHERE pipeline = value->>1 AND number = value->>2 AND status = value->>3 AND ended = value->>4
   AND commit_sha IS value->>5 AND actor = value->>6 AND created_at = value->>8;

INSERT INTO runs (position, pipeline, number, status, ended, commit_sha, actor, waiting_for,
                  created_at, updated_at)
SELECT (SELECT position FROM events WHERE stream = value->>0 AND sequence = 1),
       value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
       value->>8, value->>9
  FROM jsonb_each($2)
 WHERE NOT EXISTS (
    SELECT 1 FROM runs
     WHERE pipeline = value->>1 AND number = value->>2 AND status = value->>3 AND ended = value->>4
       AND commit_sha IS value->>5 AND actor = value->>6 AND created_at = value->>8)
ON CONFLICT DO UPDATE SET
    status = excluded.status, ended = excluded.ended, commit_sha = excluded.commit_sha,
    actor = excluded.actor, waiting_for = excluded.waiting_for,
    created_at = excluded.created_at, updated_at = excluded.updated_at;";

/// $3 fleets.
const FLEETS: &str = "
INSERT INTO fleets (position, service, environment, ended, updated_at)
SELECT (SELECT position FROM events WHERE stream = value->>0 AND sequence = 1),
       value->>1, value->>2, value->>3, value->>4
  FROM jsonb_each($3) WHERE true
ON CONFLICT DO UPDATE SET ended = excluded.ended, updated_at = excluded.updated_at;";

/// $4 numbers.
const NUMBERS: &str = "
INSERT INTO numbers (pipeline, last) SELECT value->>0, value->>1 FROM jsonb_each($4) WHERE true
ON CONFLICT DO UPDATE SET last = excluded.last;";

/// $5 trigger keys.
const TRIGGERS: &str = "
INSERT INTO triggers (key, run) SELECT value->>0, value->>1 FROM jsonb_each($5);";

/// $6 deliveries, $10 their bodies.
const DELIVERIES: &str = "
INSERT INTO deliveries (source, id, event, received_at, status, runs)
SELECT value->>0, value->>1, value->>2, value->>3, 'pending', '[]' FROM jsonb_each($6);

INSERT INTO bodies (position, body)
SELECT position, coalesce(substr($10, value->>4, value->>5), x'')
  FROM jsonb_each($6) CROSS JOIN deliveries ON deliveries.id = value->>1 AND source = value->>0;";

/// $7 what came of some deliveries.
const SETTLED: &str = "
UPDATE deliveries SET status = value->>2, reason = value->>3, runs = value->>4
  FROM jsonb_each($7) WHERE deliveries.id = value->>1 AND source = value->>0;";

/// $8 marks of schedules.
const MARKS: &str = "
INSERT INTO schedules (pipeline, considered_until) SELECT value->>0, value->>1 FROM jsonb_each($8) WHERE true
ON CONFLICT DO UPDATE SET considered_until = excluded.considered_until;";

/// $9 how old a body may be.
const OLD_BODIES: &str = "
DELETE FROM bodies WHERE position IN (
    SELECT position FROM bodies CROSS JOIN deliveries USING (position)
     WHERE status <> 'pending' AND received_at < $9);";

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
            let company = Instant::now() + COMPANY;
            let (mut bytes, mut may_wait) = (first.request.size(), first.request.may_wait());
            let mut jobs = vec![first];
            while jobs.len() < SHARED_BY && bytes < SHARED_BYTES {
                let next = match may_wait {
                    true => timeout_at(company, waiting.recv()).await.ok().flatten(),
                    false => waiting.try_recv().ok(),
                };
                let Some(job) = next else { break };
                bytes += job.request.size();
                may_wait &= job.request.may_wait();
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
    let (begins, mut draft, answers) = match foreseen {
        // Where a journal stands elsewhere the table itself refuses it: a journal has no gaps.
        Some((draft, answers)) => (true, draft, answers),
        None => {
            let mut draft = begin(path, connection, requests).await?;
            let answers = requests.iter().map(|request| draft.add(request)).collect();
            if draft.is_empty() {
                connection.execute("ROLLBACK").await.map_err(understand)?;
                return Ok((draft.heads, answers));
            }
            (false, draft, answers)
        }
    };
    let heads = std::mem::take(&mut draft.heads);
    let rows = draft.rows().map_err(|error| failed(path, error.to_string()))?;
    // Put together from constants alone.
    sqlx::query(AssertSqlSafe(text(begins, &rows)))
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

/// The transaction, or what is left of it after [`BEGIN`].
fn text(begins: bool, rows: &Rows) -> String {
    let statements = [
        (begins, "BEGIN IMMEDIATE;"),
        (rows.events.is_some(), EVENTS),
        (rows.runs.is_some(), RUNS),
        (rows.fleets.is_some(), FLEETS),
        (rows.numbers.is_some(), NUMBERS),
        (rows.triggers.is_some(), TRIGGERS),
        (rows.deliveries.is_some(), DELIVERIES),
        (rows.settled.is_some(), SETTLED),
        (rows.marks.is_some(), MARKS),
        (rows.bodies_before.is_some(), OLD_BODIES),
        (true, "COMMIT"),
    ];
    statements.into_iter().filter(|(needed, _)| *needed).map(|(_, statement)| statement).collect()
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
    let row = sqlx::query(BEGIN)
        .bind(text(serde_json::to_string(&streams))?)
        .bind(text(serde_json::to_string(&pipelines))?)
        .bind(text(serde_json::to_string(&keys))?)
        .bind(text(serde_json::to_string(&deliveries))?)
        .fetch_one(connection)
        .await
        .map_err(|error| understand(path, error))?;

    let known: String = row.try_get(0).map_err(|error| understand(path, error))?;
    let (heads, numbers, triggers, deliveries): Known = serde_json::from_str(&known)
        .map_err(|error| damaged(path, format!("what is known makes no sense: {error}")))?;
    let mut draft =
        Draft::after(heads.into_iter().map(|(stream, head)| (stream, head.unwrap_or(0))).collect());
    draft.numbers.extend(numbers.into_iter().map(|(pipeline, last)| (pipeline, last.unwrap_or(0))));
    draft.triggers.extend(triggers);
    draft.known.extend(deliveries.into_iter().map(|(source, id)| DeliveryKey { source, id }));
    Ok(draft)
}

//! Makes many runs of few: what the store's own code wrote of a run is copied inside SQLite, each time under
//! another number, with another commit, delivery and time. A million runs, each written by itself, would take
//! a quarter of an hour.
//!
//! While it works nothing waits for the disk, and what the tables check of each row is not checked: see
//! [`super::fill::look_over`] for who does that afterwards. Tables, indexes and triggers are in the end as they
//! were.

use std::path::Path;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, query, query_scalar, raw_sql};

/// Which runs are copied, and how many there are to be.
pub struct Many {
    /// A pattern for their pipelines, as LIKE takes it.
    pub pipelines: String,
    /// So many are there, by their deliveries; the run `n` becomes a copy of the run `n % first`.
    pub first: u64,
    pub count: u64,
    /// The number of the delivery of the run 0.
    pub deliveries_from: u64,
    /// Older deliveries have lost what they brought.
    pub bodies_after: Timestamp,
}

/// $1 pipelines, $2 the delivery of the run 0, $3 how many are there, $4 how many are to be, $5
/// how old what deliveries brought may be.
const MULTIPLY: &str = "
CREATE TEMP TABLE originals (n INTEGER PRIMARY KEY, run, delivery, pipeline, status, ended, commit_sha, actor,
                             waiting_for, created_at, updated_at);
INSERT INTO originals
SELECT CAST(substr(key, 32, 12) AS INTEGER) - $2, run, substr(key, 8, 36), pipeline, status, ended, commit_sha,
       actor, waiting_for, created_at, updated_at
  FROM runs CROSS JOIN triggers ON run = pipeline || '/' || number WHERE pipeline LIKE $1;

CREATE TEMP TABLE original_events (n, sequence, format, at, payload, PRIMARY KEY (n, sequence)) WITHOUT ROWID;
INSERT INTO original_events
SELECT n, sequence, format, at, payload FROM originals CROSS JOIN events ON stream = 'run:' || run;

CREATE TEMP TABLE copies (n INTEGER PRIMARY KEY, original, pipeline, number, run, delivery, commit_sha, later);
INSERT INTO copies
WITH RECURSIVE numbers (n) AS (SELECT $3 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $4),
     pipelines (count) AS (SELECT count(DISTINCT pipeline) FROM originals)
SELECT numbers.n, originals.n, pipeline, numbers.n / count + 1, pipeline || '/' || (numbers.n / count + 1),
       substr(delivery, 1, 24) || printf('%012d', $2 + numbers.n),
       printf('%08x', numbers.n) || substr(commit_sha, 9), (numbers.n - originals.n) * 60000000
  FROM pipelines CROSS JOIN numbers CROSS JOIN originals ON originals.n = numbers.n % $3
 WHERE numbers.n < $4;

INSERT INTO events (stream, sequence, format, at, payload)
SELECT 'run:' || copies.run, sequence, format, at + later,
       CASE sequence
       WHEN 1 THEN replace(replace(replace(payload, '\"' || originals.run || '\"', '\"' || copies.run || '\"'),
                                   originals.delivery, copies.delivery), originals.commit_sha, copies.commit_sha)
       ELSE payload END
  FROM copies CROSS JOIN originals ON originals.n = original
              CROSS JOIN original_events ON original_events.n = original;

INSERT INTO runs (position, pipeline, number, status, ended, commit_sha, actor, waiting_for, created_at, updated_at)
SELECT (SELECT position FROM events WHERE stream = 'run:' || copies.run AND sequence = 1),
       copies.pipeline, copies.number, status, ended, copies.commit_sha, actor,
       replace(waiting_for, originals.run, copies.run),
       created_at + later, updated_at + later
  FROM copies CROSS JOIN originals ON originals.n = original;

INSERT INTO triggers (key, run) SELECT 'github:' || delivery || ':' || pipeline, run FROM copies;

INSERT INTO numbers (pipeline, last) SELECT pipeline, max(number) FROM copies GROUP BY pipeline
ON CONFLICT DO UPDATE SET last = excluded.last;

INSERT INTO deliveries (source, id, event, received_at, status, reason, runs)
SELECT source, copies.delivery, event, received_at + later, deliveries.status, reason,
       json_array(copies.run)
  FROM copies CROSS JOIN originals ON originals.n = original
              CROSS JOIN deliveries ON deliveries.id = originals.delivery;

INSERT INTO bodies (position, body)
SELECT copy.position, bodies.body
  FROM copies CROSS JOIN originals ON originals.n = original
              CROSS JOIN deliveries ON deliveries.id = originals.delivery
              CROSS JOIN bodies ON bodies.position = deliveries.position
              CROSS JOIN deliveries AS copy ON copy.id = copies.delivery
 WHERE copy.received_at > $5;

DROP TABLE copies;
DROP TABLE originals;
DROP TABLE original_events";

/// What looks at each event that is added.
const TRIGGER: &str = "events_have_no_gaps";

/// Copies runs in a database that nobody else has open, and returns when it is on the disk.
pub async fn multiply(database: &Path, many: &[Many]) -> sqlx::Result<()> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(false)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-300000")
        .pragma("temp_store", "memory")
        .pragma("ignore_check_constraints", "on")
        .connect()
        .await?;
    let trigger: String = query_scalar("SELECT sql FROM sqlite_schema WHERE name = $1")
        .bind(TRIGGER)
        .fetch_one(&mut connection)
        .await?;
    raw_sql(AssertSqlSafe(format!("DROP TRIGGER {TRIGGER}"))).execute(&mut connection).await?;
    for many in many.iter().filter(|many| many.count > many.first) {
        copy(&mut connection, many).await?;
    }
    raw_sql(AssertSqlSafe(trigger)).execute(&mut connection).await?;
    raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
    connection.close().await?;
    // What is measured afterwards is not to wait for the disk to take this in.
    std::fs::File::open(database)?.sync_all().map_err(sqlx::Error::Io)
}

async fn copy(connection: &mut SqliteConnection, many: &Many) -> sqlx::Result<()> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut transaction = connection.begin().await?;
    query(MULTIPLY)
        .bind(&many.pipelines)
        .bind(number(many.deliveries_from))
        .bind(number(many.first))
        .bind(number(many.count))
        .bind(many.bodies_after.as_microsecond())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

//! Reading journals and lists.

use std::path::Path;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool, query};

use super::error::{damaged, understand};
use crate::ids::{FleetId, PipelineName, RunId, StreamId};
use crate::run::event::FORMAT;
use crate::store::{
    Delivery, DeliveryFilter, DeliveryKey, DeliveryStatus, Error, Event, FleetRow, Recorded, RunFilter,
    RunRow, Settlement,
};

/// Readers beside each other. A page of the lists needs one for milliseconds.
pub const READERS: u32 = 4;

pub async fn journal(
    path: &Path,
    readers: &SqlitePool,
    stream: &StreamId,
    after: u64,
) -> Result<Vec<Recorded>, Error> {
    // No journal is longer than SQLite's integers.
    let from = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = query(
        "SELECT sequence, format, at, payload FROM events
          WHERE stream = $1 AND sequence > $2 ORDER BY sequence",
    )
    .bind(stream.to_string())
    .bind(from)
    .fetch_all(readers)
    .await
    .map_err(|error| understand(path, error))?;
    recorded(path, stream, after, &rows)
}

/// Events of one journal from their rows: sequence, format, at, payload.
fn recorded(path: &Path, stream: &StreamId, after: u64, rows: &[SqliteRow]) -> Result<Vec<Recorded>, Error> {
    let mut journal = Vec::with_capacity(rows.len());
    for (nth, row) in (1..).zip(rows) {
        let (sequence, row) = (after.saturating_add(nth), Fields { path, row });
        if row.number(0)? != sequence {
            return Err(damaged(path, format!("{stream} has no event {sequence}")));
        }
        let event = decode(path, stream, sequence, row.integer(1)?, row.text(3)?)?;
        journal.push(Recorded { sequence, at: row.time(2)?, event });
    }
    Ok(journal)
}

/// Whole journals by one question: asking for each would cost several times what reading it does.
pub async fn journals(
    path: &Path,
    readers: &SqlitePool,
    streams: &[StreamId],
) -> Vec<Result<Vec<Recorded>, Error>> {
    let rows = query(
        "SELECT sequence, format, at, payload, key FROM json_each($1) CROSS JOIN events ON stream = value
          ORDER BY key, sequence",
    )
    .bind(names(streams))
    .fetch_all(readers)
    .await;
    let rows = match rows.map_err(|error| understand(path, error)) {
        Ok(rows) => rows,
        Err(error) => return streams.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut left = rows.as_slice();
    let each = (0..).zip(streams).map(|(key, stream)| {
        let of_another = |row: &SqliteRow| row.try_get::<i64, _>(4).ok() != Some(key);
        let (own, others) = left.split_at(left.iter().position(of_another).unwrap_or(left.len()));
        left = others;
        recorded(path, stream, 0, own)
    });
    each.collect()
}

/// As the array of texts that a statement takes.
fn names(streams: &[StreamId]) -> String {
    serde_json::Value::from_iter(streams.iter().map(StreamId::to_string)).to_string()
}

pub async fn gone_on(
    path: &Path,
    readers: &SqlitePool,
    known: &[(StreamId, u64)],
) -> Result<Vec<StreamId>, Error> {
    let asked = known.iter().map(|(stream, after)| serde_json::json!([stream.to_string(), after]));
    let rows = query(
        "SELECT key FROM json_each($1)
          WHERE EXISTS (SELECT 1 FROM events WHERE stream = value->>0 AND sequence > value->>1)",
    )
    .bind(serde_json::Value::from_iter(asked).to_string())
    .fetch_all(readers)
    .await
    .map_err(|error| understand(path, error))?;
    let mut gone_on = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = Fields { path, row }.number(0)?;
        let known = usize::try_from(key).ok().and_then(|key| known.get(key));
        gone_on.extend(known.map(|(stream, _)| stream.clone()));
    }
    Ok(gone_on)
}

pub fn decode(
    path: &Path,
    stream: &StreamId,
    sequence: u64,
    format: i64,
    payload: &str,
) -> Result<Event, Error> {
    if format > i64::from(FORMAT) {
        let path = path.display().to_string();
        return Err(Error::Newer { path, found: format, known: FORMAT.into() });
    }
    let event = match stream {
        StreamId::Run(_) => serde_json::from_str(payload).map(Event::Run),
        StreamId::Fleet(_) => serde_json::from_str(payload).map(Event::Fleet),
        StreamId::Environment(_) => serde_json::from_str(payload).map(Event::Environment),
    };
    event.map_err(|error| damaged(path, format!("event {sequence} of {stream}: {error}")))
}

/// The statement that answers a question, built from what is asked, so that each finds its index: a page
/// takes as long of a million runs as of a thousand. Within a pipeline, numbers are the order of creation.
///
/// $1 pipeline, $2 status, $3 limit, $4 and $5 the run before which it begins.
pub(super) fn question(filter: &RunFilter) -> String {
    let mut text = "SELECT pipeline, number, status, ended, commit_sha, actor, waiting_for, created_at,
                           updated_at
                      FROM runs WHERE true"
        .to_owned();
    match (&filter.pipeline, filter.unfinished) {
        (None, _) => {}
        (Some(_), false) => text.push_str(" AND pipeline = $1"),
        // Of all that there ever was of a pipeline few are unfinished: the plus keeps its own index out.
        (Some(_), true) => text.push_str(" AND +pipeline = $1"),
    }
    if filter.status.is_some() {
        text.push_str(" AND status = $2");
    }
    if filter.unfinished {
        text.push_str(" AND ended = 0");
    }
    match &filter.before {
        None => {}
        Some(run) if filter.pipeline.as_ref() == Some(&run.pipeline) => {
            text.push_str(" AND number < (SELECT number FROM runs WHERE pipeline = $4 AND number = $5)");
        }
        Some(_) => {
            text.push_str(" AND position < (SELECT position FROM runs WHERE pipeline = $4 AND number = $5)");
        }
    }
    text.push_str(match filter.pipeline {
        Some(_) => " ORDER BY number DESC LIMIT $3",
        None => " ORDER BY position DESC LIMIT $3",
    });
    text
}

pub async fn runs(path: &Path, readers: &SqlitePool, filter: &RunFilter) -> Result<Vec<RunRow>, Error> {
    let rows = query(AssertSqlSafe(question(filter)))
        .bind(filter.pipeline.as_ref().map(|pipeline| pipeline.as_str()))
        .bind(filter.status.as_deref())
        .bind(filter.limit())
        .bind(filter.before.as_ref().map(|run| run.pipeline.as_str()))
        // No number is greater than SQLite's integers.
        .bind(filter.before.as_ref().map(|run| i64::try_from(run.number).unwrap_or(i64::MAX)))
        .fetch_all(readers)
        .await
        .map_err(|error| understand(path, error))?;
    rows.iter().map(|row| run(&Fields { path, row })).collect()
}

pub fn run(row: &Fields<'_>) -> Result<RunRow, Error> {
    Ok(RunRow {
        run: RunId::new(row.parsed(0)?, row.number(1)?),
        status: row.text(2)?.to_owned(),
        ended: row.integer(3)? != 0,
        commit: match row.optional(4)? {
            Some(_) => Some(row.parsed(4)?),
            None => None,
        },
        actor: row.text(5)?.to_owned(),
        waiting_for: row.optional(6)?.map(str::to_owned),
        created_at: row.time(7)?,
        updated_at: row.time(8)?,
    })
}

pub async fn pipelines(path: &Path, readers: &SqlitePool) -> Result<Vec<PipelineName>, Error> {
    let rows = query("SELECT pipeline FROM numbers ORDER BY pipeline")
        .fetch_all(readers)
        .await
        .map_err(|error| understand(path, error))?;
    rows.iter().map(|row| Fields { path, row }.parsed(0)).collect()
}

pub async fn fleets(path: &Path, readers: &SqlitePool) -> Result<Vec<FleetRow>, Error> {
    let rows =
        query("SELECT service, environment, ended, updated_at FROM fleets ORDER BY service, environment")
            .fetch_all(readers)
            .await
            .map_err(|error| understand(path, error))?;
    rows.iter().map(|row| fleet(&Fields { path, row })).collect()
}

pub fn fleet(row: &Fields<'_>) -> Result<FleetRow, Error> {
    Ok(FleetRow {
        fleet: FleetId::new(row.parsed(0)?, row.parsed(1)?),
        ended: row.integer(2)? != 0,
        updated_at: row.time(3)?,
    })
}

pub async fn delivery(path: &Path, readers: &SqlitePool, id: &str) -> Result<Option<Delivery>, Error> {
    let row = query(
        "SELECT source, id, event, received_at, status, reason, runs, body
           FROM deliveries LEFT JOIN bodies USING (position) WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(readers)
    .await
    .map_err(|error| understand(path, error))?;
    let Some(row) = row else { return Ok(None) };
    let row = Fields { path, row: &row };
    Ok(Some(Delivery { body: row.bytes(7)?, ..received(&row)? }))
}

pub async fn deliveries(
    path: &Path,
    readers: &SqlitePool,
    filter: &DeliveryFilter,
) -> Result<Vec<Delivery>, Error> {
    let mut text = "SELECT source, id, event, received_at, status, reason, runs FROM deliveries".to_owned();
    if filter.status.is_some() {
        text.push_str(" WHERE status = $1");
    }
    text.push_str(" ORDER BY position DESC LIMIT $2");
    let rows = query(AssertSqlSafe(text))
        .bind(filter.status.map(DeliveryStatus::as_str))
        .bind(filter.limit())
        .fetch_all(readers)
        .await
        .map_err(|error| understand(path, error))?;
    rows.iter().map(|row| received(&Fields { path, row })).collect()
}

pub async fn pending_deliveries(path: &Path, readers: &SqlitePool) -> Result<Vec<DeliveryKey>, Error> {
    let rows = query("SELECT source, id FROM deliveries WHERE status = 'pending' ORDER BY position")
        .fetch_all(readers)
        .await
        .map_err(|error| understand(path, error))?;
    rows.iter().map(|row| key(&Fields { path, row })).collect()
}

fn key(row: &Fields<'_>) -> Result<DeliveryKey, Error> {
    Ok(DeliveryKey { source: row.text(0)?.to_owned(), id: row.text(1)?.to_owned() })
}

pub fn received(row: &Fields<'_>) -> Result<Delivery, Error> {
    let word = row.text(4)?;
    let status = DeliveryStatus::ALL.into_iter().find(|status| status.as_str() == word);
    let runs = serde_json::from_str(row.text(6)?).map_err(|_| row.wrong(6, "a list of runs"))?;
    Ok(Delivery {
        key: key(row)?,
        event: row.text(2)?.to_owned(),
        received_at: row.time(3)?,
        body: None,
        settlement: Settlement {
            status: status.ok_or_else(|| row.wrong(4, "a status"))?,
            reason: row.optional(5)?.map(str::to_owned),
            runs,
        },
    })
}

pub async fn schedule_mark(
    path: &Path,
    readers: &SqlitePool,
    pipeline: &PipelineName,
) -> Result<Option<Timestamp>, Error> {
    let row = query("SELECT considered_until FROM schedules WHERE pipeline = $1")
        .bind(pipeline.as_str())
        .fetch_optional(readers)
        .await
        .map_err(|error| understand(path, error))?;
    row.map(|row| Fields { path, row: &row }.time(0)).transpose()
}

/// A row whose columns are what they should be, or the store is damaged.
pub struct Fields<'a> {
    pub path: &'a Path,
    pub row: &'a SqliteRow,
}

impl<'a> Fields<'a> {
    fn wrong(&self, column: usize, what: &str) -> Error {
        damaged(self.path, format!("column {column} of a row is not {what}"))
    }

    pub fn integer(&self, column: usize) -> Result<i64, Error> {
        self.row.try_get(column).map_err(|_| self.wrong(column, "an integer"))
    }

    fn number(&self, column: usize) -> Result<u64, Error> {
        u64::try_from(self.integer(column)?).map_err(|_| self.wrong(column, "a count"))
    }

    pub fn time(&self, column: usize) -> Result<Timestamp, Error> {
        Timestamp::from_microsecond(self.integer(column)?).map_err(|_| self.wrong(column, "a time"))
    }

    pub fn text(&self, column: usize) -> Result<&'a str, Error> {
        self.row.try_get(column).map_err(|_| self.wrong(column, "a text"))
    }

    fn optional(&self, column: usize) -> Result<Option<&'a str>, Error> {
        self.row.try_get(column).map_err(|_| self.wrong(column, "a text"))
    }

    fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, Error> {
        self.row.try_get(column).map_err(|_| self.wrong(column, "bytes"))
    }

    fn parsed<T: std::str::FromStr>(&self, column: usize) -> Result<T, Error> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.wrong(column, &format!("a name: {text:?}")))
    }
}

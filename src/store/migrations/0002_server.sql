-- Format 2: environments have journals too; there is an inbox, and a mark for each pipeline's schedules.
--
-- The rule of what a stream may be stands in the table itself, so the table is made anew; the lists
-- refer to it and are made anew with it.

CREATE TABLE events_2 (
    position INTEGER PRIMARY KEY,
    stream   TEXT    NOT NULL
             CHECK (stream GLOB 'run:?*/?*' OR stream GLOB 'fleet:?*/?*' OR stream GLOB 'environment:?*'),
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    format   INTEGER NOT NULL CHECK (format >= 1),
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL CHECK (json_valid(payload)),
    UNIQUE (stream, sequence)
) STRICT;

INSERT INTO events_2 SELECT position, stream, sequence, format, at, payload FROM events ORDER BY position;

CREATE TABLE runs_2 (
    position    INTEGER PRIMARY KEY REFERENCES events_2 (position),
    pipeline    TEXT    NOT NULL,
    number      INTEGER NOT NULL CHECK (number >= 1),
    status      TEXT    NOT NULL CHECK (status <> ''),
    ended       INTEGER NOT NULL CHECK (ended IN (0, 1)),
    commit_sha  TEXT    CHECK (length(commit_sha) IN (40, 64)),
    actor       TEXT    NOT NULL,
    waiting_for TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (pipeline, number)
) STRICT;

INSERT INTO runs_2 SELECT position, pipeline, number, status, ended, commit_sha, actor, waiting_for,
    created_at, updated_at FROM runs;

CREATE TABLE fleets_2 (
    position    INTEGER PRIMARY KEY REFERENCES events_2 (position),
    service     TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    ended       INTEGER NOT NULL CHECK (ended IN (0, 1)),
    updated_at  INTEGER NOT NULL,
    UNIQUE (service, environment)
) STRICT;

INSERT INTO fleets_2 SELECT position, service, environment, ended, updated_at FROM fleets;

DROP TABLE runs;
DROP TABLE fleets;
DROP TABLE events;
ALTER TABLE events_2 RENAME TO events;
ALTER TABLE runs_2 RENAME TO runs;
ALTER TABLE fleets_2 RENAME TO fleets;

CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_pipeline_and_status ON runs (pipeline, status, number);
CREATE INDEX runs_unfinished ON runs (ended) WHERE ended = 0;

CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM events WHERE stream = NEW.stream)
BEGIN SELECT RAISE(ABORT, 'a journal has no gaps'); END;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

-- What came in from outside. The body stands last: lists do not read it. Of a settled delivery it is
-- dropped after a while; the row stays, since the id must stay known.
CREATE TABLE deliveries (
    position    INTEGER PRIMARY KEY,
    source      TEXT    NOT NULL CHECK (source <> ''),
    id          TEXT    NOT NULL CHECK (id <> ''),
    event       TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('pending', 'handled', 'ignored', 'failed')),
    reason      TEXT,
    runs        TEXT    NOT NULL CHECK (json_valid(runs)),
    body        BLOB,
    UNIQUE (id, source)
) STRICT;

CREATE INDEX deliveries_by_status ON deliveries (status, position);
CREATE INDEX deliveries_with_body ON deliveries (received_at) WHERE body IS NOT NULL AND status <> 'pending';

-- Up to when the schedules of a pipeline were considered.
CREATE TABLE schedules (
    pipeline         TEXT    NOT NULL PRIMARY KEY,
    considered_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

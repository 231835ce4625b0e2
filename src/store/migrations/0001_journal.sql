-- Format 1: the journals, what is allocated, and the lists made from the journals.
--
-- Times are integer microseconds since 1970 UTC: they compare as numbers, cost at most eight bytes,
-- and PostgreSQL keeps no finer ones.

PRAGMA application_id = 0x57494E44; -- "WIND"

-- A table with rowids although it has a key of its own: events are often larger than the rows that
-- WITHOUT ROWID is good for, and `position` says in which order things were created.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream   TEXT    NOT NULL CHECK (stream GLOB 'run:?*/?*' OR stream GLOB 'fleet:?*/?*'),
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    format   INTEGER NOT NULL CHECK (format >= 1),
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL CHECK (json_valid(payload)),
    UNIQUE (stream, sequence)
) STRICT;

CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM events WHERE stream = NEW.stream)
BEGIN SELECT RAISE(ABORT, 'a journal has no gaps'); END;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

-- The number of the newest run of each pipeline.
CREATE TABLE numbers (
    pipeline TEXT    NOT NULL PRIMARY KEY,
    last     INTEGER NOT NULL CHECK (last >= 1)
) STRICT, WITHOUT ROWID;

-- Which run a trigger key created.
CREATE TABLE triggers (
    key TEXT NOT NULL PRIMARY KEY,
    run TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- `position` is that of the journal's first event: the order of creation, and no row without a journal.
CREATE TABLE runs (
    position    INTEGER PRIMARY KEY REFERENCES events (position),
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

CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_pipeline_and_status ON runs (pipeline, status, number);
CREATE INDEX runs_unfinished ON runs (ended) WHERE ended = 0;

CREATE TABLE fleets (
    position    INTEGER PRIMARY KEY REFERENCES events (position),
    service     TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    ended       INTEGER NOT NULL CHECK (ended IN (0, 1)),
    updated_at  INTEGER NOT NULL,
    UNIQUE (service, environment)
) STRICT;

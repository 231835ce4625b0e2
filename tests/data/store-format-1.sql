-- A store of format 1 as it lies on disks: it must be readable for ever. Never edit it; a new
-- format gets a file of its own. Times are 2026-11-21T14:00:00Z and a second more for each event.

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

PRAGMA user_version = 1;

INSERT INTO events VALUES (1, 'run:storefront/1', 1, 1, 1795269600000000,
    '{"type": "created", "run": "storefront/1", "origin": {"pipeline": "name: storefront\nstages: {}\n", "pipeline_path": "/srv/storefront.yaml", "settings_path": null, "source": "/srv/storefront", "commit": {"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "branch": "main", "author": "Grace <grace@example.com>", "message": "It''s \"new\""}, "params": {"flavour": "plain"}, "trigger": {"kind": "manual"}, "actor": {"name": "grace", "verified": false}, "promote": {"environments": ["production"]}}}');
INSERT INTO events VALUES (2, 'run:storefront/1', 2, 1, 1795269601000000,
    '{"type": "attempt_started", "stage": "build", "attempt": 1, "inputs": {"env": {"FLAVOUR": "plain"}}}');
INSERT INTO events VALUES (3, 'run:storefront/1', 3, 1, 1795269602000000,
    '{"type": "step_started", "stage": "build", "attempt": 1, "step": 1, "name": "make dist"}');
INSERT INTO events VALUES (4, 'run:storefront/1', 4, 1, 1795269603000000,
    '{"type": "step_noted", "stage": "build", "attempt": 1, "step": 1, "key": "chosen", "value": {"any": [1, 2.5, null, "é"]}}');
INSERT INTO events VALUES (5, 'run:storefront/1', 5, 1, 1795269604000000,
    '{"type": "step_succeeded", "stage": "build", "attempt": 1, "step": 1}');
INSERT INTO events VALUES (6, 'run:storefront/1', 6, 1, 1795269605000000,
    '{"type": "step_succeeded", "stage": "build", "attempt": 1, "step": 2, "exit_code": 0, "log_bytes": 812, "result": {"image": "img-1"}}');
INSERT INTO events VALUES (7, 'run:storefront/1', 7, 1, 1795269606000000,
    '{"type": "step_failed", "stage": "build", "attempt": 1, "step": 3, "failure": {"cause": "infrastructure", "message": "the runner was lost"}}');
INSERT INTO events VALUES (8, 'run:storefront/1', 8, 1, 1795269607000000,
    '{"type": "step_failed", "stage": "build", "attempt": 1, "step": 4, "failure": {"cause": "task", "message": "exit code 2"}, "exit_code": 2, "log_bytes": 9}');
INSERT INTO events VALUES (9, 'run:storefront/1', 9, 1, 1795269608000000,
    '{"type": "attempt_succeeded", "stage": "build", "attempt": 1, "outcome": {"outputs": {"branch": "main"}, "artifacts": [{"name": "app", "path": "dist", "digest": "abababababababababababababababababababababababababababababababab", "bytes": 12}], "uploaded": ["app"], "image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": null, "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "certified": "img-9f3c2a1b"}}');
INSERT INTO events VALUES (10, 'run:storefront/1', 10, 1, 1795269609000000,
    '{"type": "attempt_succeeded", "stage": "test", "attempt": 2, "outcome": {}}');
INSERT INTO events VALUES (11, 'run:storefront/1', 11, 1, 1795269610000000,
    '{"type": "attempt_failed", "stage": "build", "attempt": 1, "failure": {"cause": "timeout", "message": "it took longer than 15m"}}');
INSERT INTO events VALUES (12, 'run:storefront/1', 12, 1, 1795269611000000,
    '{"type": "retry_scheduled", "stage": "build", "attempt": 1, "not_before": "2026-11-21T14:02:00.5Z"}');
INSERT INTO events VALUES (13, 'run:storefront/1', 13, 1, 1795269612000000,
    '{"type": "stage_skipped", "stage": "e2e", "reason": "staging failed"}');
INSERT INTO events VALUES (14, 'run:storefront/1', 14, 1, 1795269613000000,
    '{"type": "gate_reached", "environment": "production", "stage": "production", "shipment": {"image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": null, "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "running_image": "img-0", "running_commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "commits": [{"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "author": "Grace", "subject": "It''s new"}], "files": ["src/main.rs"], "rollback": false}}');
INSERT INTO events VALUES (15, 'run:storefront/1', 15, 1, 1795269614000000,
    '{"type": "promoted", "environment": "production", "actor": {"name": "grace", "verified": false}}');
INSERT INTO events VALUES (16, 'run:storefront/1', 16, 1, 1795269615000000,
    '{"type": "rejected", "environment": "production", "actor": {"name": "policy:command-line", "verified": true}, "reason": "not on a Friday"}');
INSERT INTO events VALUES (17, 'run:storefront/1', 17, 1, 1795269616000000,
    '{"type": "environment_entered", "environment": "production", "stage": "production"}');
INSERT INTO events VALUES (18, 'run:storefront/1', 18, 1, 1795269617000000,
    '{"type": "environment_left", "environment": "production"}');
INSERT INTO events VALUES (19, 'run:storefront/1', 19, 1, 1795269618000000,
    '{"type": "timeout_reached", "stage": "build", "attempt": 1}');
INSERT INTO events VALUES (20, 'run:storefront/1', 20, 1, 1795269619000000,
    '{"type": "cancel_requested", "actor": {"name": "grace", "verified": false}}');
INSERT INTO events VALUES (21, 'run:storefront/1', 21, 1, 1795269620000000,
    '{"type": "cancel_requested", "actor": {"name": "grace", "verified": false}, "reason": "wrong commit"}');
INSERT INTO events VALUES (22, 'run:storefront/1', 22, 1, 1795269621000000,
    '{"type": "ended", "ending": "cancelled"}');
INSERT INTO events VALUES (23, 'fleet:production/storefront', 1, 1, 1795269600000000,
    '{"type": "held", "run": "storefront/1", "service": "storefront"}');
INSERT INTO events VALUES (24, 'fleet:production/storefront', 2, 1, 1795269601000000,
    '{"type": "rollout_started", "run": "storefront/1", "stage": "production", "attempt": 1, "key": "storefront-1.production.1", "image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": null, "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "release": {"image": "img-9f3c2a1b", "env": {"SHOP_DB": "postgres://db"}}, "size": 3}');
INSERT INTO events VALUES (25, 'fleet:production/storefront', 3, 1, 1795269602000000,
    '{"type": "rollout_ended", "key": "storefront-1.production.1", "end": {"kind": "rolled_back", "reason": "the new image was not healthy"}}');
INSERT INTO events VALUES (26, 'fleet:production/storefront', 4, 1, 1795269603000000,
    '{"type": "rollout_ended", "key": "storefront-1.production.2", "end": {"kind": "completed"}}');
INSERT INTO events VALUES (27, 'fleet:production/storefront', 5, 1, 1795269604000000,
    '{"type": "released", "run": "storefront/1"}');
INSERT INTO events VALUES (28, 'fleet:production/storefront', 6, 1, 1795269605000000,
    '{"type": "ended", "actor": {"name": "grace", "verified": false}}');
INSERT INTO numbers VALUES ('storefront', 1);
INSERT INTO triggers VALUES ('push 1', 'storefront/1');
INSERT INTO runs VALUES (1, 'storefront', 1, 'cancelled', 1, '9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b', 'grace', NULL, 1795269600000000, 1795269621000000);
INSERT INTO fleets VALUES (23, 'storefront', 'production', 1, 1795269605000000);

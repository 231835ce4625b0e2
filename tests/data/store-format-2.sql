-- A store of format 2 as it lies on disks: it must be readable for ever. Never edit it once it was
-- released; a new format gets a file of its own. Times are 2026-11-22T05:00:00Z and a second more for
-- each event.

PRAGMA application_id = 0x57494E44; -- "WIND"

CREATE TABLE numbers (
    pipeline TEXT    NOT NULL PRIMARY KEY,
    last     INTEGER NOT NULL CHECK (last >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE triggers (
    key TEXT NOT NULL PRIMARY KEY,
    run TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream   TEXT    NOT NULL
             CHECK (stream GLOB 'run:?*/?*' OR stream GLOB 'fleet:?*/?*' OR stream GLOB 'environment:?*'),
    sequence INTEGER NOT NULL CHECK (sequence >= 1),
    format   INTEGER NOT NULL CHECK (format >= 1),
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL CHECK (json_valid(payload)),
    UNIQUE (stream, sequence)
) STRICT;

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

CREATE TABLE fleets (
    position    INTEGER PRIMARY KEY REFERENCES events (position),
    service     TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    ended       INTEGER NOT NULL CHECK (ended IN (0, 1)),
    updated_at  INTEGER NOT NULL,
    UNIQUE (service, environment)
) STRICT;

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

CREATE TABLE schedules (
    pipeline         TEXT    NOT NULL PRIMARY KEY,
    considered_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_status ON runs (status);

CREATE INDEX runs_by_pipeline_and_status ON runs (pipeline, status, number);

CREATE INDEX runs_unfinished ON runs (ended) WHERE ended = 0;

CREATE INDEX deliveries_by_status ON deliveries (status, position);

CREATE INDEX deliveries_with_body ON deliveries (received_at) WHERE body IS NOT NULL AND status <> 'pending';

CREATE TRIGGER events_have_no_gaps BEFORE INSERT ON events
WHEN NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM events WHERE stream = NEW.stream)
BEGIN SELECT RAISE(ABORT, 'a journal has no gaps'); END;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'a journal is append-only'); END;

PRAGMA user_version = 2;

INSERT INTO events VALUES (1, 'run:storefront/1', 1, 1, 1795323600000000,
    '{"type": "created", "run": "storefront/1", "origin": {"pipeline": "name: storefront\nstages: {}\n", "pipeline_path": "/srv/storefront.yaml", "settings_path": "/srv/windlass.yaml", "source": "/srv/storefront", "commit": {"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "branch": "main", "author": "Grace <grace@example.com>", "message": "It''s \"new\""}, "params": {"flavour": "plain"}, "actor": {"name": "octocat", "verified": true}, "promote": "nothing", "reference": "refs/heads/main", "until": ["test", "build"], "trigger": {"kind": "push", "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}}}');
INSERT INTO events VALUES (2, 'run:storefront/1', 2, 1, 1795323601000000,
    '{"type": "attempt_started", "stage": "build", "attempt": 1, "inputs": {"env": {"FLAVOUR": "plain"}}}');
INSERT INTO events VALUES (3, 'run:storefront/1', 3, 1, 1795323602000000,
    '{"type": "step_started", "stage": "build", "attempt": 1, "step": 1, "name": "make dist"}');
INSERT INTO events VALUES (4, 'run:storefront/1', 4, 1, 1795323603000000,
    '{"type": "step_noted", "stage": "build", "attempt": 1, "step": 1, "key": "chosen", "value": {"any": [1, 2.5, null, "é"]}}');
INSERT INTO events VALUES (5, 'run:storefront/1', 5, 1, 1795323604000000,
    '{"type": "step_succeeded", "stage": "build", "attempt": 1, "step": 1, "exit_code": 0, "log_bytes": 812, "result": {"image": "img-1"}}');
INSERT INTO events VALUES (6, 'run:storefront/1', 6, 1, 1795323605000000,
    '{"type": "step_failed", "stage": "build", "attempt": 1, "step": 2, "failure": {"cause": "task", "message": "exit code 2"}, "exit_code": 2, "log_bytes": 9}');
INSERT INTO events VALUES (7, 'run:storefront/1', 7, 1, 1795323606000000,
    '{"type": "reported", "stage": "build", "attempt": 1, "report": {"tests": {"files": 1, "passed": 7, "failed": 1, "errors": 1, "skipped": 2, "milliseconds": 1234, "failures": [{"suite": "cart", "name": "adds", "message": "1 is not 2", "place": "src/cart.rs:42"}], "slowest": [{"suite": "cart", "name": "adds", "milliseconds": 900}]}, "coverage": {"lines": 200, "covered": 171, "at_least": 8500}, "problems": ["reports/b.xml is no XML"]}}');
INSERT INTO events VALUES (8, 'run:storefront/1', 8, 1, 1795323607000000,
    '{"type": "attempt_succeeded", "stage": "build", "attempt": 1, "outcome": {"outputs": {"branch": "main"}, "artifacts": [{"name": "app", "path": "dist", "digest": "abababababababababababababababababababababababababababababababab", "bytes": 12}], "uploaded": ["app"], "image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": "img-0", "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "certified": "img-9f3c2a1b"}}');
INSERT INTO events VALUES (9, 'run:storefront/1', 9, 1, 1795323608000000,
    '{"type": "attempt_failed", "stage": "build", "attempt": 1, "failure": {"cause": "timeout", "message": "it took longer than 15m"}}');
INSERT INTO events VALUES (10, 'run:storefront/1', 10, 1, 1795323609000000,
    '{"type": "attempt_refused", "stage": "production", "attempt": 1, "failure": {"cause": "policy", "message": "not on a Friday"}}');
INSERT INTO events VALUES (11, 'run:storefront/1', 11, 1, 1795323610000000,
    '{"type": "retry_scheduled", "stage": "build", "attempt": 1, "not_before": "2026-11-22T05:02:00.5Z"}');
INSERT INTO events VALUES (12, 'run:storefront/1', 12, 1, 1795323611000000,
    '{"type": "stage_skipped", "stage": "e2e", "reason": "staging failed"}');
INSERT INTO events VALUES (13, 'run:storefront/1', 13, 1, 1795323612000000,
    '{"type": "gate_reached", "environment": "production", "stage": "production", "shipment": {"image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": "img-0", "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "running_image": "img-0", "running_commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "commits": [{"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "author": "Grace", "subject": "It''s new"}], "files": ["src/main.rs"], "rollback": false, "authors": ["Grace <grace@example.com>"], "parent": "img-0", "config": ["SHOP_DB: a → b"], "note": "the history is cut off"}}');
INSERT INTO events VALUES (14, 'run:storefront/1', 14, 1, 1795323613000000,
    '{"type": "approved", "environment": "production", "actor": {"name": "grace", "verified": false}}');
INSERT INTO events VALUES (15, 'run:storefront/1', 15, 1, 1795323614000000,
    '{"type": "promoted", "environment": "production", "actor": {"name": "octocat", "verified": true}}');
INSERT INTO events VALUES (16, 'run:storefront/1', 16, 1, 1795323615000000,
    '{"type": "rejected", "environment": "production", "actor": {"name": "grace", "verified": false}, "reason": "not on a Friday"}');
INSERT INTO events VALUES (17, 'run:storefront/1', 17, 1, 1795323616000000,
    '{"type": "environment_entered", "environment": "production", "stage": "production"}');
INSERT INTO events VALUES (18, 'run:storefront/1', 18, 1, 1795323617000000,
    '{"type": "environment_left", "environment": "production"}');
INSERT INTO events VALUES (19, 'run:storefront/1', 19, 1, 1795323618000000,
    '{"type": "timeout_reached", "stage": "build", "attempt": 1}');
INSERT INTO events VALUES (20, 'run:storefront/1', 20, 1, 1795323619000000,
    '{"type": "cancel_requested", "actor": {"name": "grace", "verified": false}, "reason": "wrong commit"}');
INSERT INTO events VALUES (21, 'run:storefront/1', 21, 1, 1795323620000000,
    '{"type": "superseded", "by": "storefront/2", "reason": "storefront/2 is newer"}');
INSERT INTO events VALUES (22, 'run:storefront/1', 22, 1, 1795323621000000,
    '{"type": "ended", "ending": "superseded"}');
INSERT INTO events VALUES (23, 'run:storefront/1', 23, 1, 1795323622000000,
    '{"type": "replayed", "actor": {"name": "grace", "verified": false}, "request": "--from build", "stages": ["build", "test"], "edits": [{"of": "param", "name": "flavour", "value": "sweet"}, {"of": "with", "stage": "bake", "key": "start", "value": "./shop"}, {"of": "env", "stage": "build", "name": "DEBUG", "value": "1"}]}');
INSERT INTO events VALUES (24, 'run:storefront/2', 1, 1, 1795323600000000,
    '{"type": "created", "run": "storefront/2", "origin": {"pipeline": "name: storefront\nstages: {}\n", "pipeline_path": "/srv/storefront.yaml", "settings_path": "/srv/windlass.yaml", "source": "/srv/storefront", "commit": {"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "branch": "main", "author": "Grace <grace@example.com>", "message": "It''s \"new\""}, "params": {"flavour": "plain"}, "actor": {"name": "octocat", "verified": true}, "promote": "nothing", "reference": "refs/pull/12/head", "until": ["test", "build"], "trigger": {"kind": "pull_request", "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0959", "number": 12}}}');
INSERT INTO events VALUES (25, 'run:storefront/3', 1, 1, 1795323600000000,
    '{"type": "created", "run": "storefront/3", "origin": {"pipeline": "name: storefront\nstages: {}\n", "pipeline_path": "/srv/storefront.yaml", "settings_path": "/srv/windlass.yaml", "source": "/srv/storefront", "commit": {"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "branch": "main", "author": "Grace <grace@example.com>", "message": "It''s \"new\""}, "params": {"flavour": "plain"}, "actor": {"name": "octocat", "verified": true}, "promote": "nothing", "reference": "refs/heads/main", "until": ["test", "build"], "trigger": {"kind": "schedule", "due": "2026-11-22T05:00:00Z"}}}');
INSERT INTO events VALUES (26, 'run:storefront/4', 1, 1, 1795323600000000,
    '{"type": "created", "run": "storefront/4", "origin": {"pipeline": "name: storefront\nstages: {}\n", "pipeline_path": "/srv/storefront.yaml", "settings_path": "/srv/windlass.yaml", "source": "/srv/storefront", "commit": {"sha": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "branch": "main", "author": "Grace <grace@example.com>", "message": "It''s \"new\""}, "params": {"flavour": "plain"}, "actor": {"name": "octocat", "verified": true}, "promote": "nothing", "reference": "refs/heads/main", "until": ["production"], "trigger": {"kind": "rollback", "environment": "production", "from": "img-9f3c2a1b"}, "image": {"id": "img-0", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": null, "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}}}');
INSERT INTO events VALUES (27, 'fleet:production/storefront', 1, 1, 1795323600000000,
    '{"type": "held", "run": "storefront/1", "service": "storefront"}');
INSERT INTO events VALUES (28, 'fleet:production/storefront', 2, 1, 1795323601000000,
    '{"type": "rollout_started", "run": "storefront/1", "stage": "production", "attempt": 1, "key": "storefront-1.production.1", "image": {"id": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "key": "abababababababababababababababababababababababababababababababab", "parent": "img-0", "commit": "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b", "run": "storefront/1"}, "release": {"image": "img-9f3c2a1b", "env": {"SHOP_DB": "postgres://db"}}, "size": 3, "reference": "refs/heads/main"}');
INSERT INTO events VALUES (29, 'fleet:production/storefront', 3, 1, 1795323602000000,
    '{"type": "rollout_ended", "key": "storefront-1.production.1", "end": {"kind": "stranded", "reason": "neither came up"}}');
INSERT INTO events VALUES (30, 'fleet:production/storefront', 4, 1, 1795323603000000,
    '{"type": "released", "run": "storefront/1"}');
INSERT INTO events VALUES (31, 'fleet:production/storefront', 5, 1, 1795323604000000,
    '{"type": "quarantined", "image": "img-9f3c2a1b", "name": "storefront-1-9f3c2a1b", "actor": {"name": "grace", "verified": false}, "reason": "it forgets carts"}');
INSERT INTO events VALUES (32, 'fleet:production/storefront', 6, 1, 1795323605000000,
    '{"type": "quarantine_lifted", "image": "img-9f3c2a1b", "actor": {"name": "octocat", "verified": true}, "reason": "it was the network"}');
INSERT INTO events VALUES (33, 'fleet:production/storefront', 7, 1, 1795323606000000,
    '{"type": "locked", "actor": {"name": "grace", "verified": false}, "reason": "looking into it"}');
INSERT INTO events VALUES (34, 'fleet:production/storefront', 8, 1, 1795323607000000,
    '{"type": "unlocked", "actor": {"name": "grace", "verified": false}}');
INSERT INTO events VALUES (35, 'fleet:production/storefront', 9, 1, 1795323608000000,
    '{"type": "ended", "actor": {"name": "grace", "verified": false}}');
INSERT INTO events VALUES (36, 'environment:production', 1, 1, 1795323600000000,
    '{"type": "locked", "actor": {"name": "grace", "verified": false}, "reason": "audit"}');
INSERT INTO events VALUES (37, 'environment:production', 2, 1, 1795323601000000,
    '{"type": "unlocked", "actor": {"name": "octocat", "verified": true}}');
INSERT INTO numbers VALUES ('storefront', 4);
INSERT INTO triggers VALUES ('github:72d3162e-cc78-11e3-81ab-4c9367dc0958:storefront', 'storefront/1');
INSERT INTO runs VALUES (1, 'storefront', 1, 'running', 0, '9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b', 'octocat', NULL, 1795323600000000, 1795323600000000);
INSERT INTO runs VALUES (24, 'storefront', 2, 'queued', 0, '9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b', 'octocat', NULL, 1795323600000000, 1795323600000000);
INSERT INTO runs VALUES (25, 'storefront', 3, 'queued', 0, '9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b', 'octocat', NULL, 1795323600000000, 1795323600000000);
INSERT INTO runs VALUES (26, 'storefront', 4, 'queued', 0, '9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b', 'octocat', NULL, 1795323600000000, 1795323600000000);
INSERT INTO fleets VALUES (27, 'storefront', 'production', 1, 1795323608000000);
INSERT INTO deliveries VALUES (1, 'github', '72d3162e-cc78-11e3-81ab-4c9367dc0958', 'push', 1795323600000000, 'handled', NULL, '["storefront/1"]', NULL);
INSERT INTO deliveries VALUES (2, 'github', '72d3162e-cc78-11e3-81ab-4c9367dc0959', 'star', 1795323601000000, 'ignored', 'star events start nothing', '[]', x'7b7d');
INSERT INTO deliveries VALUES (3, 'schedule', 'storefront@2026-11-22T05:00:00Z', 'due', 1795323602000000, 'failed', 'no such branch', '[]', x'7b7d');
INSERT INTO deliveries VALUES (4, 'github', '72d3162e-cc78-11e3-81ab-4c9367dc0960', 'push', 1795323603000000, 'pending', NULL, '[]', x'ff00');
INSERT INTO schedules VALUES ('storefront', 1795323600000000);

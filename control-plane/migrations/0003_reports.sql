-- What agents report of hosts, and what their policy is held against. SQLite cannot change a constraint in place: the
-- history is made anew, for three witnesses instead of one.

CREATE TABLE policy_history_new (
    entry   INTEGER PRIMARY KEY,
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    time_ms INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('declared', 'reported', 'observed')),
    policy  TEXT NOT NULL
) STRICT;
INSERT INTO policy_history_new SELECT entry, host_id, time_ms, kind, policy FROM policy_history;
DROP TABLE policy_history;
ALTER TABLE policy_history_new RENAME TO policy_history;
CREATE INDEX policy_history_by_host ON policy_history (host_id, time_ms);

-- The latest report of each host's agent; `body` is JSON as the API takes it.
CREATE TABLE host_reports (
    host_id TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    time_ms INTEGER NOT NULL,
    body    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Where the counters stood when a host's claims (`declared`, `reported`) began: what came since is held against them.
CREATE TABLE host_watch (
    host_id      TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    declared     TEXT NOT NULL,
    reported     TEXT,
    observed     TEXT NOT NULL,
    by_host      INTEGER NOT NULL,
    by_target    INTEGER NOT NULL,
    operations   INTEGER NOT NULL,
    guard_errors INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is wrong between a host's claims and what is seen of it, until it is not any more.
CREATE TABLE host_alarms (
    host_id  TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    kind     TEXT NOT NULL CHECK (kind IN ('claims-differ', 'not-seen', 'seen-unclaimed', 'guard-errors')),
    since_ms INTEGER NOT NULL,
    hole     TEXT,
    detail   TEXT NOT NULL,
    PRIMARY KEY (host_id, kind)
) STRICT, WITHOUT ROWID;

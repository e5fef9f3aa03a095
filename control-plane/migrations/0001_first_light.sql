-- Intent, history and the latest word of the target.
-- Identifiers are 16 lower-case hex digits (contract `ids`); times are milliseconds since 1970-01-01 UTC.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pools (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    kind            TEXT NOT NULL CHECK (kind IN ('memory')),
    size_bytes      INTEGER NOT NULL CHECK (size_bytes > 0),
    overcommit      REAL NOT NULL CHECK (overcommit >= 1.0),
    allocated_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE volumes (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    pool_id          TEXT NOT NULL REFERENCES pools (id),
    size_bytes       INTEGER NOT NULL CHECK (size_bytes > 0),
    block_size       INTEGER NOT NULL CHECK (block_size IN (512, 4096)),
    pi_type          INTEGER NOT NULL CHECK (pi_type BETWEEN 0 AND 3),
    pi_guard         TEXT CHECK (pi_guard IN ('crc16', 'crc32c', 'crc64')),
    storage_tag_bits INTEGER NOT NULL,
    uuid             TEXT NOT NULL UNIQUE,
    nguid            TEXT NOT NULL UNIQUE,
    provisioned      INTEGER NOT NULL DEFAULT 0,
    allocated_bytes  INTEGER NOT NULL DEFAULT 0,
    CHECK ((pi_type = 0) = (pi_guard IS NULL))
) STRICT;
CREATE INDEX volumes_by_pool ON volumes (pool_id);

CREATE TABLE subsystems (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    nqn            TEXT NOT NULL UNIQUE,
    iqn            TEXT NOT NULL UNIQUE,
    allow_any_host INTEGER NOT NULL
) STRICT;

CREATE TABLE namespaces (
    subsystem_id TEXT NOT NULL REFERENCES subsystems (id),
    nsid         INTEGER NOT NULL CHECK (nsid BETWEEN 1 AND 1024),
    volume_id    TEXT NOT NULL REFERENCES volumes (id),
    PRIMARY KEY (subsystem_id, nsid),
    UNIQUE (subsystem_id, volume_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX namespaces_by_volume ON namespaces (volume_id);

-- `registered` is 0 for a host that connected before anybody spoke for it.
CREATE TABLE hosts (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    nqn        TEXT UNIQUE,
    iqn        TEXT UNIQUE,
    registered INTEGER NOT NULL,
    policy     TEXT NOT NULL
) STRICT;

-- Records that were merged into a host. Counters and incidents keep the identifier they were made under.
CREATE TABLE host_aliases (
    alias_id TEXT PRIMARY KEY,
    host_id  TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX host_aliases_by_host ON host_aliases (host_id);

-- Identifiers of deleted hosts: what the target still remembers of them must not bring them back.
CREATE TABLE host_tombstones (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_history (
    entry   INTEGER PRIMARY KEY,
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    time_ms INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('declared')),
    policy  TEXT NOT NULL
) STRICT;
CREATE INDEX policy_history_by_host ON policy_history (host_id, time_ms);

CREATE TABLE grants (
    subsystem_id TEXT NOT NULL REFERENCES subsystems (id) ON DELETE CASCADE,
    host_id      TEXT NOT NULL REFERENCES hosts (id),
    view         TEXT NOT NULL CHECK (view IN ('auto', 'plain', 'pi')),
    enforce      TEXT NOT NULL CHECK (enforce IN ('any', 'require-pi')),
    PRIMARY KEY (subsystem_id, host_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_host ON grants (host_id);

-- The target's latest absolute rows, as JSON of the contract's `PiTotals` and `IoTotals`.
CREATE TABLE counters (
    host_id   TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    writes    TEXT NOT NULL,
    reads     TEXT NOT NULL,
    io        TEXT NOT NULL,
    PRIMARY KEY (host_id, volume_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE digests (
    host_id TEXT PRIMARY KEY,
    header  INTEGER NOT NULL,
    data    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per incident in its newest form; `body` is JSON of the contract's `Incident`.
-- `policy` is what the host had declared when the incident began.
CREATE TABLE incidents (
    entry     INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    first_ms  INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL,
    host_id   TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    tag       TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    policy    TEXT NOT NULL,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_by_time ON incidents (first_ms, entry);
CREATE INDEX incidents_by_host ON incidents (host_id, first_ms);
CREATE INDEX incidents_by_volume ON incidents (volume_id, first_ms);

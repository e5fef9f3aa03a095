-- Pools in files and on block devices. SQLite cannot change a constraint in place, and children hold on to their parents:
-- pools, volumes and namespaces are made anew together.

CREATE TABLE pools_new (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    kind            TEXT NOT NULL CHECK (kind IN ('memory', 'file', 'block')),
    path            TEXT UNIQUE,
    -- 1: it was found, not made here.
    import          INTEGER NOT NULL DEFAULT 0,
    uuid            TEXT UNIQUE,
    size_bytes      INTEGER NOT NULL CHECK (size_bytes > 0),
    overcommit      REAL NOT NULL CHECK (overcommit >= 1.0),
    -- By the target's latest word.
    capacity_bytes  INTEGER NOT NULL,
    allocated_bytes INTEGER NOT NULL DEFAULT 0,
    -- The threshold that was told last: 0, 80, 90 or 95 percent.
    threshold       INTEGER NOT NULL DEFAULT 0,
    CHECK ((kind = 'memory') = (path IS NULL)),
    CHECK ((kind = 'memory') = (uuid IS NULL))
) STRICT;

CREATE TABLE volumes_new (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    pool_id          TEXT NOT NULL REFERENCES pools_new (id),
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

CREATE TABLE namespaces_new (
    subsystem_id TEXT NOT NULL REFERENCES subsystems (id),
    nsid         INTEGER NOT NULL CHECK (nsid BETWEEN 1 AND 1024),
    volume_id    TEXT NOT NULL REFERENCES volumes_new (id),
    PRIMARY KEY (subsystem_id, nsid),
    UNIQUE (subsystem_id, volume_id)
) STRICT, WITHOUT ROWID;

INSERT INTO pools_new (id, name, kind, size_bytes, overcommit, capacity_bytes, allocated_bytes)
    SELECT id, name, kind, size_bytes, overcommit, size_bytes, allocated_bytes FROM pools;
INSERT INTO volumes_new (id, name, pool_id, size_bytes, block_size, pi_type, pi_guard, storage_tag_bits, uuid, nguid,
        provisioned, allocated_bytes)
    SELECT id, name, pool_id, size_bytes, block_size, pi_type, pi_guard, storage_tag_bits, uuid, nguid,
        provisioned, allocated_bytes FROM volumes;
INSERT INTO namespaces_new (subsystem_id, nsid, volume_id) SELECT subsystem_id, nsid, volume_id FROM namespaces;

DROP TABLE namespaces;
DROP TABLE volumes;
DROP TABLE pools;
ALTER TABLE pools_new RENAME TO pools;
ALTER TABLE volumes_new RENAME TO volumes;
ALTER TABLE namespaces_new RENAME TO namespaces;
CREATE INDEX volumes_by_pool ON volumes (pool_id);
CREATE INDEX namespaces_by_volume ON namespaces (volume_id);

-- Pools that were ordered and are not in use yet (`ordered` = 1: what is left of them when this program starts again is to
-- be destroyed), and pools that are to be destroyed, until the target has done it.
CREATE TABLE pools_to_destroy (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('file', 'block')),
    path       TEXT NOT NULL,
    import     INTEGER NOT NULL,
    uuid       TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    ordered    INTEGER NOT NULL
) STRICT;

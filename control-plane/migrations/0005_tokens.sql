-- The tokens with which agents report, by their digests: what is kept here opens nothing.
CREATE TABLE host_tokens (
    host_id TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    time_ms INTEGER NOT NULL,
    sha256  BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID;

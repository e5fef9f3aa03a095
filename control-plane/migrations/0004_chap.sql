-- What hosts and the target prove themselves with over iSCSI. The secrets have to be known as they are: CHAP answers are made
-- of them.
CREATE TABLE host_chap (
    host_id       TEXT PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    user          TEXT NOT NULL,
    secret        TEXT NOT NULL,
    mutual_user   TEXT,
    mutual_secret TEXT,
    CHECK ((mutual_user IS NULL) = (mutual_secret IS NULL))
) STRICT, WITHOUT ROWID;

//! SQLite, and the only place that speaks SQL. Functions take an open connection; who opened the transaction
//! (`app`) decides what belongs together.

pub(crate) mod chap;
pub(crate) mod counters;
pub(crate) mod grants;
pub(crate) mod hosts;
pub(crate) mod incidents;
pub(crate) mod meta;
pub(crate) mod namespaces;
pub(crate) mod pools;
pub(crate) mod reports;
pub(crate) mod subsystems;
pub(crate) mod tokens;
pub(crate) mod volumes;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{SqliteConnection, Transaction};

use crate::error::{Error, Result};

/// Connections to the database: one writes at a time (`app` sees to it), the others read beside it.
const CONNECTIONS_MAX: u32 = 8;
/// How long a statement waits for a lock; only a stranger's hand on the file ever holds one so long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// File name within the state folder.
const FILE_NAME: &str = "control-plane.sqlite";

/// What the database says when it fails; the name by which the rest of this crate knows it.
pub(crate) type DbError = sqlx::Error;

/// An open connection, within a transaction or not.
pub(crate) type Conn = SqliteConnection;
/// A transaction; rolled back when dropped.
pub(crate) type Tx = Transaction<'static, Sqlite>;

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    pool: SqlitePool,
}

impl Db {
    /// Opens or creates the database in `state` and brings its schema up to date.
    pub(crate) async fn open(state: &Path) -> Result<Self> {
        let file = state.join(FILE_NAME);
        // Evidence of incidents is users' data: only the owner reads it. The log beside it inherits the mode.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| Error::Stored(format!("{}: {error}", file.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
        sqlx::migrate!("./migrations").run(&pool).await.map_err(|error| Error::Stored(error.to_string()))?;
        Ok(Self { pool })
    }

    /// A consistent view for reading.
    pub(crate) async fn read(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }

    /// A transaction that may write from its first statement on.
    pub(crate) async fn write(&self) -> Result<Tx> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Closes every connection, so that the write-ahead log is folded into the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Reads a stored word or number back into its type.
pub(crate) fn stored<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Stored(format!("unreadable value {text:?}")))
}

/// Reads a stored count back.
pub(crate) fn stored_u64(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::Stored(format!("negative count {value}")))
}

/// Brings a count into the form that SQLite keeps.
pub(crate) fn storable(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::Stored(format!("count {value} is too large to keep")))
}

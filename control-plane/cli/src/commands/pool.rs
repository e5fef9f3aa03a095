//! `holdfast pool`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;
use crate::size::ByteSize;

const COLUMNS: [Column; 6] = [
    Column::text("NAME", &["name"]),
    Column::text("KIND", &["backing", "kind"]),
    Column::size("CAPACITY", &["capacity_bytes"]),
    Column::size("ALLOCATED", &["allocated_bytes"]),
    Column::size("PROMISED", &["promised_bytes"]),
    Column::text("HEALTH", &["health"]),
];

const FLAGS: [(&str, &str); 3] =
    [("/name", "NAME"), ("/backing/size_bytes", "--memory"), ("/overcommit", "--overcommit")];

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool in memory; its content lasts as long as `holdfast up` runs
    #[command(after_help = "\
Examples:
  holdfast pool create fast --memory 2GiB
  holdfast pool create thin --memory 2GiB --overcommit 64")]
    Create {
        /// Name: lower-case letters, digits, `.`, `_`, `-`
        name: String,
        /// Size of the memory
        #[arg(long, value_name = "SIZE")]
        memory: ByteSize,
        /// How many times its capacity the volumes may promise together [default: 1]
        #[arg(long, value_name = "FACTOR")]
        overcommit: Option<f64>,
    },
    /// List all pools
    #[command(after_help = "Example:\n  holdfast pool list")]
    List,
    /// Show one pool
    #[command(after_help = "Example:\n  holdfast pool show ram")]
    Show {
        /// The pool
        name: String,
    },
    /// Delete a pool; one with volumes is refused
    #[command(after_help = "Example:\n  holdfast pool delete fast")]
    Delete {
        /// The pool
        name: String,
    },
}

impl Run for PoolCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create { name, memory, overcommit } => {
                let purpose = Purpose::new("pool create", format!("create pool {name}")).with_flags(&FLAGS);
                let pool = body([
                    ("name", Some(name.into())),
                    ("backing", Some(json!({"kind": "memory", "size_bytes": memory.bytes()}))),
                    ("overcommit", overcommit.map(Value::from)),
                ]);
                session.send(&purpose, Method::Post, &path(&["pools"]), Some(pool))
            }
            Self::List => {
                session.list(&Purpose::new("pool list", "list pools"), &path(&["pools"]), &[], &COLUMNS)
            }
            Self::Show { name } => session
                .show(&Purpose::new("pool show", format!("show pool {name}")), &path(&["pools", &name])),
            Self::Delete { name } => session.delete(
                &Purpose::new("pool delete", format!("delete pool {name}")),
                &path(&["pools", &name]),
                &format!("pool {name} deleted"),
            ),
        }
    }
}

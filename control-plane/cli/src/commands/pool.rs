//! `holdfast pool`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::Run;
use super::pool_check::{self, CheckArgs};
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;
use crate::size::ByteSize;

const COLUMNS: [Column; 8] = [
    Column::text("NAME", &["name"]),
    Column::text("KIND", &["backing", "kind"]),
    Column::size("CAPACITY", &["capacity_bytes"]),
    Column::size("ALLOCATED", &["allocated_bytes"]),
    Column::size("PROMISED", &["promised_bytes"]),
    Column::number("FULL%", &["threshold_percent"]),
    Column::text("HEALTH", &["health"]),
    Column::text("REASON", &["reason"]),
];

/// Flags by the field that they set.
type Flags = [(&'static str, &'static str); 5];

const MEMORY_FLAGS: Flags = flags("--memory", "--memory");
const FILE_FLAGS: Flags = flags("--size", "--file");
const BLOCK_FLAGS: Flags = flags("--block", "--block");

const fn flags(size: &'static str, path: &'static str) -> Flags {
    [
        ("/name", "NAME"),
        ("/backing/size_bytes", size),
        ("/backing/path", path),
        ("/backing/import", "--import"),
        ("/overcommit", "--overcommit"),
    ]
}

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool in memory, in a file or on a block device, or import one
    #[command(after_help = "\
Paths are those of the machine that runs the target, and absolute. A memory pool lasts as long as `holdfast up` runs.

Examples:
  holdfast pool create fast --memory 2GiB
  holdfast pool create thin --memory 2GiB --overcommit 64
  holdfast pool create data --file /srv/holdfast/data.pool --size 100GiB
  holdfast pool create disk --block /dev/disk/by-id/nvme-example
  holdfast pool create data --file /mnt/usb/data.pool --import")]
    Create {
        /// Name: lower-case letters, digits, `.`, `_`, `-`
        name: String,
        #[command(flatten)]
        place: Place,
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
    /// Let a pool in a file or on a device go, with its volumes, so that it can be imported here or elsewhere
    #[command(after_help = "Example:\n  holdfast pool export data")]
    Export {
        /// The pool; none of its volumes may be mapped
        name: String,
    },
    /// Look for damage in a pool that nobody serves, by its path on this machine; changes nothing
    #[command(after_help = "\
Exit status: 0 nothing is wrong; 1 damage was found; 2 wrong usage, no pool there, or not readable.

Examples:
  holdfast pool check /srv/holdfast/data.pool
  holdfast pool check /dev/disk/by-id/nvme-example --data
  holdfast pool check data.pool --data --output json")]
    Check(CheckArgs),
    /// Delete a pool and, unless it was imported, its file; one with volumes is refused
    #[command(after_help = "Example:\n  holdfast pool delete fast")]
    Delete {
        /// The pool
        name: String,
    },
}

/// Where a new pool is.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Place {
    /// Size of the memory
    #[arg(long, value_name = "SIZE", required_unless_present_any = ["file", "block"], conflicts_with_all = ["file", "block"])]
    memory: Option<ByteSize>,
    /// Path of the pool's file
    #[arg(long, value_name = "PATH", conflicts_with = "block")]
    file: Option<String>,
    /// Size of the file
    #[arg(long, conflicts_with_all = ["memory", "block"], required_unless_present_any = ["memory", "block", "import"])]
    size: Option<ByteSize>,
    /// Path of a block device
    #[arg(long, value_name = "PATH")]
    block: Option<String>,
    /// Take on the pool that lies there, with its volumes
    #[arg(long, conflicts_with = "memory")]
    import: bool,
}

impl Place {
    /// The flags that its kind goes by.
    fn flags(&self) -> &'static Flags {
        match (self.memory, &self.block) {
            (Some(_), _) => &MEMORY_FLAGS,
            (None, Some(_)) => &BLOCK_FLAGS,
            (None, None) => &FILE_FLAGS,
        }
    }

    /// As the API takes it.
    fn backing(self) -> Map<String, Value> {
        let import = self.import.then_some(Value::from(true));
        let size = |size: Option<ByteSize>| size.map(|size| Value::from(size.bytes()));
        match (self.memory, self.block) {
            (Some(memory), _) => body([("kind", Some("memory".into())), ("size_bytes", size(Some(memory)))]),
            (None, Some(block)) => {
                body([("kind", Some("block".into())), ("path", Some(block.into())), ("import", import)])
            }
            (None, None) => body([
                ("kind", Some("file".into())),
                ("path", self.file.map(Value::from)),
                ("size_bytes", size(self.size)),
                ("import", import),
            ]),
        }
    }
}

impl Run for PoolCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create { name, place, overcommit } => {
                let purpose = Purpose::new("pool create", format!("create pool {name}"));
                let purpose = purpose.with_flags(place.flags()).patient();
                let pool = body([
                    ("name", Some(name.into())),
                    ("backing", Some(place.backing().into())),
                    ("overcommit", overcommit.map(Value::from)),
                ]);
                session.send(&purpose, Method::Post, &path(&["pools"]), Some(pool))
            }
            Self::Export { name } => {
                let purpose = Purpose::new("pool export", format!("export pool {name}"));
                session.send(&purpose, Method::Post, &path(&["pools", &name, "export"]), None)
            }
            Self::List => {
                session.list(&Purpose::new("pool list", "list pools"), &path(&["pools"]), &[], &COLUMNS)
            }
            Self::Show { name } => session
                .show(&Purpose::new("pool show", format!("show pool {name}")), &path(&["pools", &name])),
            Self::Check(args) => pool_check::run(args, session.format, &mut session.out),
            Self::Delete { name } => session.delete(
                &Purpose::new("pool delete", format!("delete pool {name}")),
                &path(&["pools", &name]),
                &format!("pool {name} deleted"),
            ),
        }
    }
}

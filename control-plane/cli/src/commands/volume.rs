//! `holdfast volume`.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;
use crate::size::ByteSize;

const COLUMNS: [Column; 8] = [
    Column::text("NAME", &["name"]),
    Column::text("POOL", &["pool"]),
    Column::size("SIZE", &["size_bytes"]),
    Column::number("BLOCK", &["block_size"]),
    Column::number("PI", &["pi", "type"]),
    Column::text("GUARD", &["pi", "guard"]),
    Column::size("ALLOCATED", &["allocated_bytes"]),
    Column::text("UUID", &["uuid"]),
];

const FLAGS: [(&str, &str); 7] = [
    ("/name", "NAME"),
    ("/pool", "--pool"),
    ("/size_bytes", "--size"),
    ("/block_size", "--block-size"),
    ("/pi/type", "--pi-type"),
    ("/pi/guard", "--guard"),
    ("/pi/storage_tag_bits", "--storage-tag-bits"),
];

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a volume
    Create(Create),
    /// List all volumes
    #[command(after_help = "Example:\n  holdfast volume list --output json")]
    List,
    /// Show one volume
    #[command(after_help = "Example:\n  holdfast volume show v1")]
    Show {
        /// The volume
        name: String,
    },
    /// Grow a volume to a new size; volumes do not shrink
    #[command(after_help = "Example:\n  holdfast volume grow v1 20GiB")]
    Grow {
        /// The volume
        name: String,
        /// The new size, such as 20GiB
        size: ByteSize,
    },
    /// Change a volume
    #[command(after_help = "Example:\n  holdfast volume set v1 --size 20GiB")]
    Set {
        /// The volume
        name: String,
        /// The new size; volumes do not shrink
        #[arg(long)]
        size: ByteSize,
    },
    /// Delete a volume and its data; one that is a namespace is refused
    #[command(after_help = "Example:\n  holdfast volume delete v1")]
    Delete {
        /// The volume
        name: String,
    },
}

/// What a new volume is like.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holdfast volume create v1 --size 512MiB
  holdfast volume create db --size 100GiB --pool thin --block-size 512 --pi-type 3
  holdfast volume create wide --size 128MiB --guard crc64 --storage-tag-bits 16")]
pub(crate) struct Create {
    /// Name: lower-case letters, digits, `.`, `_`, `-`
    name: String,
    /// Size, such as 10GiB or 1073741824
    #[arg(long)]
    size: ByteSize,
    /// Pool that stores it
    #[arg(long, default_value = "ram")]
    pool: String,
    /// Bytes of a block: 512 or 4096 [default: 4096]
    #[arg(long, value_name = "BYTES")]
    block_size: Option<u32>,
    /// Protection information: 0 (none), 1, 2 or 3 [default: 1]
    #[arg(long, value_name = "TYPE")]
    pi_type: Option<u8>,
    /// Guard: crc16, crc32c or crc64 [default: crc16]
    #[arg(long)]
    guard: Option<String>,
    /// Bits of the storage tag: crc32c 16 to 64, crc64 0 to 48
    #[arg(long, value_name = "BITS")]
    storage_tag_bits: Option<u8>,
}

impl Run for VolumeCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create(volume) => create(session, volume),
            Self::List => {
                session.list(&Purpose::new("volume list", "list volumes"), &path(&["volumes"]), &[], &COLUMNS)
            }
            Self::Show { name } => session.show(
                &Purpose::new("volume show", format!("show volume {name}")),
                &path(&["volumes", &name]),
            ),
            Self::Grow { name, size } => {
                resize(session, &name, size, Purpose::new("volume grow", format!("grow volume {name}")))
            }
            Self::Set { name, size } => {
                resize(session, &name, size, Purpose::new("volume set", format!("change volume {name}")))
            }
            Self::Delete { name } => session.delete(
                &Purpose::new("volume delete", format!("delete volume {name}")),
                &path(&["volumes", &name]),
                &format!("volume {name} deleted"),
            ),
        }
    }
}

fn create(session: &mut Session, volume: Create) -> Result<(), ClientError> {
    let purpose = Purpose::new("volume create", format!("create volume {}", volume.name)).with_flags(&FLAGS);
    let pi = body([
        ("type", volume.pi_type.map(Value::from)),
        ("guard", volume.guard.map(Value::from)),
        ("storage_tag_bits", volume.storage_tag_bits.map(Value::from)),
    ]);
    let volume = body([
        ("name", Some(volume.name.into())),
        ("pool", Some(volume.pool.into())),
        ("size_bytes", Some(volume.size.bytes().into())),
        ("block_size", volume.block_size.map(Value::from)),
        ("pi", (!pi.is_empty()).then(|| pi.into())),
    ]);
    session.send(&purpose, Method::Post, &path(&["volumes"]), Some(volume))
}

fn resize(session: &mut Session, name: &str, size: ByteSize, purpose: Purpose) -> Result<(), ClientError> {
    let change = body([("size_bytes", Some(size.bytes().into()))]);
    session.send(&purpose.with_flags(&FLAGS), Method::Patch, &path(&["volumes", name]), Some(change))
}

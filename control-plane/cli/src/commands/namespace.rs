//! `holdfast namespace`.

use clap::Subcommand;
use serde_json::Value;

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;

const COLUMNS: [Column; 2] = [Column::number("NSID", &["nsid"]), Column::text("VOLUME", &["volume"])];

const FLAGS: [(&str, &str); 2] = [("/volume", "VOLUME"), ("/nsid", "--nsid")];

/// What can be done with namespaces.
#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Make a volume a namespace of a subsystem
    #[command(after_help = "\
Examples:
  holdfast namespace add s1 v1
  holdfast namespace add s1 v2 --nsid 7")]
    Add {
        /// The subsystem
        subsystem: String,
        /// The volume
        volume: String,
        /// Namespace id, 1 to 1024 [default: the lowest free one]
        #[arg(long)]
        nsid: Option<u32>,
    },
    /// List the namespaces of a subsystem
    #[command(after_help = "Example:\n  holdfast namespace list s1")]
    List {
        /// The subsystem
        subsystem: String,
    },
    /// Take a namespace away, also under I/O; the volume stays
    #[command(after_help = "Example:\n  holdfast namespace remove s1 7")]
    Remove {
        /// The subsystem
        subsystem: String,
        /// The namespace id
        nsid: u32,
    },
}

impl Run for NamespaceCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Add { subsystem, volume, nsid } => {
                let what = format!("add volume {volume} to subsystem {subsystem}");
                let purpose = Purpose::new("namespace add", what).with_flags(&FLAGS);
                let namespace = body([("volume", Some(volume.into())), ("nsid", nsid.map(Value::from))]);
                let path = path(&["subsystems", &subsystem, "namespaces"]);
                session.send(&purpose, Method::Post, &path, Some(namespace))
            }
            Self::List { subsystem } => {
                let purpose =
                    Purpose::new("namespace list", format!("list the namespaces of subsystem {subsystem}"));
                session.list(&purpose, &path(&["subsystems", &subsystem, "namespaces"]), &[], &COLUMNS)
            }
            Self::Remove { subsystem, nsid } => session.delete(
                &Purpose::new(
                    "namespace remove",
                    format!("remove namespace {nsid} of subsystem {subsystem}"),
                ),
                &path(&["subsystems", &subsystem, "namespaces", &nsid.to_string()]),
                &format!("namespace {nsid} of subsystem {subsystem} removed"),
            ),
        }
    }
}

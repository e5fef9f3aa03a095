//! `holdfast subsystem`.

use clap::Subcommand;
use serde_json::Value;

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;

const COLUMNS: [Column; 5] = [
    Column::text("NAME", &["name"]),
    Column::count("NAMESPACES", &["namespaces"]),
    Column::text("NQN", &["nqn"]),
    Column::text("IQN", &["iqn"]),
    Column::text("ANY-HOST", &["allow_any_host"]),
];

const FLAGS: [(&str, &str); 4] =
    [("/name", "NAME"), ("/nqn", "--nqn"), ("/iqn", "--iqn"), ("/allow_any_host", "--allow-any-host")];

/// What can be done with subsystems.
#[derive(Debug, Subcommand)]
pub(crate) enum SubsystemCommand {
    /// Create a subsystem
    #[command(after_help = "\
Examples:
  holdfast subsystem create s1
  holdfast subsystem create lab --allow-any-host
  holdfast subsystem create db --nqn nqn.2026-11.com.example:db")]
    Create {
        /// Name: lower-case letters, digits, `.`, `-`
        name: String,
        /// NQN [default: nqn.2026-11.io.holdfast:NAME]
        #[arg(long)]
        nqn: Option<String>,
        /// IQN [default: iqn.2026-11.io.holdfast:NAME]
        #[arg(long)]
        iqn: Option<String>,
        /// Let hosts connect that have no grant
        #[arg(long)]
        allow_any_host: bool,
    },
    /// List all subsystems
    #[command(after_help = "Example:\n  holdfast subsystem list")]
    List,
    /// Show one subsystem
    #[command(after_help = "Example:\n  holdfast subsystem show s1")]
    Show {
        /// The subsystem
        name: String,
    },
    /// Change a subsystem
    #[command(after_help = "Example:\n  holdfast subsystem set s1 --allow-any-host false")]
    Set {
        /// The subsystem
        name: String,
        /// Whether hosts may connect that have no grant; `false` ends the sessions of those
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        allow_any_host: bool,
    },
    /// Delete a subsystem; one with namespaces is refused
    #[command(after_help = "Example:\n  holdfast subsystem delete s1")]
    Delete {
        /// The subsystem
        name: String,
    },
}

impl Run for SubsystemCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create { name, nqn, iqn, allow_any_host } => {
                let purpose =
                    Purpose::new("subsystem create", format!("create subsystem {name}")).with_flags(&FLAGS);
                let subsystem = body([
                    ("name", Some(name.into())),
                    ("nqn", nqn.map(Value::from)),
                    ("iqn", iqn.map(Value::from)),
                    ("allow_any_host", allow_any_host.then(|| true.into())),
                ]);
                session.send(&purpose, Method::Post, &path(&["subsystems"]), Some(subsystem))
            }
            Self::List => {
                let purpose = Purpose::new("subsystem list", "list subsystems");
                session.list(&purpose, &path(&["subsystems"]), &[], &COLUMNS)
            }
            Self::Show { name } => session.show(
                &Purpose::new("subsystem show", format!("show subsystem {name}")),
                &path(&["subsystems", &name]),
            ),
            Self::Set { name, allow_any_host } => {
                let purpose =
                    Purpose::new("subsystem set", format!("change subsystem {name}")).with_flags(&FLAGS);
                let change = body([("allow_any_host", Some(allow_any_host.into()))]);
                session.send(&purpose, Method::Patch, &path(&["subsystems", &name]), Some(change))
            }
            Self::Delete { name } => session.delete(
                &Purpose::new("subsystem delete", format!("delete subsystem {name}")),
                &path(&["subsystems", &name]),
                &format!("subsystem {name} deleted"),
            ),
        }
    }
}

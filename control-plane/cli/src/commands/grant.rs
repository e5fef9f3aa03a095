//! `holdfast grant`.

use clap::{Subcommand, ValueEnum};

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::Column;

const COLUMNS: [Column; 3] =
    [Column::text("HOST", &["host"]), Column::text("VIEW", &["view"]), Column::text("ENFORCE", &["enforce"])];

const FLAGS: [(&str, &str); 2] = [("/view", "--view"), ("/enforce", "--enforce")];

/// How a host sees volumes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum View {
    /// With protection information if the host can use it
    Auto,
    /// Without protection information; the target inserts and strips it
    Plain,
    /// With protection information
    Pi,
}

/// What a host must do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Enforce {
    /// Anything goes
    Any,
    /// Every transfer must carry the host's own protection information
    RequirePi,
}

/// What can be done with grants.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Let a host use a subsystem, or change how
    #[command(after_help = "\
Examples:
  holdfast grant set s1 web1
  holdfast grant set s1 db1 --view pi --enforce require-pi

A changed view takes effect once the host has no session left with the subsystem, a changed --enforce at once.
What is not named goes back to its default.")]
    Set {
        /// The subsystem
        subsystem: String,
        /// The host
        host: String,
        /// How the host sees the volumes
        #[arg(long, value_enum, default_value = "auto")]
        view: View,
        /// What the host must do
        #[arg(long, value_enum, default_value = "any")]
        enforce: Enforce,
    },
    /// List the grants of a subsystem
    #[command(after_help = "Example:\n  holdfast grant list s1")]
    List {
        /// The subsystem
        subsystem: String,
    },
    /// Show one grant
    #[command(after_help = "Example:\n  holdfast grant show s1 web1")]
    Show {
        /// The subsystem
        subsystem: String,
        /// The host
        host: String,
    },
    /// Take a grant away; the host's sessions with the subsystem end
    #[command(after_help = "Example:\n  holdfast grant remove s1 web1")]
    Remove {
        /// The subsystem
        subsystem: String,
        /// The host
        host: String,
    },
}

impl View {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::Pi => "pi",
        }
    }
}

impl Enforce {
    fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::RequirePi => "require-pi",
        }
    }
}

impl Run for GrantCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Set { subsystem, host, view, enforce } => {
                let what = format!("grant subsystem {subsystem} to host {host}");
                let purpose = Purpose::new("grant set", what).with_flags(&FLAGS);
                let grant =
                    body([("view", Some(view.word().into())), ("enforce", Some(enforce.word().into()))]);
                session.send(
                    &purpose,
                    Method::Put,
                    &path(&["subsystems", &subsystem, "hosts", &host]),
                    Some(grant),
                )
            }
            Self::List { subsystem } => {
                let purpose = Purpose::new("grant list", format!("list the grants of subsystem {subsystem}"));
                session.list(&purpose, &path(&["subsystems", &subsystem, "hosts"]), &[], &COLUMNS)
            }
            Self::Show { subsystem, host } => session.show(
                &Purpose::new(
                    "grant show",
                    format!("show the grant of subsystem {subsystem} to host {host}"),
                ),
                &path(&["subsystems", &subsystem, "hosts", &host]),
            ),
            Self::Remove { subsystem, host } => session.delete(
                &Purpose::new("grant remove", format!("take subsystem {subsystem} away from host {host}")),
                &path(&["subsystems", &subsystem, "hosts", &host]),
                &format!("grant of subsystem {subsystem} to host {host} removed"),
            ),
        }
    }
}

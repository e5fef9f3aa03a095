//! The client commands, one file for each resource: what is typed, what is sent, what is printed.

mod drill;
mod event;
mod grant;
mod host;
mod incident;
mod namespace;
mod pool;
mod pool_check;
mod session;
mod status;
mod subsystem;
mod volume;

use clap::{Args, Subcommand};

pub(crate) use drill::DrillCommand;
pub(crate) use event::EventCommand;
pub(crate) use grant::GrantCommand;
pub(crate) use host::HostCommand;
pub(crate) use incident::IncidentCommand;
pub(crate) use namespace::NamespaceCommand;
pub(crate) use pool::PoolCommand;
pub(crate) use pool_check::PoolCheckError;
pub(crate) use status::{openapi, status};
pub(crate) use subsystem::SubsystemCommand;
pub(crate) use volume::VolumeCommand;

use crate::client::{Api, ApiUrl, ClientError};
use crate::output::Format;
use session::Session;

/// The variable that names the API when no flag does.
const API_VARIABLE: &str = "HOLDFAST_API";

/// What sets these options apart from a command's own in its help.
const HEADING: &str = "Options of every command";

/// Options that every client command takes, in front of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientOptions {
    /// Address of the API [default: HOLDFAST_API or http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    api: Option<ApiUrl>,

    /// How to print results [default: table]
    #[arg(long, value_name = "FORMAT")]
    output: Option<Format>,
}

impl ClientOptions {
    /// The first option that was given, by its flag.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        match self {
            Self { api: Some(_), .. } => Some("--api"),
            Self { output: Some(_), .. } => Some("--output"),
            _ => None,
        }
    }

    /// What to work with; options behind the command win over those in front of it.
    fn session(self, behind: InnerOptions) -> Result<Session, ClientError> {
        let url = match behind.api.or(self.api) {
            Some(url) => url,
            None => match std::env::var(API_VARIABLE) {
                Ok(text) if !text.is_empty() => text.parse()?,
                _ => ApiUrl::default(),
            },
        };
        Ok(Session::new(Api::new(url), behind.output.or(self.output).unwrap_or_default()))
    }
}

/// The same options behind the command.
#[derive(Args, Clone, Debug)]
pub(crate) struct InnerOptions {
    /// Address of the API [default: HOLDFAST_API or http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", global = true, help_heading = HEADING)]
    api: Option<ApiUrl>,

    /// How to print results [default: table]
    #[arg(long, value_name = "FORMAT", global = true, help_heading = HEADING)]
    output: Option<Format>,
}

/// A resource's commands.
#[derive(Args, Debug)]
pub(crate) struct Group<C: Subcommand> {
    #[command(flatten)]
    options: InnerOptions,
    #[command(subcommand)]
    command: C,
}

impl<C: Subcommand + Run> Group<C> {
    /// Does what was asked for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn run(self, outer: ClientOptions) -> Result<(), ClientError> {
        self.command.run(&mut outer.session(self.options)?)
    }
}

/// A command without arguments of its own.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  holdfast status\n  holdfast openapi > openapi.json\n  holdfast status --output json"
)]
pub(crate) struct Leaf {
    #[command(flatten)]
    options: InnerOptions,
}

impl Leaf {
    /// Does `work`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn run(
        self,
        outer: ClientOptions,
        work: fn(&mut Session) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        work(&mut outer.session(self.options)?)
    }
}

/// A command that can be done.
pub(crate) trait Run {
    /// Does it.
    ///
    /// # Errors
    /// See [`ClientError`].
    fn run(self, session: &mut Session) -> Result<(), ClientError>;
}

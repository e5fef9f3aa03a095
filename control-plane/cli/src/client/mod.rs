//! The REST client: requests, lists over all their pages, problems as lines for people, the event stream.

mod error;
mod events;
mod pages;
mod problem;
mod request;

pub(crate) use error::ClientError;
pub(crate) use events::{Event, EventStream};
pub(crate) use pages::List;
pub(crate) use request::{Api, ApiUrl, Method, segment};

/// What a command is doing, for the message if it fails.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    /// Such as `create volume v1`.
    pub(crate) what: String,
    /// The command as typed, such as `volume create`; its first word is the resource.
    pub(crate) command: &'static str,
    /// Which flag or argument sets which member of the body.
    pub(crate) flags: &'static [(&'static str, &'static str)],
    /// The answer may take as long as it takes.
    pub(crate) patient: bool,
}

impl Purpose {
    /// For a command that sends no body.
    pub(crate) fn new(command: &'static str, what: impl Into<String>) -> Self {
        Self { what: what.into(), command, flags: &[], patient: false }
    }

    /// With the flags that set the body's members: pairs of JSON pointer and flag.
    pub(crate) fn with_flags(mut self, flags: &'static [(&'static str, &'static str)]) -> Self {
        self.flags = flags;
        self
    }

    /// Whose answer may take as long as it takes: a pool that was not closed well is recovered first.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }
}

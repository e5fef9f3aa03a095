//! What can go wrong between the scripted host and its target, each with what was expected and what came.

use std::io;

use crate::wire::{Status, TermReq, WireError};

/// An error of the scripted host. A command that ends with a status other than success is *not* an error by
/// itself: tests look at [`crate::Completion::status`]; [`crate::Completion::ok`] turns it into [`Error::Status`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket call failed.
    #[error("{doing}: {source}")]
    Socket {
        /// What the host was about.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Nothing, or not enough, arrived within the connection's time limit.
    #[error("{doing}: nothing more arrived within {limit_ms} ms")]
    Timeout {
        /// What the host was about.
        doing: &'static str,
        /// The limit in milliseconds.
        limit_ms: u128,
    },
    /// The target closed the connection (or reset it).
    #[error("{doing}: the target closed the connection")]
    Closed {
        /// What the host was about.
        doing: &'static str,
    },
    /// The target ended the connection with a C2HTermReq PDU.
    #[error("the target sent {0}")]
    TermReq(TermReq),
    /// A PDU of the target does not follow the specification.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The target did something else than the protocol, or the test, says.
    #[error("expected {expected}, got {got}")]
    Unexpected {
        /// What should have come.
        expected: String,
        /// What came.
        got: String,
    },
    /// An iSCSI login was refused.
    #[error("the login was refused with status {class:02x}{detail:02x}h")]
    LoginRefused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
        /// What the answer said, such as another address.
        keys: Vec<(String, String)>,
    },
    /// A command that had to succeed ended with a status.
    #[error("{command} ended with {status}")]
    Status {
        /// The command.
        command: String,
        /// Its status.
        status: Status,
    },
    /// The caller asked for what cannot be put on the wire.
    #[error("cannot be sent: {0}")]
    Usage(String),
}

impl Error {
    /// The status of the command that failed, where the error is one.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Class and detail with which an iSCSI login was refused, where the error is that.
    #[must_use]
    pub fn login_status(&self) -> Option<(u8, u8)> {
        match self {
            Self::LoginRefused { class, detail, .. } => Some((*class, *detail)),
            _ => None,
        }
    }

    /// The C2HTermReq that ended the connection, where the error is one.
    #[must_use]
    pub fn term_req(&self) -> Option<&TermReq> {
        match self {
            Self::TermReq(term) => Some(term),
            _ => None,
        }
    }

    /// Whether the target closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    pub(crate) fn unexpected(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Unexpected { expected: expected.into(), got: got.into() }
    }

    /// Sorts a socket error into "time limit", "closed" and the rest.
    pub(crate) fn socket(doing: &'static str, limit: std::time::Duration, source: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
        };
        match source.kind() {
            WouldBlock | TimedOut => Self::Timeout { doing, limit_ms: limit.as_millis() },
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Self::Closed { doing },
            _ => Self::Socket { doing, source },
        }
    }
}

//! Why a client command failed.

use std::io;

use super::Purpose;
use super::problem::Problem;

/// Everything that can go wrong, each as lines that say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers.
    #[error(
        "cannot {what}: no answer from {url} ({reason}); is `holdfast up` running? Another address is given with \
         --api URL or HOLDFAST_API"
    )]
    Unreachable {
        /// What was tried.
        what: String,
        /// Where.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The API refused.
    #[error("{}", problem.lines(purpose).join("\n"))]
    Refused {
        /// What was tried.
        purpose: Box<Purpose>,
        /// What the API says.
        problem: Box<Problem>,
    },
    /// An answer that is none of this API's.
    #[error(
        "cannot {what}: {url} answered in a way that this client does not understand ({reason}); is it a Holdfast API?"
    )]
    NotUnderstood {
        /// What was tried.
        what: String,
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The event stream ended.
    #[error("the event stream ended; the management plane may be restarting: run the command again")]
    StreamEnded,
    /// HOLDFAST_API holds no address.
    #[error("HOLDFAST_API: {0}")]
    Environment(#[from] super::request::ApiUrlError),
    /// A pool on this machine is damaged, or could not be checked.
    #[error(transparent)]
    PoolCheck(#[from] crate::commands::PoolCheckError),
    /// A file with a secret cannot be read.
    #[error("cannot read the secret in {}: {source}", file.display())]
    Secret {
        /// Which file; `-` is standard input.
        file: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Our own output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl ClientError {
    /// The refusal in an answer's status and body.
    pub(crate) fn refused(purpose: &Purpose, status: u16, body: &str) -> Self {
        Self::Refused { purpose: Box::new(purpose.clone()), problem: Box::new(Problem::parse(status, body)) }
    }

    /// Whether the reader of our output went away.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// 2 for wrong usage and for a check that could not be done, 1 for everything else.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Environment(_) | Self::Secret { .. } => 2,
            Self::PoolCheck(error) => error.exit_status(),
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NotUnderstood { .. }
            | Self::StreamEnded
            | Self::Output(_) => 1,
        }
    }
}

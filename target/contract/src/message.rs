//! Requests, responses and their framing: one line of JSON each, strictly alternating.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DesiredState, DrillOrder, FoundPool, Incident, ObservedState, PoolId, PoolOrder, Progress};

/// Version of everything in this crate. Both sides say theirs first (`Hello`) and must agree.
pub const PROTOCOL_VERSION: u32 = 2;

/// Longest line that either side accepts: room for tens of thousands of objects, and a bound on memory.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What the control plane asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", content = "body", rename_all = "kebab-case")]
pub enum Request {
    /// First on every connection.
    Hello(Hello),
    /// Make it so. Applied whole or, where an object cannot be made, refused whole.
    Apply(Box<DesiredState>),
    /// Make or find a pool in a file or on a device, for an `Apply` to come. May be long under way: answered at once with how
    /// far it is, and asked again, word for word, until it is there.
    Prepare(Box<PoolOrder>),
    /// The order with this ticket is given up: what it made is removed, what it found is closed as it was.
    Abandon {
        /// [`PoolOrder::ticket`].
        ticket: PoolId,
    },
    /// Damage a stored bit, or the next one to be stored. Refused unless the target was started for drills.
    Drill(DrillOrder),
    /// Tell how it is.
    Observe,
    /// Up to `limit` incidents with a sequence above `after`, lowest first.
    Incidents {
        /// The highest sequence already stored by the asker.
        after: u64,
        /// At most so many.
        limit: u32,
    },
    /// Incidents up to this sequence are stored elsewhere and may be forgotten.
    AckIncidents {
        /// Inclusive.
        through: u64,
    },
}

/// What the target answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", content = "body", rename_all = "kebab-case")]
pub enum Response {
    /// To `Hello`.
    Hello(Hello),
    /// To `Apply`: done and kept.
    Applied(Applied),
    /// To `Apply`, `Prepare` and `Drill`: nothing was changed, for these reasons.
    Refused(Vec<ObjectFault>),
    /// To `Prepare`: not there yet.
    Preparing(Progress),
    /// To `Prepare`: there, and kept for an `Apply` that names it, or until it is abandoned or not asked for any more.
    Prepared(Box<FoundPool>),
    /// To `Abandon`, whether there was such an order or not.
    Abandoned,
    /// To `Drill`: noted; [`ObservedState::drills`] tells what becomes of it.
    Drilled,
    /// To `Observe`.
    Observed(Box<ObservedState>),
    /// To `Incidents`.
    Incidents(Vec<Incident>),
    /// To `AckIncidents`.
    Acked,
    /// The request made no sense.
    Error {
        /// Why.
        detail: String,
    },
}

/// Who is speaking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Program and version, for logs.
    pub program: String,
}

/// A state that is now in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its revision.
    pub revision: u64,
}

/// Why one object of a desired state, or of an order, cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFault {
    /// What kind of object.
    pub object: ObjectKind,
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub detail: String,
    /// What kind of reason.
    pub cause: FaultCause,
    /// JSON pointer (RFC 6901) to the value at fault within the object, as the API writes it; empty for the whole.
    #[serde(default)]
    pub field: String,
}

impl ObjectFault {
    /// A fault of the whole object that more room or another state of things would not cure.
    pub fn new(object: ObjectKind, name: impl Into<String>, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { object, name, detail, cause: FaultCause::Invalid, field: String::new() }
    }

    /// The same, of this kind.
    #[must_use]
    pub fn because(self, cause: FaultCause) -> Self {
        Self { cause, ..self }
    }

    /// The same, of one value.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultCause {
    /// It can never be.
    Invalid,
    /// Something else is there, or uses it.
    Conflict,
    /// Room is missing.
    NoRoom,
}

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say it")]
pub enum ObjectKind {
    Pool,
    Volume,
    Subsystem,
    Host,
    State,
    Drill,
}

/// Either side of the conversation, for code that handles both.
pub trait Envelope: Serialize + DeserializeOwned {}
impl Envelope for Request {}
impl Envelope for Response {}

/// A line that is not a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// Not the JSON that was expected.
    #[error("the message cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// One message as a line, its line feed included.
pub fn encode_line<M: Envelope>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(line)
}

/// Reads one line back; its line feed may be there or not.
pub fn decode_line<M: Envelope>(line: &[u8]) -> Result<M, FrameError> {
    if line.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_survives_the_line() {
        let request = Request::Apply(Box::new(DesiredState { revision: 7, ..DesiredState::default() }));
        let line = encode_line(&request).unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(decode_line::<Request>(&line).unwrap(), request);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(decode_line::<Request>(b"{\"request\":\"apply\"}").is_err());
        assert!(decode_line::<Response>(b"\xff\xfe").is_err());
    }
}

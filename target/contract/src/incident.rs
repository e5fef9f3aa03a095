//! An incident: integrity failures with one cause, attributed to a host.

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, VolumeId};

/// One incident in its newest form. The target sends it again, under the same `id` and with a higher
/// `sequence`, when its count grew or more became known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Position in the target's stream; what `AckIncidents` speaks of.
    pub sequence: u64,
    /// Immutable, unique over restarts.
    pub id: String,
    /// Milliseconds since 1970-01-01 UTC of the first failure.
    pub first_time_ms: u64,
    /// Milliseconds since 1970-01-01 UTC of the latest failure.
    pub last_time_ms: u64,
    /// Failed commands.
    pub count: u64,
    /// The host whose command failed.
    pub host: HostId,
    /// Whether the host had proved who it is.
    pub authenticated: bool,
    /// `nvme-tcp` or `iscsi`.
    pub transport: crate::Transport,
    /// The initiator's address and port.
    pub peer: String,
    /// The session, readable.
    pub session: String,
    /// The volume.
    pub volume: VolumeId,
    /// Lowest failing block of the first failed command.
    pub lba: u64,
    /// Length of the first failed command, in blocks.
    pub blocks: u64,
    /// What the host had asked for.
    pub operation: OperationWord,
    /// What did not match.
    pub tag: TagWord,
    /// The tag's value that should have been there, `0x…`, full width; none for digests and media.
    pub expected: Option<String>,
    /// The tag's value that was there, as above.
    pub actual: Option<String>,
    /// Who wrote the block, on reads.
    pub writer: Option<HostId>,
    /// Whose fault.
    pub verdict: Verdict,
    /// How sure.
    pub confidence: Confidence,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// The failing block as it came.
    pub evidence: Evidence,
}

/// What a failed command was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are the commands' names")]
pub enum OperationWord {
    Read,
    Write,
    Compare,
    Verify,
}

/// What did not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are the tags' names")]
pub enum TagWord {
    Guard,
    App,
    Ref,
    Storage,
    Digest,
    Media,
}

/// Whose fault an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The host changed a page after its checksum was computed.
    HostRace,
    /// The host's memory flips bits.
    HostMemory,
    /// The network between host and target.
    Wire,
    /// The host sent a good block to the wrong address.
    Misdirected,
    /// The target itself.
    Target,
    /// The medium under the store.
    Media,
    /// Not known. Better than a wrong accusation.
    Undetermined,
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Confidence {
    Low,
    Medium,
    High,
}

/// The failing block, kept as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The block's data, lower-case hex; empty where it was not kept.
    pub data: String,
    /// The block's tuple, lower-case hex.
    pub tuple: String,
    /// Header and data digests in use on the connection.
    pub header_digest: bool,
    /// As above.
    pub data_digest: bool,
}

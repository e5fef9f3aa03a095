//! What the two planes say to each other, over one Unix socket.
//!
//! The control plane owns intent and the target keeps what it was last told. The control plane
//! sends its whole [`DesiredState`] (`Apply`), reads back an [`ObservedState`] (`Observe`) and
//! collects incidents (`Incidents`, then `AckIncidents`). What takes longer than an answer may, or what nobody
//! can know beforehand, comes in front of the state that names it: a pool in a file is made or found first
//! ([`PoolOrder`]). Every message is one line of JSON, so that a person can watch the conversation with
//! ordinary tools.
//!
//! This crate is the only one that both planes import.

mod desired;
mod ids;
mod incident;
mod message;
mod observed;
mod order;
mod secret;

pub use desired::{
    Backing, DesiredChap, DesiredGrant, DesiredHost, DesiredMutual, DesiredNamespace, DesiredPool,
    DesiredState, DesiredSubsystem, DesiredVolume, EnforceSetting, GuardSetting, PiSettings, ViewSetting,
};
pub use ids::{HostId, IdError, PoolId, SubsystemId, VolumeId};
pub use incident::{Confidence, Evidence, Incident, OperationWord, TagWord, Verdict};
pub use message::{
    Applied, Envelope, FaultCause, FrameError, Hello, MESSAGE_BYTES_MAX, ObjectFault, ObjectKind,
    PROTOCOL_VERSION, Request, Response, decode_line, encode_line,
};
pub use observed::{
    CounterRow, DigestRow, DiscoveredHost, DurationRow, IoTotals, JournalState, MapMemory, ObservedDrill,
    ObservedPool, ObservedSession, ObservedState, ObservedVolume, PiTotals, PoolHealth, Progress, Transport,
};
pub use order::{DrillOrder, DrillStage, FoundPool, FoundVolume, PoolOrder};
pub use secret::Secret;

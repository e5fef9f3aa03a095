//! What the two planes say to each other, over one Unix socket.
//!
//! The control plane owns intent and the target keeps what it was last told. The control plane
//! sends its whole [`DesiredState`] (`Apply`), reads back an [`ObservedState`] (`Observe`) and
//! collects incidents (`Incidents`, then `AckIncidents`); nothing else is said. Every message is
//! one line of JSON, so that a person can watch the conversation with ordinary tools.
//!
//! This crate is the only one that both planes import.

mod desired;
mod ids;
mod incident;
mod message;
mod observed;

pub use desired::{
    Backing, DesiredGrant, DesiredHost, DesiredNamespace, DesiredPool, DesiredState, DesiredSubsystem,
    DesiredVolume, EnforceSetting, GuardSetting, PiSettings, ViewSetting,
};
pub use ids::{HostId, IdError, PoolId, SubsystemId, VolumeId};
pub use incident::{Confidence, Evidence, Incident, OperationWord, TagWord, Verdict};
pub use message::{
    Applied, Envelope, FrameError, Hello, MESSAGE_BYTES_MAX, ObjectFault, ObjectKind, PROTOCOL_VERSION,
    Request, Response, decode_line, encode_line,
};
pub use observed::{
    CounterRow, DigestRow, DiscoveredHost, DurationRow, IoTotals, ObservedPool, ObservedSession,
    ObservedState, ObservedVolume, PiTotals, PoolHealth, Transport,
};

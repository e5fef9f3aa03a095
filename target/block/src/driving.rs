//! What whoever drives the connections of both front ends agrees on with them: what a new one is told, what its input costs, and
//! what is to become of its socket.

use std::net::SocketAddr;

/// Most responses that go into one send. Fewer cost system calls, more make the host wait in lockstep.
pub const RESPONSES_PER_BATCH: usize = 16;

/// What a PDU costs beside its payload, in bytes moved: judging, executing and answering a command takes about as long as
/// moving 4 KiB, so a 4 KiB command counts twice this and a 128 KiB one 33 times, as measured.
pub const PDU_COST: u64 = 4096;

/// A peer that has not come as far as a queue or a session after this time is to be disconnected.
pub const HALF_OPEN_MS: u64 = 15_000;

/// What is known of a connection when its socket has been accepted.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionConfig {
    /// The number under which completions find it: [`crate::Origin::connection`].
    pub id: u64,
    /// The host's address.
    pub peer: SocketAddr,
    /// Our address, as the host has connected to it.
    pub local: SocketAddr,
    /// The number of the portal among those of its protocol.
    pub portal: u16,
    /// The clock.
    pub now_ms: u64,
    /// How long the peer may take to come as far as a successful Connect, or the full feature phase, in milliseconds; see
    /// [`HALF_OPEN_MS`].
    pub half_open_ms: u64,
}

/// What is to become of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It stays open.
    Open,
    /// To be closed as soon as the connection has nothing more to transmit.
    CloseAfterTransmit,
    /// To be closed without sending anything more.
    CloseNow,
}

/// What became of some input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes taken off its front.
    pub bytes: usize,
    /// What was done, in bytes moved. It exceeds the budget by the last PDU and its command at most, and by what was
    /// started since the last call.
    pub cost: u64,
}

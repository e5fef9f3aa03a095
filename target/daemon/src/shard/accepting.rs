//! Connections that come.

use std::net::TcpStream;

use holdfast_reactor::{Io, Service};

use super::Shard;

/// Connections that may wait for the first state on one core.
pub(super) const EARLY_MAX: usize = 1024;

impl Shard {
    /// Takes a connection over that another core accepted.
    pub(super) fn adopt(&mut self, io: &mut Io, listener: u32, stream: TcpStream) {
        // A peer that has gone already has no address any more.
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
        if let Some(socket) = io.adopt(stream) {
            self.accepted(io, listener, socket, peer, local);
        }
    }
}

//! What leaves: batches, and the end of connections.

use holdfast_block::{Disposition, PoolId, TransmitSink};
use holdfast_reactor::{Io, Refused, RegionId, SendBatch, SendProgress};

use super::Shard;

/// Send batches kept for reuse by one core.
const BATCHES_KEPT_MAX: usize = 1024;

/// A peer that does not take a batch (at most 256 KiB of data) in this time is disconnected: what it has asked for and does
/// not read is held for it.
pub(super) const SEND_STALL_MS: u64 = 30_000;

impl Shard {
    /// Sends what is ready on every marked link.
    pub(super) fn flush(&mut self, io: &mut Io) {
        while let Some(at) = self.dirty.pop() {
            if let Some(Some(link)) = self.links.get_mut(at) {
                link.dirty = false;
            }
            self.flush_link(io, at);
        }
    }

    fn flush_link(&mut self, io: &mut Io, at: usize) {
        let Some(Some(link)) = self.links.get(at) else { return };
        if link.closing || link.sending.is_some() {
            if link.connection.disposition() == Disposition::CloseNow && !link.closing {
                self.close(io, at);
            }
            return;
        }
        let socket = link.socket;
        if let Some(batch) = self.build_batch(at) {
            match io.send(socket, batch) {
                Ok(()) => self.set_sending(at),
                Err(refused) => return self.send_refused(io, at, refused),
            }
        }
        let Some(Some(link)) = self.links.get(at) else { return };
        match link.connection.disposition() {
            Disposition::Open => {}
            Disposition::CloseAfterTransmit if link.sending.is_some() => {}
            Disposition::CloseAfterTransmit => {
                io.shutdown_after_send(socket);
                self.set_closing(io, at);
            }
            Disposition::CloseNow => self.close(io, at),
        }
    }

    /// Sends in the middle of a turn, as long as at least so many responses are ready, so that the host goes on while others
    /// are served: with everything in one send at the end of the turn, host and target would take turns instead of
    /// working both.
    pub(super) fn send_batches(&mut self, io: &mut Io, at: usize, least: usize) {
        while let Some(Some(link)) = self.links.get(at)
            && link.sending.is_none()
            && !link.closing
            && link.connection.ready_responses() >= least
        {
            let socket = link.socket;
            let Some(batch) = self.build_batch(at) else { return };
            match io.send_now(socket, batch) {
                Ok(SendProgress::Out(batch)) => {
                    self.recycle(batch);
                    self.with_link(at, |link, cx| link.connection.transmitted(cx));
                }
                Ok(SendProgress::InFlight) => self.set_sending(at),
                Err(refused) => return self.send_refused(io, at, refused),
            }
        }
    }

    /// The connection's next batch, if it has anything to send.
    fn build_batch(&mut self, at: usize) -> Option<SendBatch> {
        let mut batch = self.batches.pop().unwrap_or_default();
        let regions = std::mem::take(&mut self.regions);
        let filled = self.with_link(at, |link, cx| {
            let mut sink = BatchSink { batch: &mut batch, regions: &regions };
            link.connection.poll_transmit(cx, &mut sink)
        });
        self.regions = regions;
        if filled == Some(true) && !batch.is_empty() {
            return Some(batch);
        }
        self.recycle(batch);
        None
    }

    fn send_refused(&mut self, io: &mut Io, at: usize, refused: Refused) {
        tracing::debug!(reason = %refused.reason, "a send was refused");
        self.recycle(refused.batch);
        self.close(io, at);
    }

    pub(super) fn close(&mut self, io: &mut Io, at: usize) {
        if let Some(Some(link)) = self.links.get(at) {
            io.close(link.socket);
        }
        self.set_closing(io, at);
    }

    fn set_sending(&mut self, at: usize) {
        let now_ms = self.clock.now_ms;
        if let Some(Some(link)) = self.links.get_mut(at) {
            link.sending = Some(now_ms);
        }
        self.note_deadline(at);
    }

    pub(super) fn close_if_stalled(&mut self, io: &mut Io, at: usize, now_ms: u64) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        if link.sending.is_some_and(|since| since.saturating_add(SEND_STALL_MS) <= now_ms) {
            // Not asked again while the close is under way.
            link.sending = Some(u64::MAX);
            tracing::info!(peer = %link.peer, "disconnected: the peer takes no responses");
            self.close(io, at);
        }
    }

    fn set_closing(&mut self, io: &mut Io, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at) {
            link.closing = true;
        }
        self.drop_input(io, at);
    }

    pub(super) fn recycle(&mut self, mut batch: SendBatch) {
        if self.batches.len() < BATCHES_KEPT_MAX {
            batch.clear();
            self.batches.push(batch);
        }
    }
}

/// Puts a connection's bytes into a batch.
struct BatchSink<'a> {
    batch: &'a mut SendBatch,
    regions: &'a [Option<(PoolId, RegionId)>],
}

impl TransmitSink for BatchSink<'_> {
    fn inline(&mut self, bytes: &[u8]) {
        self.batch.push_inline(bytes);
    }

    fn region(&mut self, region: u16, offset: usize, len: usize) {
        match self.regions.get(usize::from(region)) {
            Some(Some((_, id))) => self.batch.push_region(*id, offset, len),
            _ => debug_assert!(false, "the store names regions that were added"),
        }
    }

    fn zeroes(&mut self, len: usize) {
        self.batch.push_zeros(len);
    }
}

//! What a connection has still to send: headers in an arena, write data by reference to its slot.
//!
//! All that is ready leaves in one `writev` of up to [`VECTORS_MAX`] pieces; write data is never copied in this
//! process. Nothing is allocated once the arena has reached its size.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};

/// Pieces of one `writev`: 32 writes of 4 KiB with their headers. More gains nothing, and a batch ought not to
/// wait for the kernel to copy much more than what fits its caches.
const VECTORS_MAX: usize = 64;
/// Sent header bytes that are kept before the arena is moved down.
const ARENA_SLACK: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// The next bytes of the arena.
    Header { len: usize },
    /// Bytes of a slot's payload.
    Payload { slot: usize, from: usize, len: usize },
}

/// The send side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    arena: Vec<u8>,
    arena_sent: usize,
    pieces: VecDeque<Piece>,
}

impl Transmit {
    /// Appends header bytes.
    pub(crate) fn header(&mut self, bytes: &[u8]) {
        if self.arena_sent >= ARENA_SLACK {
            self.arena.drain(..self.arena_sent);
            self.arena_sent = 0;
        }
        self.arena.extend_from_slice(bytes);
        match self.pieces.back_mut() {
            Some(Piece::Header { len }) => *len = len.saturating_add(bytes.len()),
            _ => self.pieces.push_back(Piece::Header { len: bytes.len() }),
        }
    }

    /// Appends bytes of a slot's payload, which must stay as they are until the command ends.
    pub(crate) fn payload(&mut self, slot: usize, from: usize, len: usize) {
        self.pieces.push_back(Piece::Payload { slot, from, len });
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self, mut socket: impl Write, payloads: &[Vec<u8>]) -> io::Result<()> {
        while !self.pieces.is_empty() {
            let mut vectors = [IoSlice::new(&[]); VECTORS_MAX];
            let mut header_at = self.arena_sent;
            let mut count = 0_usize;
            for (vector, piece) in vectors.iter_mut().zip(&self.pieces) {
                let bytes = match *piece {
                    Piece::Header { len } => {
                        let start = header_at;
                        header_at = start.saturating_add(len);
                        self.arena.get(start..header_at)
                    }
                    Piece::Payload { slot, from, len } => {
                        payloads.get(slot).and_then(|payload| payload.get(from..from.saturating_add(len)))
                    }
                };
                *vector = IoSlice::new(bytes.expect("pieces lie within their buffers"));
                count = count.saturating_add(1);
            }
            match socket.write_vectored(vectors.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.arena.clear();
        self.arena_sent = 0;
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let Some(piece) = self.pieces.front_mut() else { return };
            let left = match piece {
                Piece::Header { len } => {
                    let done = sent.min(*len);
                    *len = len.saturating_sub(done);
                    self.arena_sent = self.arena_sent.saturating_add(done);
                    sent = sent.saturating_sub(done);
                    *len
                }
                Piece::Payload { from, len, .. } => {
                    let done = sent.min(*len);
                    *from = from.saturating_add(done);
                    *len = len.saturating_sub(done);
                    sent = sent.saturating_sub(done);
                    *len
                }
            };
            if left == 0 {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `step` bytes at a time and then would block once.
    struct Slow {
        taken: Vec<u8>,
        step: usize,
        blocked: bool,
    }

    impl Write for &mut Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.blocked = !self.blocked;
            if self.blocked {
                return Err(ErrorKind::WouldBlock.into());
            }
            let len = bytes.len().min(self.step);
            self.taken.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn order_survives_partial_sends() {
        let payloads = [vec![1; 50], vec![2; 70]];
        let mut socket = Slow { taken: Vec::new(), step: 7, blocked: false };
        let mut transmit = Transmit::default();
        transmit.header(&[8; 9]);
        transmit.payload(1, 10, 30);
        transmit.flush(&mut socket, &payloads).unwrap();
        transmit.header(&[9; 5]);
        transmit.header(&[9; 5]);
        transmit.payload(0, 0, 50);
        while !transmit.pieces.is_empty() {
            transmit.flush(&mut socket, &payloads).unwrap();
        }
        assert_eq!(socket.taken, [vec![8; 9], vec![2; 30], vec![9; 10], vec![1; 50]].concat());
    }

    #[test]
    fn the_arena_stays_small_when_it_is_never_empty() {
        let mut socket = Slow { taken: Vec::new(), step: 1000, blocked: false };
        let mut transmit = Transmit::default();
        transmit.header(&[0; 500]);
        for _ in 0..10_000 {
            transmit.header(&[0; 500]);
            transmit.flush(&mut socket, &[]).unwrap();
            transmit.flush(&mut socket, &[]).unwrap();
        }
        assert!(transmit.arena.capacity() < 1 << 20);
    }
}

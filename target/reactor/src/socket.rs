//! Sockets of a reactor: numbered slots that are used again, each life under its own generation, so that a late
//! completion or an old [`SocketId`] never meets a successor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use libc::{iovec, msghdr};

use crate::backend::INDEX_MAX;
use crate::regions::RegionTable;
use crate::send::{Cursor, SendBatch};

/// Names an accepted socket. It stays invalid for ever once the socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SocketId {
    /// A small number, unique among the sockets open at one time and below the reactor's `sockets_max`: fit to index a
    /// table of the service's own. Its next bearer comes after `closed` was called for this one.
    pub fn index(self) -> usize {
        usize::try_from(self.index).unwrap_or(usize::MAX)
    }
}

/// Why a socket was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The service asked for it.
    Local,
    /// The peer closed its side.
    Peer,
    /// The connection failed; the value is the operating system's error number.
    Failed(i32),
    /// After [`crate::Io::shutdown_after_send`] the peer did not close within the limits.
    Lingered,
    /// The reactor ended.
    Stopped,
}

/// Where in its life a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Delivers and sends.
    Open,
    /// Sends what is in flight and shuts down; input is discarded, at most so many bytes more.
    Lingering { discard_max: usize },
    /// Waits for the kernel to let go.
    Closing { reason: CloseReason },
}

/// One accepted socket.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) phase: Phase,
    /// A receive is armed: its last completion is still to come.
    pub(crate) receiving: bool,
    /// The cancellation of that receive is under way.
    pub(crate) cancelling: bool,
    /// The service wants nothing delivered.
    pub(crate) paused: bool,
    /// It waits in the queue for a buffer; nothing is armed meanwhile.
    pub(crate) starved: bool,
    /// The peer has closed its side.
    pub(crate) ended: bool,
    /// A send is with the kernel: its completion is still to come.
    pub(crate) sending: bool,
    /// The batch that `outbound` describes.
    pub(crate) batch: Option<SendBatch>,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Socket {
        Socket {
            fd,
            phase: Phase::Open,
            receiving: false,
            cancelling: false,
            paused: false,
            starved: false,
            ended: false,
            sending: false,
            batch: None,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the kernel holds nothing of it any more.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.receiving && !self.sending
    }
}

/// The message header of the send in flight, with its vectors and progress. It stays with the slot, so that its memory
/// is reused by later sockets.
pub(crate) struct Outbound {
    header: msghdr,
    vectors: Vec<iovec>,
    cursor: Cursor,
}

impl Outbound {
    fn new() -> Outbound {
        // SAFETY: all-zero bytes are a valid message header: null pointers with zero lengths.
        let header = unsafe { std::mem::zeroed::<msghdr>() };
        Outbound { header, vectors: Vec::new(), cursor: Cursor::default() }
    }

    /// Begins a new batch.
    pub(crate) fn restart(&mut self) {
        self.cursor = Cursor::default();
    }

    /// Notes that `sent` bytes more of `batch` are out. Whether all are.
    pub(crate) fn advance(&mut self, batch: &SendBatch, sent: usize) -> bool {
        self.cursor.advance(batch, sent)
    }

    /// The header of the next send of `batch`: valid until the next call on this value, and only while the batch and its
    /// regions stay as they are. The pointer is null if there is nothing to send.
    pub(crate) fn prepare(&mut self, batch: &SendBatch, regions: &RegionTable) -> *const msghdr {
        batch.gather(regions, self.cursor, &mut self.vectors);
        if self.vectors.is_empty() {
            return ptr::null();
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &raw const self.header
    }
}

/// A slot: the socket of its present life, if any.
struct Slot {
    generation: u32,
    socket: Option<Socket>,
    /// Boxed: the kernel is given its address, and the table of slots grows.
    outbound: Box<Outbound>,
}

/// All sockets of one reactor.
pub(crate) struct SocketTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    sockets_max: usize,
}

impl SocketTable {
    /// At most `sockets_max` sockets at one time; the table grows to what is used.
    pub(crate) fn new(sockets_max: u32) -> SocketTable {
        let sockets_max = usize::try_from(sockets_max.min(INDEX_MAX)).unwrap_or(0);
        SocketTable { slots: Vec::new(), free: Vec::new(), open: 0, sockets_max }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    #[cfg(test)]
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Gives the socket a slot; gives it back if the limit is reached.
    pub(crate) fn insert(&mut self, socket: Socket) -> Result<SocketId, Socket> {
        if self.open >= self.sockets_max {
            return Err(socket);
        }
        if self.free.is_empty() {
            let Ok(index) = u32::try_from(self.slots.len()) else {
                return Err(socket);
            };
            self.slots.push(Slot { generation: 0, socket: None, outbound: Box::new(Outbound::new()) });
            self.free.push(index);
        }
        let Some(index) = self.free.pop() else {
            return Err(socket);
        };
        let Some(slot) = usize::try_from(index).ok().and_then(|at| self.slots.get_mut(at)) else {
            return Err(socket);
        };
        slot.socket = Some(socket);
        self.open += 1;
        Ok(SocketId { index, generation: slot.generation })
    }

    pub(crate) fn get(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.slot(id)?.socket.as_mut()
    }

    /// The socket together with the header of its sends.
    pub(crate) fn get_with_outbound(&mut self, id: SocketId) -> Option<(&mut Socket, &mut Outbound)> {
        let slot = self.slot(id)?;
        Some((slot.socket.as_mut()?, &mut slot.outbound))
    }

    /// Ends the socket's life: its number is free, and its id is stale from now on.
    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Socket> {
        let slot = self.slot(id)?;
        let socket = slot.socket.take()?;
        debug_assert!(socket.is_quiet(), "a socket was freed while the kernel uses it");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.open -= 1;
        Some(socket)
    }

    /// Every open socket.
    pub(crate) fn ids(&self) -> Vec<SocketId> {
        let numbered = (0_u32..).zip(&self.slots);
        numbered
            .filter(|(_, slot)| slot.socket.is_some())
            .map(|(index, slot)| SocketId { index, generation: slot.generation })
            .collect()
    }

    fn slot(&mut self, id: SocketId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        (slot.generation == id.generation).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        Socket::new(one.into())
    }

    #[test]
    fn a_slot_is_used_again_under_a_new_id() {
        let mut table = SocketTable::new(4);
        let first = table.insert(socket()).ok().unwrap();
        assert!(table.remove(first).is_some());
        assert!(table.get(first).is_none());
        assert!(table.remove(first).is_none());
        let second = table.insert(socket()).ok().unwrap();
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
    }

    #[test]
    fn the_limit_refuses_one_more_until_one_leaves() {
        let mut table = SocketTable::new(2);
        let first = table.insert(socket()).ok().unwrap();
        table.insert(socket()).ok().unwrap();
        assert!(table.insert(socket()).is_err());
        table.remove(first).unwrap();
        assert!(table.insert(socket()).is_ok());
        assert_eq!((table.open_count(), table.slot_count()), (2, 2));
    }
}

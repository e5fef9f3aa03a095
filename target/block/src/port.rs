//! The seam between the protocols and this layer.

use std::sync::Arc;

use crate::reservations::{Effects, Refusal, Request, Reservations, Standing};
use crate::{
    BlockError, BlockOrigin, Command, Completion, Enforce, Origin, Session, TicketId, View, VolumeId,
};

/// A host's access to one volume on this core: what admission found out, once, for all its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttachmentId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl AttachmentId {
    /// Made by implementers of [`BlockPort`] only; nobody else knows what the numbers mean.
    pub fn from_parts(index: u32, generation: u32) -> Self {
        AttachmentId { index, generation }
    }

    /// The numbers, index first.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

/// What is needed to attach.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// On whose behalf.
    pub session: Arc<Session>,
    /// Which volume.
    pub volume: VolumeId,
    /// How it looks to this host.
    pub view: View,
    /// What is demanded of its commands.
    pub enforce: Enforce,
}

/// What a connection may ask of the block layer. One core, no waiting: whatever takes time ends in a [`Completion`].
///
/// The life of a ticket: `begin` → for Write and Compare `fill` until all
/// [`BlockPort::transfer_len`] bytes have come, in order → `submit` → completion → `transmit` for Read → `release`.
/// For a Copy: `begin` of the target → for each range a source, `carry`, `release` → `submit` of the target.
/// `cancel` ends it at any point before the completion was taken; nothing is stored and no completion follows.
pub trait BlockPort {
    /// Admits a session to a volume.
    fn attach(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError>;

    /// Ends an attachment. Its commands under way go on to their completions.
    fn detach(&mut self, attachment: AttachmentId);

    /// Changes what is demanded of the commands to come.
    fn set_enforce(&mut self, attachment: AttachmentId, enforce: Enforce);

    /// Admits a command; for Write and Compare, room for the whole payload is reserved before any of it is asked for.
    fn begin(&mut self, command: &Command) -> Result<TicketId, BlockError>;

    /// Whether so much room is taken by payloads like this command's that a connection which holds some already should wait
    /// with more: those that hold none get theirs from what is left.
    fn is_crowded(&self, command: &Command) -> bool;

    /// Bytes on the wire that the command moves (data and, interleaved, tuples); 0 where none.
    fn transfer_len(&self, ticket: TicketId) -> usize;

    /// Takes the next payload bytes; `offset` counts from the start of the transfer and grows without gaps.
    fn fill(&mut self, ticket: TicketId, offset: usize, bytes: &[u8]);

    /// Marks the payload as damaged on the wire: the command will fail with [`BlockError::Digest`], nothing is stored.
    fn digest_failed(&mut self, ticket: TicketId);

    /// The payload is complete (or there is none): do it.
    fn submit(&mut self, ticket: TicketId);

    /// Both payloads are complete: does the Compare and, if it finds no difference, the Write, with no write of anybody to
    /// these blocks between them. Both are for the same range through the same attachment, and each gets its completion;
    /// after a Compare that failed the Write ends with [`BlockError::FusedFailed`]. Who cancels one cancels both.
    fn submit_fused(&mut self, compare: TicketId, write: TicketId);

    /// Takes the blocks of a completed [`crate::Operation::CopySource`] into an open [`crate::Operation::CopyTarget`], behind
    /// those that it has. Both have the same layout and blocks of the same length.
    fn carry(&mut self, source: TicketId, target: TicketId);

    /// How block `index` of a completed [`crate::Operation::CopySource`] came to be: which blocks are holes, for one. `None`
    /// beyond its end, and of every other command.
    fn block_origin(&self, source: TicketId, index: usize) -> Option<BlockOrigin>;

    /// Asks for a change of the volume's reservations on behalf of the attachment's session. It waits for those that were
    /// asked for before, is decided, kept over restarts where it has to be, and made; after a PREEMPT AND ABORT it ends once
    /// no aborted command can change a block any more. Then its [`Completion`] follows, without a `submit`: `Ok` says that
    /// there is an answer, see [`BlockPort::reservation_answer`]. A ticket that is cancelled once its request was decided
    /// does not take that back.
    fn begin_reservation(
        &mut self,
        origin: Origin,
        attachment: AttachmentId,
        request: Request,
    ) -> Result<TicketId, BlockError>;

    /// What came of a completed request, until its ticket is released.
    fn reservation_answer(&self, ticket: TicketId) -> Option<&Result<Effects, Refusal>>;

    /// The reservations of an attachment's volume; `None` if the attachment is not there.
    fn reservation_report(&self, attachment: AttachmentId) -> Option<Arc<Reservations>>;

    /// What the volume's reservations refuse to an attachment's session now. `begin` looks by itself; this is for commands
    /// that do not come to this layer, and for what has to be said before others are judged.
    fn standing(&mut self, attachment: AttachmentId) -> Standing;

    /// Ends a RESERVE (6) on an attachment's volume, whoever holds it: what a reset does. (That of a session ends with the
    /// session's last attachment to the volume.)
    fn end_legacy_reservation(&mut self, attachment: AttachmentId);

    /// Ends a ticket without a completion.
    fn cancel(&mut self, ticket: TicketId);

    /// Puts `len` wire bytes of a completed Read, from `offset` on, into a send, without copying them.
    fn transmit<T: TransmitSink>(&self, ticket: TicketId, offset: usize, len: usize, sink: &mut T);

    /// Shows the same bytes, piece by piece, to somebody who digests them.
    fn visit(&self, ticket: TicketId, offset: usize, len: usize, visitor: &mut dyn FnMut(&[u8]));

    /// Ends a completed ticket; the blocks of a Read may be reused from here on.
    fn release(&mut self, ticket: TicketId);

    /// The next completion, if any.
    fn next_completion(&mut self) -> Option<Completion>;

    /// Blocks of a volume that hold data, for Namespace Utilization and the like; `None` if the volume is not there.
    fn blocks_allocated(&self, volume: VolumeId) -> Option<u64>;
}

/// Where outgoing bytes are put together: inline bytes are copied, the others are only referred to.
pub trait TransmitSink {
    /// Copies a few bytes: headers, digests, tuples.
    fn inline(&mut self, bytes: &[u8]);
    /// Refers to `len` bytes at `offset` in the memory of region `region` (a pool's memory on this core).
    fn region(&mut self, region: u16, offset: usize, len: usize);
    /// So many zero bytes.
    fn zeroes(&mut self, len: usize);
}

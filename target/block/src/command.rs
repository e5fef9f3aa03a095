//! One command type for all protocols.

use holdfast_pi::{CheckPlan, Fault, InsertTags, Tag};

use crate::{AttachmentId, BlockCount, Lba};

/// What is asked of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Blocks to the host.
    Read,
    /// Blocks from the host.
    Write,
    /// Blocks from the host, held against what is stored.
    Compare,
    /// A read that sends nothing.
    Verify,
    /// Blocks of zeroes; with `insert` tuples are made for them, without it they are deallocated.
    WriteZeroes,
    /// Blocks that nobody needs any more: they read as zeroes under all-ones tuples.
    Deallocate,
    /// Everything acknowledged before becomes durable.
    Flush,
    /// Blocks that cannot be read any more, until they are written again.
    WriteUncorrectable,
    /// A read whose blocks go into a [`Operation::CopyTarget`].
    CopySource,
    /// A write whose blocks come from one [`Operation::CopySource`] after another.
    CopyTarget,
}

/// How blocks look on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Data only; the target inserts and strips tuples.
    DataOnly,
    /// Each block followed by its tuple.
    Interleaved,
}

/// Where a completion belongs. Opaque to this layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The connection, as the caller numbers them.
    pub connection: u64,
    /// The command on that connection, as the caller numbers them.
    pub command: u32,
}

/// A command, admitted or not yet.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Who gets the completion.
    pub origin: Origin,
    /// On whose behalf, on which volume.
    pub attachment: AttachmentId,
    /// What to do.
    pub operation: Operation,
    /// First block.
    pub lba: Lba,
    /// How many.
    pub blocks: BlockCount,
    /// How they look on the wire (Read, Write, Compare), or on their way from one ticket to another.
    pub layout: Layout,
    /// What to check. Ignored on volumes without protection information.
    pub plan: CheckPlan,
    /// What to make tuples of where the host sends none: Write with [`Layout::DataOnly`], Write Zeroes with tuples. Of the
    /// tuples that come to a [`Operation::CopyTarget`], the reference tags alone are made anew.
    pub insert: Option<InsertTags>,
    /// What a Compare holds of tuples beside the data. With it, the plan is for the payload alone: what is stored is not
    /// checked by itself.
    pub held: Option<HeldTags>,
    /// The data must be durable before the completion.
    pub force_unit_access: bool,
}

/// Fields of the tuples of a Compare's payload that are held against those stored, bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldTags {
    /// The guard.
    pub guard: bool,
    /// The application tag.
    pub app: bool,
    /// The reference tag.
    pub reference: bool,
}

/// Where a Compare found the first difference: data before tuple in each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The block, counted from the command's first.
    pub block_index: u32,
    /// The first byte that differs, counted from the start of the payload.
    pub offset: usize,
    /// The field of the tuple; `None` in the data.
    pub tag: Option<Tag>,
}

/// A command under way on its core. Used once: a stale one is refused, never mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl TicketId {
    /// Made by implementers of [`crate::BlockPort`] only; nobody else knows what the numbers mean.
    pub fn from_parts(index: u32, generation: u32) -> Self {
        TicketId { index, generation }
    }

    /// The numbers, index first.
    pub fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

/// The end of a command. After a Read without error, the ticket's blocks can be sent
/// ([`crate::BlockPort::transmit`]) until it is released; **every** completed ticket must be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// As given.
    pub origin: Origin,
    /// The ticket, still alive.
    pub ticket: TicketId,
    /// How it went.
    pub result: Result<(), BlockError>,
}

/// Why a command failed. Each front end maps all of these onto its own status or sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The range does not lie within the volume.
    #[error("blocks beyond the end of the volume")]
    OutOfRange,
    /// A tag did not match. `Fault::block_index` counts from the command's first block.
    #[error("protection information: {0:?}")]
    Protection(Fault),
    /// The command's protection information fields contradict each other, the format or the host's grant.
    #[error("protection information fields that cannot be")]
    InvalidProtection,
    /// Compare found a difference.
    #[error("the data differs")]
    Miscompare(Difference),
    /// The pool has no room for new blocks.
    #[error("the pool is full")]
    NoRoom,
    /// A limit of this core is used up for now; the same command may pass later.
    #[error("a limit is used up for now")]
    Busy,
    /// The medium lost this block, the lowest such.
    #[error("block {} cannot be read", .0.0)]
    Media(Lba),
    /// A host has marked this block, the lowest such, as one that cannot be read.
    #[error("block {} is marked as uncorrectable", .0.0)]
    Uncorrectable(Lba),
    /// The medium could not write, or is not trusted to write any more.
    #[error("the medium cannot write")]
    WriteFault,
    /// The first half of a fused pair has failed.
    #[error("the first half of the pair has failed")]
    FusedFailed,
    /// The volume is gone or does not serve.
    #[error("the volume is not there")]
    Gone,
    /// A reservation of others does not allow it.
    #[error("reservation conflict")]
    ReservationConflict,
    /// Who may do what is not known: the volume's reservations were lost, and nobody has replaced them yet.
    #[error("the reservations were lost")]
    ReservationsLost,
    /// Its host was preempted while it was under way. A write may have taken effect, and does not any more from here on.
    #[error("aborted by a preemption")]
    Preempted,
    /// A data digest did not match; the payload was discarded.
    #[error("the payload came damaged")]
    Digest,
    /// A mistake of ours.
    #[error("internal error")]
    Internal,
}

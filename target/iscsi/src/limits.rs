//! Every limit of sessions in the full feature phase, by name, with its reason.

/// Numbered commands of one session at once: the distance of MaxCmdSN. What stock initiators queue at most.
pub(crate) const WINDOW: u32 = 128;

/// Immediate commands of one session at once, beside the window. RFC 7143 §4.2.2.1: at least one.
pub(crate) const IMMEDIATE_MAX: usize = 16;

/// Payload bytes after which a batch is closed: bounds the pieces of one send and lets other connections have their turn.
pub(crate) const BATCH_BYTES_MAX: usize = 256 * 1024;

/// A peer that has said nothing for this time is asked whether it is there.
pub(crate) const PING_AFTER_MS: u64 = 30_000;

/// How long it may take to answer that.
pub(crate) const PING_WAIT_MS: u64 = 30_000;

/// A host that leaves R2Ts unanswered for this time is disconnected, so that the room reserved for it comes back.
pub(crate) const TRANSFER_STALL_MS: u64 = 30_000;

/// Tags of ended tasks that are remembered, because data for them may still be on its way.
pub(crate) const ENDED_TAGS_MAX: usize = 256;

/// Bytes of requests that wait for one that is missing before them, for each connection.
pub(crate) const HELD_BYTES_MAX: usize = 1 << 20;

/// Bytes of data that came before there was room for it, or before its command's turn, for each connection. A task that brings
/// more ends with BUSY.
pub(crate) const STAGED_BYTES_MAX: usize = 8 << 20;

/// Longest buffer for such data that is kept for its next use: the default of FirstBurstLength.
pub(crate) const ROOM_KEPT_MAX: usize = 64 * 1024;

/// Longest data segment of a Data-In, whatever the initiator takes: one PDU is a batch.
pub(crate) const DATA_IN_LEN_MAX: usize = BATCH_BYTES_MAX;

/// Bytes of answers without a task that may wait to be sent, as those to pings. A peer that asks for more without reading is
/// disconnected.
pub(crate) const NOTICE_BYTES_MAX: usize = 4 << 20;

/// How long a task management function waits for data that its tasks have asked for. RFC 7143 §4.2.3.3 wants all of it to have come;
/// initiators that send none of it any more (as open-iscsi by default) get their answer all the same.
pub(crate) const ABORT_WAIT_MS: u64 = 2_000;

/// Task management functions under way at once on a connection.
pub(crate) const MANAGING_MAX: usize = 16;

/// PDUs without a task that may wait to be sent: answers to pings, texts and the like. A peer that asks for more without
/// reading is disconnected.
pub(crate) const NOTICES_MAX: usize = 1024;

/// What is asked of a peer that is to log out: seconds within which it should. RFC 7143 §11.9.1, Parameter3.
pub(crate) const LOGOUT_WITHIN_S: u16 = 3;

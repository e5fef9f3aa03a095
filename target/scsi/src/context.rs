//! What surrounds a command.

use holdfast_block::{BlockPort, Exports, Origin};

use crate::attention::Attention;
use crate::units::UnitBook;

/// Everything around a call.
pub struct Context<'a, P: BlockPort> {
    /// Seconds since 1970-01-01 UTC.
    pub unix_seconds: u64,
    /// What is exported to whom.
    pub exports: &'a Exports,
    /// What the nexuses of all cores share.
    pub units: &'a UnitBook,
    /// The block layer of this core.
    pub port: &'a mut P,
}

/// A command as a transport brings it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// LOGICAL UNIT NUMBER.
    pub lun: [u8; 8],
    /// At least as long as the command wants, or padded.
    pub cdb: &'a [u8],
    /// What the initiator has room for.
    pub buffers: Buffers,
    /// Where completions belong.
    pub origin: Origin,
}

/// Lengths in bytes of the initiator's buffers, tuples counted: a transfer ends where they end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    /// What it is ready to send.
    pub data_out: usize,
    /// What it is ready to take.
    pub data_in: usize,
}

/// Task management functions that concern more than one task. SAM-5 §7 "Task management functions".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskFunction {
    /// ABORT TASK SET.
    AbortTaskSet,
    /// CLEAR TASK SET.
    ClearTaskSet,
    /// LOGICAL UNIT RESET.
    UnitReset,
    /// A reset of all logical units of the target.
    TargetReset,
}

/// What became of a task management function. The nexus's own tasks are the transport's to abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Managed {
    /// Nobody else has to do anything.
    Done,
    /// There is no such logical unit.
    NoSuchUnit,
    /// Other nexuses have to abort tasks first: [`UnitBook::is_done`].
    Waits(WaitId),
}

/// What a task management function waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitId(pub(crate) u64);

/// Tasks that another nexus's task management function ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortOrder {
    /// Of this logical unit.
    pub lun: [u8; 8],
    /// TAS: each of them is to end with status TASK ABORTED, and not without a word.
    pub tell: bool,
    /// Who waits for that; to be told by [`crate::Nexus::aborted`].
    pub wait: WaitId,
    /// What the initiator is told instead, by [`crate::Nexus::aborted_in_silence`].
    pub(crate) instead: Option<Attention>,
}

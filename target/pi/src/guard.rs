//! Guards: CRC-16/T10-DIF, CRC-32C and CRC-64/NVME. NVM Command Set 1.1 §5.3.1 "Protection
//! Information Formats".
//!
//! The CRCs are crc-fast's, which pick the machine's carry-less multiply at run time. A whole block in
//! one piece is one call without any state kept, [`guard_of`]; a block that arrives cut runs through a
//! [`Guard`], two words that live beside the command. [`BlockGuard`] takes whichever way fits.

use crate::format::{GuardKind, PiFormat};
use crate::split::Piece;
use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The guard of `data` in one call: the fast path for a block that is in one piece.
#[inline]
pub fn guard_of(kind: GuardKind, data: &[u8]) -> u64 {
    // One arm per algorithm, so that each call sees a constant and crc-fast's own match folds away.
    match kind {
        GuardKind::Crc16 => checksum(CrcAlgorithm::Crc16T10Dif, data),
        GuardKind::Crc32c => checksum(CrcAlgorithm::Crc32Iscsi, data),
        GuardKind::Crc64 => checksum(CrcAlgorithm::Crc64Nvme, data),
    }
}

/// A guard being computed over pieces of a block, in order.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    kind: GuardKind,
    /// The CRC register between two pieces, in crc-fast's form.
    register: u64,
}

impl Guard {
    /// The guard of no bytes yet.
    pub fn new(kind: GuardKind) -> Guard {
        Guard { kind, register: start(kind) }
    }

    /// Takes the next bytes in.
    #[inline]
    pub fn update(&mut self, data: &[u8]) {
        let register = self.register;
        self.register = match self.kind {
            GuardKind::Crc16 => advance(CrcAlgorithm::Crc16T10Dif, register, data),
            GuardKind::Crc32c => advance(CrcAlgorithm::Crc32Iscsi, register, data),
            GuardKind::Crc64 => advance(CrcAlgorithm::Crc64Nvme, register, data),
        };
    }

    /// The guard of the bytes so far. More may follow.
    #[inline]
    pub fn value(&self) -> u64 {
        self.register ^ start(self.kind)
    }

    /// The guard of the bytes so far, and ready for the next block.
    #[inline]
    pub fn take(&mut self) -> u64 {
        let value = self.value();
        self.register = start(self.kind);
        value
    }
}

/// The guards of one block after another, from pieces of their data in order.
#[derive(Debug, Clone, Copy)]
pub struct BlockGuard {
    format: PiFormat,
    running: Guard,
    /// The guard of a block that came in one piece.
    whole: Option<u64>,
}

impl BlockGuard {
    /// Before the first block.
    pub fn new(format: PiFormat) -> BlockGuard {
        BlockGuard { format, running: Guard::new(format.guard()), whole: None }
    }

    /// Takes in the next piece of the block's data. A piece at offset 0 begins a block; what an
    /// unfinished block before it left is forgotten.
    #[inline]
    pub fn take_in(&mut self, piece: &Piece<'_>) {
        if piece.bytes.len() == self.format.block_len() {
            self.whole = Some(guard_of(self.format.guard(), piece.bytes));
            return;
        }
        if piece.offset == 0 {
            *self = BlockGuard::new(self.format);
        }
        self.running.update(piece.bytes);
    }

    /// The guard of the block whose last piece was taken in; the next block starts afresh.
    #[inline]
    pub fn finish(&mut self) -> u64 {
        match self.whole.take() {
            Some(guard) => guard,
            None => self.running.take(),
        }
    }
}

/// What the register starts with, and what the result is inverted with: the same in all three CRCs.
const fn start(kind: GuardKind) -> u64 {
    match kind {
        GuardKind::Crc16 => 0,
        GuardKind::Crc32c => 0xffff_ffff,
        GuardKind::Crc64 => u64::MAX,
    }
}

#[inline]
fn advance(algorithm: CrcAlgorithm, register: u64, data: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(algorithm, register);
    digest.update(data);
    digest.get_state()
}

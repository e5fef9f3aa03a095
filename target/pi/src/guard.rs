//! Guards: CRC-16/T10-DIF, CRC-32C and CRC-64/NVME. NVM Command Set 1.1 §5.3.1 "Protection
//! Information Formats".
//!
//! The CRCs are crc-fast's, which pick the machine's carry-less multiply at run time; the 16-bit one comes
//! from this crate's own kernel where the machine can run it. A whole block in one piece is one call without
//! any state kept, [`guard_of`]; several of them are one call, too, and cheaper where they are small, [`guards_of`]; a block that
//! arrives cut runs through a [`Guard`], two words that live beside the command. [`BlockGuard`] takes
//! whichever way fits. Bytes that have to be copied anyway are copied in the same pass.

use crate::format::{GuardKind, PiFormat};
use crate::simd::Crc16;
use crate::split::Piece;
use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Bytes that are copied before their guard is computed: few enough that they are still in the nearest cache.
const COPY_PART: usize = 4096;

/// The guard of `data` in one call: the fast path for a block that is in one piece.
#[inline]
pub fn guard_of(kind: GuardKind, data: &[u8]) -> u64 {
    // One arm per algorithm, so that each call sees a constant and crc-fast's own match folds away.
    match kind {
        GuardKind::Crc16 => crc16(Crc16::detect(), 0, data),
        GuardKind::Crc32c => checksum(CrcAlgorithm::Crc32Iscsi, data),
        GuardKind::Crc64 => checksum(CrcAlgorithm::Crc64Nvme, data),
    }
}

/// The guards of several blocks, wherever each of them lies, into the first places of `guards`: of
/// 512-byte blocks four at a time. Blocks without a place get none.
#[inline]
pub fn guards_of(kind: GuardKind, blocks: &[&[u8]], guards: &mut [u64]) {
    let kernel = Crc16::detect().filter(|_| kind == GuardKind::Crc16);
    for (blocks, guards) in blocks.chunks(4).zip(guards.chunks_mut(4)) {
        if let Some(kernel) = kernel
            && let [a, b, c, d] = blocks
            && let (Ok(a), Ok(b), Ok(c), Ok(d)) =
                ((*a).try_into(), (*b).try_into(), (*c).try_into(), (*d).try_into())
        {
            guards.iter_mut().zip(kernel.four([a, b, c, d])).for_each(|(guard, crc)| *guard = crc.into());
        } else {
            blocks.iter().zip(guards).for_each(|(block, guard)| *guard = guard_of(kind, block));
        }
    }
}

/// A guard being computed over pieces of a block, in order.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    kind: GuardKind,
    /// The CRC register between two pieces, in crc-fast's form: 16 bits wide, it is the CRC so far.
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
            GuardKind::Crc16 => crc16(Crc16::detect(), register, data),
            GuardKind::Crc32c => advance(CrcAlgorithm::Crc32Iscsi, register, data),
            GuardKind::Crc64 => advance(CrcAlgorithm::Crc64Nvme, register, data),
        };
    }

    /// Takes the next bytes in, and copies them to `to` in the same pass. Both have the same length.
    #[inline]
    pub fn copy(&mut self, data: &[u8], to: &mut [u8]) {
        if self.kind == GuardKind::Crc16 {
            self.register = copy_crc16(Crc16::detect(), self.register, data, to);
            return;
        }
        assert_eq!(data.len(), to.len(), "a copy has the length of what it is made from");
        for (data, to) in data.chunks(COPY_PART).zip(to.chunks_mut(COPY_PART)) {
            to.copy_from_slice(data);
            self.update(data);
        }
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
        if self.is_whole(piece) {
            self.whole = Some(guard_of(self.format.guard(), piece.bytes));
        } else {
            self.running.update(piece.bytes);
        }
    }

    /// The same, and copies the piece's bytes to `to`, which has their length, in the same pass.
    #[inline]
    pub fn copy_in(&mut self, piece: &Piece<'_>, to: &mut [u8]) {
        if self.is_whole(piece) {
            let mut alone = Guard::new(self.format.guard());
            alone.copy(piece.bytes, to);
            self.whole = Some(alone.take());
        } else {
            self.running.copy(piece.bytes, to);
        }
    }

    /// Whether a piece is all of a block. Begins a new one at offset 0.
    #[inline]
    fn is_whole(&mut self, piece: &Piece<'_>) -> bool {
        let whole = piece.bytes.len() == self.format.block_len();
        if piece.offset == 0 && !whole {
            *self = BlockGuard::new(self.format);
        }
        whole
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

/// A 16-bit register after `data`, by the kernel if there is one.
#[inline]
fn crc16(kernel: Option<Crc16>, register: u64, data: &[u8]) -> u64 {
    match kernel {
        Some(kernel) => kernel.update(low16(register), data).into(),
        None => advance(CrcAlgorithm::Crc16T10Dif, register, data),
    }
}

/// The same, copying `data` to `to`.
#[inline]
fn copy_crc16(kernel: Option<Crc16>, register: u64, data: &[u8], to: &mut [u8]) -> u64 {
    match kernel {
        Some(kernel) => kernel.copy(low16(register), data, to).into(),
        None => {
            to.copy_from_slice(data);
            advance(CrcAlgorithm::Crc16T10Dif, register, data)
        }
    }
}

#[inline]
fn low16(register: u64) -> u16 {
    let [low, high, ..] = register.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_kernel_gets_the_same_guards_and_copies() {
        let data: Vec<u8> =
            (0_u32..9000).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]).collect();
        for len in (0..1100).chain([4095, 4096, 4097, 9000]) {
            for register in [0, 0xd0db] {
                let data = &data[..len];
                let (mut with, mut without) = (vec![0; len], vec![0; len]);
                let expected = crc16(None, register, data);
                assert_eq!(crc16(Crc16::detect(), register, data), expected);
                assert_eq!(copy_crc16(Crc16::detect(), register, data, &mut with), expected);
                assert_eq!(copy_crc16(None, register, data, &mut without), expected);
                assert!(with == data && without == data, "{len}");
            }
        }
        assert_eq!(crc16(None, 0, b"123456789"), 0xd0db);
    }
}

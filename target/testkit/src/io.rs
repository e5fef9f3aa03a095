//! I/O commands with full control over protection information.
//!
//! NVM Command Set 1.1 §3.3 "NVM Command Set Commands"; §5.3.3 "PRINFO" and the placement of storage and
//! reference tags in CDW2, CDW3 and CDW14 (figure "Variable Sized … Storage and Reference Tag Format").

use crate::wire::{Sqe, opcode};
use crate::{Command, Completion, Error, Queue};

/// CDW12 bits above the block count.
const FUA: u32 = 1 << 30;
const PRACT: u32 = 1 << 29;
const CHECK_GUARD: u32 = 1 << 28;
const CHECK_APP: u32 = 1 << 27;
const CHECK_REF: u32 = 1 << 26;
const CHECK_STORAGE: u32 = 1 << 24;
const LIMITED_RETRY: u32 = 1 << 31;
const DEALLOCATE: u32 = 1 << 25;

/// The block range and protection fields of an I/O command. Nothing is checked unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    slba: u64,
    nlb: u16,
    cdw12: u32,
    cdw13: u32,
    tags: u128,
    lbat: u16,
    lbatm: u16,
}

impl Io {
    /// `blocks` logical blocks (1 to 65536, counted from one here) from `slba` on.
    #[must_use]
    pub fn at(slba: u64, blocks: u32) -> Self {
        let nlb = u16::try_from(blocks.saturating_sub(1)).unwrap_or(u16::MAX);
        Self { slba, nlb, cdw12: 0, cdw13: 0, tags: 0, lbat: 0, lbatm: 0 }
    }

    /// PRACT=1: the target inserts the tuples of a write and strips those of a read.
    #[must_use]
    pub fn pract(self) -> Self {
        self.set(PRACT)
    }

    /// Check the guard.
    #[must_use]
    pub fn check_guard(self) -> Self {
        self.set(CHECK_GUARD)
    }

    /// Check the application tag.
    #[must_use]
    pub fn check_app(self) -> Self {
        self.set(CHECK_APP)
    }

    /// Check the reference tag.
    #[must_use]
    pub fn check_ref(self) -> Self {
        self.set(CHECK_REF)
    }

    /// Check the storage tag (STC).
    #[must_use]
    pub fn check_storage(self) -> Self {
        self.set(CHECK_STORAGE)
    }

    /// Check guard, application tag and reference tag. For type 3, which has no reference-tag check, use the
    /// single ones.
    #[must_use]
    pub fn check_all(self) -> Self {
        self.check_guard().check_app().check_ref()
    }

    /// Initial (expected) reference tag, 32 bits: CDW14.
    #[must_use]
    pub fn ref_tag(self, ref_tag: u32) -> Self {
        Self { tags: self.tags & !0xffff_ffff | u128::from(ref_tag), ..self }
    }

    /// Storage and reference tag of any format, as the format's space holds them (storage tag above reference
    /// tag): low 32 bits in CDW14, the next 32 in CDW3, the rest in CDW2 bits 15:0.
    #[must_use]
    pub fn storage_and_ref(self, space: u128) -> Self {
        Self { tags: space, ..self }
    }

    /// Application tag to compare with or to insert (LBAT), under mask FFFFh.
    #[must_use]
    pub fn app_tag(self, lbat: u16) -> Self {
        self.app_tag_masked(lbat, 0xffff)
    }

    /// Application tag and its mask (LBATM).
    #[must_use]
    pub fn app_tag_masked(self, lbat: u16, lbatm: u16) -> Self {
        Self { lbat, lbatm, ..self }
    }

    /// Force Unit Access.
    #[must_use]
    pub fn fua(self) -> Self {
        self.set(FUA)
    }

    /// Limited Retry.
    #[must_use]
    pub fn limited_retry(self) -> Self {
        self.set(LIMITED_RETRY)
    }

    /// DEAC of Write Zeroes: deallocate.
    #[must_use]
    pub fn deallocate(self) -> Self {
        self.set(DEALLOCATE)
    }

    /// Any bits of CDW12, reserved ones too.
    #[must_use]
    pub fn cdw12(self, bits: u32) -> Self {
        self.set(bits)
    }

    /// CDW13.
    #[must_use]
    pub fn cdw13(self, value: u32) -> Self {
        Self { cdw13: value, ..self }
    }

    /// The entry with this opcode for namespace `nsid`.
    #[must_use]
    pub fn sqe(&self, opcode: u8, nsid: u32) -> Sqe {
        let dword = |shift: u32| u32::try_from(self.tags >> shift & 0xffff_ffff).unwrap_or(0);
        Sqe::new(opcode)
            .with_nsid(nsid)
            .cdw(2, dword(64) & 0xffff)
            .cdw(3, dword(32))
            .cdw_pair(10, self.slba)
            .cdw(12, self.cdw12 | u32::from(self.nlb))
            .cdw(13, self.cdw13)
            .cdw(14, dword(0))
            .cdw(15, u32::from(self.lbatm) << 16 | u32::from(self.lbat))
    }

    fn set(self, bits: u32) -> Self {
        Self { cdw12: self.cdw12 | bits, ..self }
    }
}

/// A range of Dataset Management.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeallocateRange {
    /// First block.
    pub slba: u64,
    /// Number of blocks.
    pub blocks: u32,
}

impl Queue {
    /// Read: gives what comes, up to `len` bytes.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn read(&mut self, nsid: u32, io: &Io, len: usize) -> Result<Completion, Error> {
        self.run(Command::reading(io.sqe(opcode::READ, nsid), len))
    }

    /// Write: `data` goes onto the wire as it is, interleaved tuples included.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn write(&mut self, nsid: u32, io: &Io, data: &[u8]) -> Result<Completion, Error> {
        self.run(Command::with_data(io.sqe(opcode::WRITE, nsid), data.to_vec()))
    }

    /// Compare.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn compare(&mut self, nsid: u32, io: &Io, data: &[u8]) -> Result<Completion, Error> {
        self.run(Command::with_data(io.sqe(opcode::COMPARE, nsid), data.to_vec()))
    }

    /// Verify.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn verify(&mut self, nsid: u32, io: &Io) -> Result<Completion, Error> {
        self.run(Command::bare(io.sqe(opcode::VERIFY, nsid)))
    }

    /// Write Zeroes.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn write_zeroes(&mut self, nsid: u32, io: &Io) -> Result<Completion, Error> {
        self.run(Command::bare(io.sqe(opcode::WRITE_ZEROES, nsid)))
    }

    /// Write Uncorrectable.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn write_uncorrectable(&mut self, nsid: u32, io: &Io) -> Result<Completion, Error> {
        self.run(Command::bare(io.sqe(opcode::WRITE_UNCORRECTABLE, nsid)))
    }

    /// Flush.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn flush(&mut self, nsid: u32) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::new(opcode::FLUSH).with_nsid(nsid)))
    }

    /// Dataset Management with the Deallocate attribute; at most 256 ranges.
    ///
    /// # Errors
    /// Transport errors, or more ranges than the field counts; a status is in the completion.
    pub fn deallocate(&mut self, nsid: u32, ranges: &[DeallocateRange]) -> Result<Completion, Error> {
        let count = ranges.len().checked_sub(1).and_then(|count| u8::try_from(count).ok());
        let count = count.ok_or_else(|| Error::Usage(format!("{} ranges", ranges.len())))?;
        let data = ranges.iter().flat_map(|range| {
            let low = [0; 4].into_iter().chain(range.blocks.to_le_bytes());
            low.chain(range.slba.to_le_bytes())
        });
        let sqe = Sqe::new(opcode::DATASET_MANAGEMENT).with_nsid(nsid).cdw(10, count.into()).cdw(11, 1 << 2);
        self.run(Command::with_data(sqe, data.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::Io;
    use crate::wire::opcode;

    #[test]
    fn protection_fields_land_in_their_dwords() {
        let io = Io::at(0x1_0000_0002, 32)
            .pract()
            .check_all()
            .fua()
            .ref_tag(0xaabb_ccdd)
            .app_tag_masked(0x1234, 0xff00);
        let sqe = io.sqe(opcode::WRITE, 5);
        assert_eq!((sqe.dword(10), sqe.dword(11)), (2, 1));
        assert_eq!(sqe.dword(12), 0x7c00_001f);
        assert_eq!((sqe.dword(14), sqe.dword(15)), (0xaabb_ccdd, 0xff00_1234));
    }

    #[test]
    fn eighty_bits_of_tags_are_spread_over_three_dwords() {
        let sqe =
            Io::at(0, 1).storage_and_ref(0x0102_0304_0506_0708_090a).check_storage().sqe(opcode::READ, 1);
        assert_eq!((sqe.dword(2), sqe.dword(3), sqe.dword(14)), (0x0102, 0x0304_0506, 0x0708_090a));
        assert_eq!(sqe.dword(12), 0x0100_0000);
    }
}

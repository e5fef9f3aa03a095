//! Copy, and pairs of fused commands.
//!
//! NVM Command Set 1.1 §3.3.2 "Copy command" (figures "Source Range Entries Copy Descriptor Format"); NVM Express
//! Base 2.1 §3.4.2 "Fused Operation".

use crate::wire::{Sqe, opcode};
use crate::{Command, Completion, Error, Queue};

/// FUSE in the flags byte of a command.
const FUSE_FIRST: u8 = 0b01;
const FUSE_SECOND: u8 = 0b10;
const FUSE_MASK: u8 = 0b11;

/// One Source Range entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange {
    /// Source namespace; on the wire only in formats 2h and 3h.
    pub snsid: u32,
    /// First block.
    pub slba: u64,
    /// Number of Logical Blocks, 0's based.
    pub nlb: u16,
    /// Source Options.
    pub sopt: u16,
    /// Expected storage and reference tag as the format's space holds them: 32 bits in formats 0h and 2h, 80 in
    /// 1h and 3h.
    pub tags: u128,
    /// Expected application tag.
    pub elbat: u16,
    /// Its mask.
    pub elbatm: u16,
}

impl SourceRange {
    /// `blocks` blocks (1 to 65536) from `slba` on, of the destination's namespace; nothing expected of tags.
    #[must_use]
    pub fn at(slba: u64, blocks: u32) -> Self {
        let nlb = u16::try_from(blocks.saturating_sub(1)).unwrap_or(u16::MAX);
        Self { snsid: 0, slba, nlb, sopt: 0, tags: 0, elbat: 0, elbatm: 0 }
    }

    /// Of this namespace.
    #[must_use]
    pub fn of(self, snsid: u32) -> Self {
        Self { snsid, ..self }
    }

    /// Expecting this storage and reference tag.
    #[must_use]
    pub fn tags(self, tags: u128) -> Self {
        Self { tags, ..self }
    }

    /// Expecting this application tag, under mask FFFFh.
    #[must_use]
    pub fn app_tag(self, elbat: u16) -> Self {
        Self { elbat, elbatm: 0xffff, ..self }
    }

    /// The entry in descriptor format 0h or 2h (32 bytes), 1h or 3h (40 bytes).
    #[must_use]
    pub fn encode(&self, format: u8) -> Vec<u8> {
        let wide = format & 1 == 1;
        let mut entry = Vec::with_capacity(40);
        entry.extend_from_slice(&if format >= 2 { self.snsid } else { 0 }.to_le_bytes());
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(&self.slba.to_le_bytes());
        entry.extend_from_slice(&u32::from(self.nlb).to_le_bytes());
        entry.extend_from_slice(&[0; 2]);
        entry.extend_from_slice(&self.sopt.to_le_bytes());
        // 80 bits are big-endian, as in the tuple; 32 are a dword like all others.
        if wide {
            entry.extend_from_slice(&[0; 2]);
            entry.extend(self.tags.to_be_bytes().iter().skip(6));
        } else {
            entry.extend(self.tags.to_le_bytes().iter().take(4));
        }
        entry.extend_from_slice(&self.elbat.to_le_bytes());
        entry.extend_from_slice(&self.elbatm.to_le_bytes());
        entry
    }
}

/// A Copy command, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Descriptor format, 0h to Fh.
    pub format: u8,
    /// The ranges.
    pub ranges: Vec<SourceRange>,
    /// Starting Destination LBA.
    pub sdlba: u64,
    /// PRINFOR: PRACT, then guard, application and reference tag check, in bits 3:0.
    pub prinfor: u8,
    /// PRINFOW, likewise.
    pub prinfow: u8,
    /// Other bits of CDW12 (LR, FUA, STCW, and so on).
    pub cdw12: u32,
    /// Storage and initial reference tag of the write portion, as the format's space holds them.
    pub tags: u128,
    /// Application tag of the write portion.
    pub lbat: u16,
    /// Its mask.
    pub lbatm: u16,
}

impl Copy {
    /// These ranges, with this descriptor format, to `sdlba`; nothing checked or inserted.
    #[must_use]
    pub fn new(format: u8, sdlba: u64, ranges: &[SourceRange]) -> Self {
        let (tags, lbat, lbatm) = (0, 0, 0);
        Self { format, ranges: ranges.to_vec(), sdlba, prinfor: 0, prinfow: 0, cdw12: 0, tags, lbat, lbatm }
    }

    /// PRINFOR and PRINFOW.
    #[must_use]
    pub fn prinfo(self, prinfor: u8, prinfow: u8) -> Self {
        Self { prinfor, prinfow, ..self }
    }

    /// Storage and initial reference tag of the write portion.
    #[must_use]
    pub fn tags(self, tags: u128) -> Self {
        Self { tags, ..self }
    }

    /// Application tag of the write portion, under mask FFFFh.
    #[must_use]
    pub fn app_tag(self, lbat: u16) -> Self {
        Self { lbat, lbatm: 0xffff, ..self }
    }

    /// The entry for destination namespace `nsid`.
    #[must_use]
    pub fn sqe(&self, nsid: u32) -> Sqe {
        let dword = |shift: u32| u32::try_from(self.tags >> shift & 0xffff_ffff).unwrap_or(0);
        let ranges = u32::try_from(self.ranges.len().saturating_sub(1)).unwrap_or(u32::MAX) & 0xff;
        let cdw12 = u32::from(self.prinfow & 0xf) << 26
            | u32::from(self.prinfor & 0xf) << 12
            | u32::from(self.format & 0xf) << 8
            | ranges;
        Sqe::new(opcode::COPY)
            .with_nsid(nsid)
            .cdw(2, dword(64) & 0xffff)
            .cdw(3, dword(32))
            .cdw_pair(10, self.sdlba)
            .cdw(12, cdw12 | self.cdw12)
            .cdw(14, dword(0))
            .cdw(15, u32::from(self.lbatm) << 16 | u32::from(self.lbat))
    }

    /// The list of Source Range entries.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        self.ranges.iter().flat_map(|range| range.encode(self.format)).collect()
    }
}

impl Queue {
    /// Copy: DW0 of the completion is the lowest range that was not copied, where it failed.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn copy(&mut self, nsid: u32, copy: &Copy) -> Result<Completion, Error> {
        self.run(Command::with_data(copy.sqe(nsid), copy.data()))
    }

    /// Two commands as one fused operation, one directly behind the other.
    ///
    /// # Errors
    /// Transport errors; the statuses are in the completions.
    pub fn fused(&mut self, first: Command, second: Command) -> Result<(Completion, Completion), Error> {
        let first = self.submit(first.fused(FUSE_FIRST))?;
        let second = self.submit(second.fused(FUSE_SECOND))?;
        Ok((self.wait(first)?, self.wait(second)?))
    }

    /// Compare and Write, fused, of the same blocks.
    ///
    /// # Errors
    /// As [`Self::fused`].
    pub fn compare_and_write(
        &mut self,
        nsid: u32,
        io: &crate::Io,
        expected: &[u8],
        new: &[u8],
    ) -> Result<(Completion, Completion), Error> {
        let compare = Command::with_data(io.sqe(opcode::COMPARE, nsid), expected.to_vec());
        let write = Command::with_data(io.sqe(opcode::WRITE, nsid), new.to_vec());
        self.fused(compare, write)
    }
}

impl Command {
    /// Sets FUSE: 1 for the first command of a pair, 2 for the second, 3 is reserved.
    #[must_use]
    pub fn fused(self, fuse: u8) -> Self {
        let [_, flags, ..] = *self.sqe.as_bytes();
        let sqe = self.sqe.flags(flags & !FUSE_MASK | fuse & FUSE_MASK);
        Self { sqe, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{Copy, SourceRange};

    #[test]
    fn ranges_have_32_bytes_or_40() {
        let range = SourceRange::at(0x0102_0304, 9).of(7).app_tag(0x1122).tags(0xaabb_ccdd);
        let narrow = range.encode(2);
        assert_eq!((narrow.len(), &narrow[0..4], narrow[16]), (32, &[7, 0, 0, 0][..], 8));
        assert_eq!(narrow[24..32], [0xdd, 0xcc, 0xbb, 0xaa, 0x22, 0x11, 0xff, 0xff]);
        let wide = range.encode(1);
        assert_eq!((wide.len(), &wide[0..4]), (40, &[0; 4][..]));
        assert_eq!(wide[32..40], [0xaa, 0xbb, 0xcc, 0xdd, 0x22, 0x11, 0xff, 0xff]);
    }

    #[test]
    fn copy_fields_land_in_their_dwords() {
        let copy = Copy::new(3, 1 << 32, &[SourceRange::at(0, 1), SourceRange::at(1, 1)]).prinfo(0x8, 0x9);
        let sqe = copy.sqe(5);
        assert_eq!((sqe.dword(10), sqe.dword(11), sqe.dword(12)), (0, 1, 0x2400_8301));
    }
}

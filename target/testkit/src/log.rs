//! Log pages, field by field.
//!
//! NVM Express Base 2.1 §5.1.12 "Get Log Page command", §5.1.12.1.2 "Error Information".

use crate::wire::{Sqe, Status, le16, le32, le64, opcode};
use crate::{Command, Completion, Error, Queue};

/// A Get Log Page command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPage {
    lid: u8,
    nsid: u32,
    len: u32,
    offset: u64,
    cdw10: u32,
    lsi: u16,
    cdw14: u32,
}

impl LogPage {
    /// `len` bytes (a multiple of 4, at least 4) of log page `lid`, from its start.
    #[must_use]
    pub fn new(lid: u8, len: u32) -> Self {
        Self { lid, nsid: 0, len, offset: 0, cdw10: 0, lsi: 0, cdw14: 0 }
    }

    /// Of this namespace.
    #[must_use]
    pub fn nsid(self, nsid: u32) -> Self {
        Self { nsid, ..self }
    }

    /// From this offset on.
    #[must_use]
    pub fn offset(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Retain Asynchronous Event.
    #[must_use]
    pub fn retain(self) -> Self {
        Self { cdw10: self.cdw10 | 1 << 15, ..self }
    }

    /// Log Specific Parameter, 7 bits.
    #[must_use]
    pub fn lsp(self, lsp: u8) -> Self {
        Self { cdw10: self.cdw10 | u32::from(lsp & 0x7f) << 8, ..self }
    }

    /// Log Specific Identifier.
    #[must_use]
    pub fn lsi(self, lsi: u16) -> Self {
        Self { lsi, ..self }
    }

    /// Command Set Identifier.
    #[must_use]
    pub fn csi(self, csi: u8) -> Self {
        Self { cdw14: self.cdw14 | u32::from(csi) << 24, ..self }
    }

    /// Offset Type: the offset counts entries rather than bytes.
    #[must_use]
    pub fn by_index(self) -> Self {
        Self { cdw14: self.cdw14 | 1 << 23, ..self }
    }

    /// The command, with a buffer of the length that it asks for.
    #[must_use]
    pub fn command(&self) -> Command {
        let numd = (self.len / 4).saturating_sub(1);
        let sqe = Sqe::new(opcode::GET_LOG_PAGE)
            .with_nsid(self.nsid)
            .cdw(10, (numd & 0xffff) << 16 | self.cdw10 | u32::from(self.lid))
            .cdw(11, u32::from(self.lsi) << 16 | numd >> 16)
            .cdw_pair(12, self.offset)
            .cdw(14, self.cdw14);
        Command::reading(sqe, usize::try_from(self.len).unwrap_or(usize::MAX))
    }
}

/// One entry of the Error Information log page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorEntry {
    /// Error Count; 0 in an entry that is not used.
    pub count: u64,
    /// Submission Queue ID.
    pub sqid: u16,
    /// Command ID.
    pub cid: u16,
    /// Status of the command.
    pub status: Status,
    /// Parameter Error Location: byte in bits 7:0, bit in bits 10:8; FFFFh when it names none.
    pub location: u16,
    /// The first LBA that had the error.
    pub lba: u64,
    /// Namespace.
    pub nsid: u32,
    /// Transport type; 3 is TCP.
    pub trtype: u8,
    /// Opcode of the command, where the controller says it.
    pub opcode: u8,
    /// Version of the entry's format; 1h in Base 2.1.
    pub version: u8,
}

impl ErrorEntry {
    /// Bytes of an entry.
    pub const LEN: usize = 64;

    /// From an entry's bytes; `None` when they are too few.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        Some(Self {
            count: le64(raw, 0)?,
            sqid: le16(raw, 8)?,
            cid: le16(raw, 10)?,
            status: Status::from_bits(le16(raw, 12)?),
            location: le16(raw, 14)?,
            lba: le64(raw, 16)?,
            nsid: le32(raw, 24)?,
            trtype: *raw.get(29)?,
            opcode: *raw.get(31)?,
            version: *raw.get(63)?,
        })
    }
}

impl Queue {
    /// Get Log Page with every field chosen.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn log_page(&mut self, page: &LogPage) -> Result<Completion, Error> {
        self.run(page.command())
    }

    /// The newest `count` entries of the Error Information log page, newest first, unused ones left out.
    ///
    /// # Errors
    /// Transport errors or a status.
    pub fn error_log(&mut self, count: u32) -> Result<Vec<ErrorEntry>, Error> {
        let len = count.saturating_mul(64);
        let data = self.log_page(&LogPage::new(0x01, len))?.ok()?.data;
        let entries = data.chunks_exact(ErrorEntry::LEN).filter_map(ErrorEntry::parse);
        Ok(entries.filter(|entry| entry.count != 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorEntry, LogPage};

    #[test]
    fn log_page_fields_land_in_their_dwords() {
        let page = LogPage::new(0x0d, 1 << 19).offset(0x1_0000_0004).retain().lsp(1).lsi(9).csi(2).by_index();
        let sqe = page.command().sqe;
        assert_eq!((sqe.dword(10), sqe.dword(11)), (0xffff_810d, 0x0009_0001));
        assert_eq!((sqe.dword(12), sqe.dword(13), sqe.dword(14)), (4, 1, 0x0280_0000));
    }

    #[test]
    fn an_error_entry_is_read_from_its_bytes() {
        let mut raw = [0; 64];
        (raw[0], raw[8], raw[10], raw[16], raw[24], raw[29], raw[31], raw[63]) = (5, 1, 7, 40, 2, 3, 1, 1);
        raw[12..14].copy_from_slice(&(0x8000_u16 | 2 << 9 | 0x82 << 1).to_le_bytes());
        let entry = ErrorEntry::parse(&raw).unwrap();
        assert_eq!((entry.count, entry.sqid, entry.cid, entry.lba, entry.nsid), (5, 1, 7, 40, 2));
        assert!(entry.status.is(2, 0x82) && entry.status.dnr);
        assert_eq!((entry.trtype, entry.opcode, entry.version), (3, 1, 1));
        assert!(ErrorEntry::parse(&raw[..63]).is_none());
    }
}

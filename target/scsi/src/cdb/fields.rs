//! The fields of a CDB, command by command.

use holdfast_block::Lba;

use super::table::{NACA, VARIABLE};
use super::{Blocks, ByteCheck, CDB_LEN_MAX, Cdb, ExpectedTags, Name, Protected, ROWS, Row};
use crate::sense::Sense;

/// The row of a CDB. SPC-4 §4.2.5.2: an operation code without that service action has an invalid field.
pub(super) fn find(opcode: u8, bytes: &[u8]) -> Result<&'static Row, Sense> {
    let mut rows = ROWS.iter().filter(|row| row.opcode == opcode).peekable();
    let first = *rows.peek().ok_or(Sense::INVALID_OPCODE)?;
    if first.service_action.is_none() {
        return Ok(first);
    }
    let (action, wrong) = match bytes {
        [VARIABLE, _, _, _, _, _, _, _, high, low, ..] => {
            (u16::from_be_bytes([*high, *low]), Sense::invalid_in_cdb(8, None))
        }
        [VARIABLE, ..] => return Err(Sense::invalid_in_cdb(7, None)),
        [_, byte, ..] => (u16::from(byte & 0x1f), Sense::invalid_in_cdb(1, Some(4))),
        _ => return Err(Sense::INVALID_OPCODE),
    };
    rows.find(|row| row.service_action == Some(action)).ok_or(wrong)
}

/// The bits of a CDB that are looked at; all others are zero.
pub(super) struct Fields {
    bytes: [u8; CDB_LEN_MAX],
    len: usize,
}

impl Fields {
    pub(super) fn of(bytes: &[u8], row: &Row) -> Result<Fields, Sense> {
        let len = row.usage.len();
        if bytes.len() < len {
            // Only a CDB of 32 bytes can be longer than what a transport brings.
            return Err(Sense::invalid_in_cdb(if row.opcode == VARIABLE { 7 } else { 0 }, None));
        }
        let mut kept = [0; CDB_LEN_MAX];
        for ((kept, byte), usage) in kept.iter_mut().zip(bytes).zip(row.usage) {
            *kept = byte & usage;
        }
        let fields = Fields { bytes: kept, len };
        let control = if row.opcode == VARIABLE { 1 } else { len - 1 };
        if fields.byte(control) & NACA != 0 {
            // NORMACA of the standard INQUIRY data is zero.
            return Err(Sense::invalid_in_cdb(u16::try_from(control).unwrap_or(u16::MAX), Some(2)));
        }
        if row.opcode == VARIABLE && fields.byte(7) != 0x18 {
            return Err(Sense::invalid_in_cdb(7, None));
        }
        Ok(fields)
    }

    pub(super) fn command(&self, row: &Row) -> Result<Cdb, Sense> {
        let action = row.service_action.unwrap_or(0);
        // In 6 bytes there are none: the LBA's high bits stand in their place.
        let flags = if self.len == 6 { 0 } else { self.byte(self.flags_at()) };
        let [immed, dpo, fua] = [0x02, 0x10, 0x08].map(|bit| flags & bit != 0);
        let long = self.len == 10;
        Ok(match row.name {
            Name::Read => Cdb::Read { range: self.protected(), dpo, fua },
            Name::Write => Cdb::Write { range: self.protected(), dpo, fua },
            Name::WriteAndVerify => {
                Cdb::WriteAndVerify { range: self.protected(), dpo, check: self.byte_check()? }
            }
            Name::Verify => Cdb::Verify { range: self.protected(), dpo, check: self.byte_check()? },
            Name::WriteSame => self.write_same()?,
            Name::CompareAndWrite => {
                let count = u32::from(self.byte(13));
                let blocks = Blocks { lba: Lba(self.be64(2)), count, count_at: 13 };
                Cdb::CompareAndWrite {
                    range: Protected { blocks, protect: flags >> 5, tags: None },
                    dpo,
                    fua,
                }
            }
            Name::Unmap => Cdb::Unmap { anchor: self.bit(1, 0), list_len: self.be16(7) },
            Name::PreFetch => Cdb::PreFetch { blocks: self.blocks(), immed },
            Name::SynchronizeCache => Cdb::SynchronizeCache { blocks: self.blocks(), immed },
            Name::GetLbaStatus => Cdb::GetLbaStatus { lba: Lba(self.be64(2)), allocation_len: self.be32(10) },
            Name::Sanitize => self.sanitize(action)?,
            Name::ReadDefectData if long => {
                Cdb::ReadDefectData { long: false, asked: self.byte(2), allocation_len: self.be16(7).into() }
            }
            Name::ReadDefectData => {
                Cdb::ReadDefectData { long: true, asked: self.byte(1), allocation_len: self.be32(6) }
            }
            Name::ReadCapacity10 => Cdb::ReadCapacity10,
            Name::ReadCapacity16 => Cdb::ReadCapacity16 { allocation_len: self.be32(10) },
            Name::StartStopUnit => Cdb::StartStopUnit {
                immed: self.bit(1, 0),
                modifier: self.byte(3),
                power_condition: self.byte(4) >> 4,
                no_flush: self.bit(4, 2),
                loej: self.bit(4, 1),
                start: self.bit(4, 0),
            },
            Name::TestUnitReady => Cdb::TestUnitReady,
            Name::RequestSense => {
                Cdb::RequestSense { descriptor: self.bit(1, 0), allocation_len: self.byte(4) }
            }
            Name::Inquiry => self.inquiry()?,
            Name::ModeSelect => Cdb::ModeSelect {
                long,
                page_format: self.bit(1, 4),
                save: self.bit(1, 0),
                list_len: self.short_or_long_len(),
            },
            Name::ModeSense => Cdb::ModeSense {
                long,
                llbaa: self.bit(1, 4),
                dbd: self.bit(1, 3),
                control: self.byte(2) >> 6,
                page: self.byte(2) & 0x3f,
                subpage: self.byte(3),
                allocation_len: self.short_or_long_len(),
            },
            Name::Reserve6 => self.whole_unit(Cdb::Reserve6)?,
            Name::Release6 => self.whole_unit(Cdb::Release6)?,
            Name::LogSense => Cdb::LogSense {
                save: self.bit(1, 0),
                control: self.byte(2) >> 6,
                page: self.byte(2) & 0x3f,
                subpage: self.byte(3),
                parameter: self.be16(5),
                allocation_len: self.be16(7),
            },
            Name::PersistentReserveIn => Cdb::PersistentReserveIn { action, allocation_len: self.be16(7) },
            Name::PersistentReserveOut => Cdb::PersistentReserveOut {
                action,
                scope: self.byte(2) >> 4,
                kind: self.byte(2) & 0x0f,
                list_len: self.be32(5),
            },
            Name::ExtendedCopyLid1 => Cdb::ExtendedCopyLid1 { list_len: self.be32(10) },
            Name::ReceiveCopyResults => {
                Cdb::ReceiveCopyResults { action, list_id: self.byte(2), allocation_len: self.be32(10) }
            }
            Name::ReportLuns => Cdb::ReportLuns { select: self.byte(2), allocation_len: self.be32(6) },
            Name::ReportTargetPortGroups => self.target_port_groups()?,
            Name::ReportOpcodes => self.report_opcodes()?,
            Name::ReportTaskManagement => {
                Cdb::ReportTaskManagement { extended: self.bit(2, 7), allocation_len: self.be32(6) }
            }
        })
    }

    /// SPC-4 §6.6.1: a page code without EVPD is an invalid field.
    fn inquiry(&self) -> Result<Cdb, Sense> {
        let (vital_product_data, page) = (self.bit(1, 0), self.byte(2));
        if !vital_product_data && page != 0 {
            return Err(Sense::invalid_in_cdb(2, None));
        }
        Ok(Cdb::Inquiry { vital_product_data, page, allocation_len: self.be16(3) })
    }

    /// SBC-4 §5 "WRITE SAME (10) command": ANCHOR is for what is unmapped, and is not supported by itself.
    fn write_same(&self) -> Result<Cdb, Sense> {
        let at = self.flags_at();
        let (anchor, unmap) = (self.bit(at, 4), self.bit(at, 3));
        if anchor && !unmap {
            return Err(Sense::invalid_in_cdb(self.flags_pointer(), Some(4)));
        }
        Ok(Cdb::WriteSame { range: self.protected(), unmap, anchor, no_data: self.bit(at, 0) })
    }

    /// SBC-4 §5 "SANITIZE command": neither of these service actions has a parameter list, and there are no zones (ZNR). What is
    /// reserved has to be zero, as with no other command: nothing is erased by mistake.
    fn sanitize(&self, action: u16) -> Result<Cdb, Sense> {
        if self.bit(1, 6) {
            return Err(Sense::invalid_in_cdb(1, Some(6)));
        }
        if let Some(at) = (2..9).find(|at| self.byte(*at) != 0) {
            return Err(Sense::invalid_in_cdb(u16::try_from(at).unwrap_or(u16::MAX).min(7), None));
        }
        Ok(Cdb::Sanitize { action, immed: self.bit(1, 7), ause: self.bit(1, 5) })
    }

    /// SPC-2 §7.21 "RESERVE(6) command": neither extents nor third parties.
    fn whole_unit(&self, command: Cdb) -> Result<Cdb, Sense> {
        match (self.bit(1, 4), self.bit(1, 0)) {
            (true, _) => Err(Sense::invalid_in_cdb(1, Some(4))),
            (_, true) => Err(Sense::invalid_in_cdb(1, Some(0))),
            (false, false) => Ok(command),
        }
    }

    /// SPC-4 §6.37: PARAMETER DATA FORMAT 000b or 001b.
    fn target_port_groups(&self) -> Result<Cdb, Sense> {
        let format = self.byte(1) >> 5;
        if format > 1 {
            return Err(Sense::invalid_in_cdb(1, Some(7)));
        }
        Ok(Cdb::ReportTargetPortGroups { extended: format == 1, allocation_len: self.be32(6) })
    }

    /// SPC-4 §6.35.1: REPORTING OPTIONS 000b to 011b. An operation code is not asked for with the first.
    fn report_opcodes(&self) -> Result<Cdb, Sense> {
        let options = self.byte(2) & 0b111;
        if options > 3 {
            return Err(Sense::invalid_in_cdb(2, Some(2)));
        }
        Ok(Cdb::ReportOpcodes {
            timeouts: self.bit(2, 7),
            options,
            opcode: self.byte(3),
            action: self.be16(4),
            allocation_len: self.be32(6),
        })
    }

    fn protected(&self) -> Protected {
        let tags = (self.len == 32).then(|| ExpectedTags {
            initial_ref: self.be32(20),
            app_tag: self.be16(24),
            app_mask: self.be16(26),
        });
        let protect = if self.len == 6 { 0 } else { self.byte(self.flags_at()) >> 5 };
        Protected { blocks: self.blocks(), protect, tags }
    }

    fn blocks(&self) -> Blocks {
        let (lba, count, count_at) = match self.len {
            6 => {
                let count = u32::from(self.byte(4));
                (u64::from(self.be32(0)), if count == 0 { 256 } else { count }, 4)
            }
            10 => (u64::from(self.be32(2)), u32::from(self.be16(7)), 7),
            12 => (u64::from(self.be32(2)), self.be32(6), 6),
            16 => (self.be64(2), self.be32(10), 10),
            _ => (self.be64(12), self.be32(28), 28),
        };
        Blocks { lba: Lba(lba), count, count_at }
    }

    fn byte_check(&self) -> Result<ByteCheck, Sense> {
        match (self.byte(self.flags_at()) >> 1) & 0b11 {
            0 => Ok(ByteCheck::Medium),
            1 => Ok(ByteCheck::EachBlock),
            3 => Ok(ByteCheck::SingleBlock),
            _ => Err(Sense::invalid_in_cdb(self.flags_pointer(), Some(2))),
        }
    }

    fn flags_at(&self) -> usize {
        if self.len == 32 { 10 } else { 1 }
    }

    fn flags_pointer(&self) -> u16 {
        if self.len == 32 { 10 } else { 1 }
    }

    fn short_or_long_len(&self) -> u16 {
        if self.len == 6 { u16::from(self.byte(4)) } else { self.be16(7) }
    }

    fn bit(&self, at: usize, bit: u8) -> bool {
        self.byte(at) & (1 << bit) != 0
    }

    fn byte(&self, at: usize) -> u8 {
        u8::from_be_bytes(self.array(at))
    }

    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    /// Zeroes past the end, which no row asks for.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().unwrap_or([0; N])
    }
}

//! Why a command ended with CHECK CONDITION. SPC-4 §4.5 "Sense data".

use holdfast_block::{BlockError, Lba};
use holdfast_pi::Tag;

/// Bytes of fixed format sense data. §4.5.3 "Fixed format sense data".
pub const FIXED_LEN: usize = 18;
/// Most bytes of descriptor format sense data that are made here: header, information, command-specific
/// information, sense key specific.
pub const DESCRIPTOR_LEN_MAX: usize =
    8 + INFORMATION_DESCRIPTOR_LEN + COMMAND_DESCRIPTOR_LEN + SPECIFIC_DESCRIPTOR_LEN;

const INFORMATION_DESCRIPTOR_LEN: usize = 12;
const COMMAND_DESCRIPTOR_LEN: usize = 12;
const SPECIFIC_DESCRIPTOR_LEN: usize = 8;

/// Response codes: current, not deferred.
const FIXED_CURRENT: u8 = 0x70;
const DESCRIPTOR_CURRENT: u8 = 0x72;
/// VALID, in both formats.
const VALID: u8 = 0x80;
/// SKSV.
const SPECIFIC_VALID: u8 = 0x80;
/// C/D: the pointer is into the CDB.
const IN_COMMAND: u8 = 0x40;
/// BPV: the bit pointer means something.
const BIT_VALID: u8 = 0x08;

/// Sense keys. §4.5.6 "Sense key and additional sense code definitions".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense,
    /// The logical unit cannot be used now.
    NotReady,
    /// The medium lost data.
    MediumError,
    /// A fault of the target's.
    HardwareError,
    /// The command, or its parameters, cannot be.
    IllegalRequest,
    /// Something has happened that the initiator should know.
    UnitAttention,
    /// The medium takes no writes.
    DataProtect,
    /// A copy between logical units failed.
    CopyAborted,
    /// The target gave the command up; it may be tried again.
    AbortedCommand,
    /// The data differs.
    Miscompare,
}

impl SenseKey {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            SenseKey::NoSense => 0x0,
            SenseKey::NotReady => 0x2,
            SenseKey::MediumError => 0x3,
            SenseKey::HardwareError => 0x4,
            SenseKey::IllegalRequest => 0x5,
            SenseKey::UnitAttention => 0x6,
            SenseKey::DataProtect => 0x7,
            SenseKey::CopyAborted => 0xa,
            SenseKey::AbortedCommand => 0xb,
            SenseKey::Miscompare => 0xe,
        }
    }
}

/// What the SENSE KEY SPECIFIC field says. §4.5.2.4 "Sense key specific sense data descriptor".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specific {
    /// The byte of the CDB in error, and the most significant bit of the field where it is not the whole byte.
    InCommand(u16, Option<u8>),
    /// The same for the parameter list.
    InParameters(u16, Option<u8>),
    /// How far an operation is, in 65536ths.
    Progress(u16),
}

impl Specific {
    fn bytes(self) -> [u8; 3] {
        let (flags, value) = match self {
            Specific::InCommand(byte, bit) => (IN_COMMAND | bit_pointer(bit), byte),
            Specific::InParameters(byte, bit) => (bit_pointer(bit), byte),
            Specific::Progress(done) => (0, done),
        };
        let [high, low] = value.to_be_bytes();
        [SPECIFIC_VALID | flags, high, low]
    }
}

fn bit_pointer(bit: Option<u8>) -> u8 {
    bit.map_or(0, |bit| BIT_VALID | (bit & 0b111))
}

/// How sense data is laid out: D_SENSE of the control mode page, DESC of REQUEST SENSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 18 bytes at fixed places.
    Fixed,
    /// A header and descriptors.
    Descriptor,
}

/// Sense data before it is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code and its qualifier.
    pub code: (u8, u8),
    /// INFORMATION: the LBA of the block, or for a miscompare the offset of the first byte that differs.
    pub information: Option<u64>,
    /// SENSE KEY SPECIFIC.
    pub specific: Option<Specific>,
    /// COMMAND-SPECIFIC INFORMATION.
    pub command_specific: Option<u64>,
}

impl Sense {
    /// NO ADDITIONAL SENSE INFORMATION: the answer to REQUEST SENSE when all is well.
    pub const NONE: Sense = Sense::new(SenseKey::NoSense, 0x00, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const NO_SUCH_LUN: Sense = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// WRITE PROTECTED, by SWP of the control mode page.
    pub const WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x02);
    /// SPACE ALLOCATION FAILED WRITE PROTECT. SBC-4 §4.7.3.6 "Resource exhaustion considerations".
    pub const NO_ROOM: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x07);
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
    pub const NOT_READY: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x00);
    /// LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED: it is stopped.
    pub const STOPPED: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x02);
    /// PERSISTENT RESERVATION INFORMATION LOST. SPC-4 §5.13.5.3.
    pub const RESERVATIONS_LOST: Sense = Sense::new(SenseKey::DataProtect, 0x44, 0x01);
    /// WRITE ERROR.
    pub const WRITE_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x0c, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL: Sense = Sense::new(SenseKey::HardwareError, 0x44, 0x00);
    /// PROTOCOL SERVICE CRC ERROR. RFC 7143 §11.4.7.2 "Sense Data" names it for payload that came damaged.
    pub const DIGEST: Sense = Sense::new(SenseKey::AbortedCommand, 0x47, 0x05);

    /// Sense data without information.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Sense {
        Sense { key, code: (asc, ascq), information: None, specific: None, command_specific: None }
    }

    /// INVALID FIELD IN CDB: the byte, and the most significant bit of the field.
    pub const fn invalid_in_cdb(byte: u16, bit: Option<u8>) -> Sense {
        let sense = Sense::new(SenseKey::IllegalRequest, 0x24, 0x00);
        Sense { specific: Some(Specific::InCommand(byte, bit)), ..sense }
    }

    /// INVALID FIELD IN PARAMETER LIST: the byte, and the most significant bit of the field.
    pub const fn invalid_in_parameters(byte: u16, bit: Option<u8>) -> Sense {
        let sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x00);
        Sense { specific: Some(Specific::InParameters(byte, bit)), ..sense }
    }

    /// The same with INFORMATION.
    pub const fn with_information(self, information: u64) -> Sense {
        Sense { information: Some(information), ..self }
    }

    /// Lays the data out at the end of `out`. INFORMATION and COMMAND-SPECIFIC INFORMATION of the fixed format have 32 bits;
    /// what does not fit is left out, with VALID zero (§4.5.3).
    pub fn encode(&self, format: Format, out: &mut impl Extend<u8>) {
        match format {
            Format::Fixed => self.encode_fixed(out),
            Format::Descriptor => self.encode_descriptor(out),
        }
    }

    fn encode_fixed(&self, out: &mut impl Extend<u8>) {
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let valid = if information.is_some() { VALID } else { 0 };
        out.extend([FIXED_CURRENT | valid, 0, self.key.code()]);
        out.extend(information.unwrap_or(0).to_be_bytes());
        // ADDITIONAL SENSE LENGTH, then COMMAND-SPECIFIC INFORMATION.
        out.extend([0x0a]);
        let command_specific = self.command_specific.and_then(|value| u32::try_from(value).ok());
        out.extend(command_specific.unwrap_or(0).to_be_bytes());
        out.extend([self.code.0, self.code.1, 0]);
        out.extend(self.specific.map_or([0; 3], Specific::bytes));
    }

    fn encode_descriptor(&self, out: &mut impl Extend<u8>) {
        let information = if self.information.is_some() { 12 } else { 0 };
        let command_specific = if self.command_specific.is_some() { 12 } else { 0 };
        let specific = if self.specific.is_some() { 8 } else { 0 };
        out.extend([DESCRIPTOR_CURRENT, self.key.code(), self.code.0, self.code.1, 0, 0, 0]);
        out.extend([information + command_specific + specific]);
        if let Some(value) = self.information {
            out.extend([0x00, 0x0a, VALID, 0x00]);
            out.extend(value.to_be_bytes());
        }
        if let Some(value) = self.command_specific {
            out.extend([0x01, 0x0a, 0x00, 0x00]);
            out.extend(value.to_be_bytes());
        }
        if let Some(value) = self.specific {
            let [flags, high, low] = value.bytes();
            out.extend([0x02, 0x06, 0x00, 0x00, flags, high, low, 0x00]);
        }
    }
}

/// Sense data as it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseBytes {
    bytes: [u8; DESCRIPTOR_LEN_MAX],
    len: usize,
}

impl SenseBytes {
    /// None.
    pub const EMPTY: SenseBytes = SenseBytes { bytes: [0; DESCRIPTOR_LEN_MAX], len: 0 };

    /// Laid out.
    pub fn of(sense: &Sense, format: Format) -> SenseBytes {
        let mut bytes = SenseBytes::EMPTY;
        sense.encode(format, &mut bytes);
        bytes
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Extend<u8> for SenseBytes {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }
}

/// How a command that the block layer refused ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// CHECK CONDITION with this.
    Check(Sense),
    /// Status BUSY, without sense data: SAM-5 §5.3 "Status".
    Busy,
    /// Status RESERVATION CONFLICT, without sense data.
    ReservationConflict,
    /// Aborted by another initiator: status TASK ABORTED where TAS of the control mode page is one, otherwise none at all.
    /// SAM-5 §5.6 "Aborting commands".
    Aborted,
}

impl Ending {
    /// The end of a command that began at `first`. A failed check of protection information is ABORTED COMMAND with the LBA
    /// of the block: the medium is well.
    pub fn of(error: BlockError, first: Lba) -> Ending {
        let sense = match error {
            BlockError::Busy => return Ending::Busy,
            BlockError::ReservationConflict => return Ending::ReservationConflict,
            BlockError::ReservationsLost => Sense::RESERVATIONS_LOST,
            BlockError::Preempted => return Ending::Aborted,
            BlockError::OutOfRange => Sense::LBA_OUT_OF_RANGE,
            BlockError::Protection(fault) => {
                let lba = first.0.saturating_add(u64::from(fault.block_index));
                Sense::new(SenseKey::AbortedCommand, 0x10, qualifier(fault.tag)).with_information(lba)
            }
            BlockError::InvalidProtection => Sense::invalid_in_cdb(1, Some(7)),
            BlockError::Miscompare(difference) => {
                let (asc, ascq) = difference.tag.map_or((0x1d, 0x00), |tag| (0x10, qualifier(tag)));
                let offset = u64::try_from(difference.offset).unwrap_or(u64::MAX);
                Sense::new(SenseKey::Miscompare, asc, ascq).with_information(offset)
            }
            BlockError::NoRoom => Sense::NO_ROOM,
            BlockError::Media(lba) | BlockError::Uncorrectable(lba) => {
                Sense::new(SenseKey::MediumError, 0x11, 0x00).with_information(lba.0)
            }
            BlockError::WriteFault => Sense::WRITE_ERROR,
            BlockError::Gone => Sense::NOT_READY,
            BlockError::Digest => Sense::DIGEST,
            BlockError::FusedFailed | BlockError::Internal => Sense::INTERNAL,
        };
        Ending::Check(sense)
    }
}

/// Which field of a tuple: the qualifiers of additional sense code 10h.
fn qualifier(tag: Tag) -> u8 {
    match tag {
        Tag::Guard => 0x01,
        Tag::App => 0x02,
        // SCSI's tuples have no storage tag; its bits are the reference tag's.
        Tag::Ref | Tag::Storage => 0x03,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_block::Difference;
    use holdfast_pi::Fault;

    fn bytes(sense: Sense, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        sense.encode(format, &mut out);
        out
    }

    #[test]
    fn a_field_of_the_cdb_is_pointed_at_in_both_formats() {
        let sense = Sense::invalid_in_cdb(0x102, Some(5));
        let fixed = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcd, 1, 2];
        assert_eq!(bytes(sense, Format::Fixed), fixed);
        let descriptor = [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcd, 1, 2, 0];
        assert_eq!(bytes(sense, Format::Descriptor), descriptor);
        let whole_byte = bytes(Sense::invalid_in_parameters(7, None), Format::Fixed);
        assert_eq!(whole_byte[12..], [0x26, 0, 0, 0x80, 0, 7]);
    }

    #[test]
    fn information_beyond_32_bits_is_left_out_of_the_fixed_format_alone() {
        let sense = Sense::new(SenseKey::MediumError, 0x11, 0).with_information(0x1_0000_0002);
        assert_eq!(bytes(sense, Format::Fixed)[..7], [0x70, 0, 3, 0, 0, 0, 0]);
        let descriptor = [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(bytes(sense, Format::Descriptor), descriptor);
        assert_eq!(bytes(sense.with_information(2), Format::Fixed)[..7], [0xf0, 0, 3, 0, 0, 0, 2]);
    }

    #[test]
    fn command_specific_information_has_a_place_in_both_formats() {
        let sense = Sense { command_specific: Some(0x102), ..Sense::new(SenseKey::CopyAborted, 0x0d, 1) };
        assert_eq!(bytes(sense, Format::Fixed)[..14], [0x70, 0, 10, 0, 0, 0, 0, 10, 0, 0, 1, 2, 0x0d, 1]);
        let descriptor = [0x72, 10, 0x0d, 1, 0, 0, 0, 12, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(bytes(sense, Format::Descriptor), descriptor);
    }

    #[test]
    fn lengths_are_as_promised() {
        let most = Sense::invalid_in_cdb(1, None).with_information(u64::MAX);
        let most = Sense { command_specific: Some(7), ..most };
        assert_eq!(bytes(most, Format::Descriptor).len(), DESCRIPTOR_LEN_MAX);
        assert_eq!(bytes(most, Format::Fixed).len(), FIXED_LEN);
    }

    #[test]
    fn failed_checks_are_aborted_commands_with_the_lba_of_the_block() {
        for (tag, qualifier) in [(Tag::Guard, 1), (Tag::App, 2), (Tag::Ref, 3)] {
            let fault = Fault { block_index: 3, tag, expected: 1, actual: 2 };
            let expected = Sense::new(SenseKey::AbortedCommand, 0x10, qualifier).with_information(103);
            assert_eq!(Ending::of(BlockError::Protection(fault), Lba(100)), Ending::Check(expected));
        }
    }

    #[test]
    fn a_difference_is_told_by_its_offset_and_in_a_tuple_by_its_field() {
        for (tag, code) in [(None, (0x1d, 0)), (Some(Tag::Guard), (0x10, 1)), (Some(Tag::Ref), (0x10, 3))] {
            let difference = Difference { block_index: 1, offset: 515, tag };
            let expected = Sense::new(SenseKey::Miscompare, code.0, code.1).with_information(515);
            assert_eq!(Ending::of(BlockError::Miscompare(difference), Lba(7)), Ending::Check(expected));
        }
    }

    #[test]
    fn a_limit_that_is_used_up_is_busy_and_a_lost_block_a_medium_error() {
        assert_eq!(Ending::of(BlockError::Busy, Lba(0)), Ending::Busy);
        assert_eq!(Ending::of(BlockError::ReservationConflict, Lba(0)), Ending::ReservationConflict);
        assert_eq!(Ending::of(BlockError::Preempted, Lba(0)), Ending::Aborted);
        let lost = Sense::new(SenseKey::MediumError, 0x11, 0).with_information(9);
        assert_eq!(Ending::of(BlockError::Media(Lba(9)), Lba(5)), Ending::Check(lost));
        assert_eq!(Ending::of(BlockError::Digest, Lba(5)), Ending::Check(Sense::DIGEST));
    }
}

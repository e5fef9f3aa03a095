//! A SCSI command as the initiator gives it, and how it ended. RFC 7143 §11.3 "SCSI Command", §11.4 "SCSI Response".

use super::pdu::number;
use super::sense::Sense;
use crate::Error;

/// Status codes. SAM-5 §5.3.1 "Status codes".
#[expect(missing_docs, reason = "the names are the standard's")]
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const CONDITION_MET: u8 = 0x04;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const ACA_ACTIVE: u8 = 0x30;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Task attributes. RFC 7143 §11.3.1 "Flags and Task Attributes".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Attribute {
    Untagged = 0,
    #[default]
    Simple = 1,
    Ordered = 2,
    HeadOfQueue = 3,
    Aca = 4,
}

/// A command to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scsi {
    /// The logical unit.
    pub lun: u16,
    /// The CDB: 6 to 16 bytes, or more with an additional header.
    pub cdb: Vec<u8>,
    /// Data for the target.
    pub out: Vec<u8>,
    /// Room for the target's data: the Expected Data Transfer Length of a read.
    pub room: usize,
    /// Expected Data Transfer Length of a write, where it is not the length of `out`.
    pub claimed: Option<u32>,
    /// The task attribute.
    pub attribute: Attribute,
    /// Whether the I bit is set.
    pub immediate: bool,
    /// How many bytes travel with the command; as many as may, when nothing is said.
    pub immediate_data: Option<usize>,
    /// How many bytes follow unasked, those with the command included; as many as may, when nothing is said.
    pub unsolicited: Option<usize>,
}

impl Scsi {
    /// A command without data.
    #[must_use]
    pub fn new(lun: u16, cdb: impl Into<Vec<u8>>) -> Self {
        Self {
            lun,
            cdb: cdb.into(),
            out: Vec::new(),
            room: 0,
            claimed: None,
            attribute: Attribute::Simple,
            immediate: false,
            immediate_data: None,
            unsolicited: None,
        }
    }

    /// A command that gets up to `room` bytes.
    #[must_use]
    pub fn read(lun: u16, cdb: impl Into<Vec<u8>>, room: usize) -> Self {
        Self { room, ..Self::new(lun, cdb) }
    }

    /// A command that gives these bytes.
    #[must_use]
    pub fn write(lun: u16, cdb: impl Into<Vec<u8>>, out: impl Into<Vec<u8>>) -> Self {
        Self { out: out.into(), ..Self::new(lun, cdb) }
    }

    /// Everything only as the target asks for it.
    #[must_use]
    pub fn solicited(self) -> Self {
        Self { immediate_data: Some(0), unsolicited: Some(0), ..self }
    }

    /// With this attribute.
    #[must_use]
    pub fn attribute(self, attribute: Attribute) -> Self {
        Self { attribute, ..self }
    }
}

/// What was left over. RFC 7143 §11.4.5.1 "Field Semantics" of residual counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residual {
    /// Exactly as much as expected.
    #[default]
    None,
    /// So many bytes fewer than expected.
    Under(u32),
    /// So many bytes more than fitted.
    Over(u32),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// iSCSI's response: 0 for a completed command.
    pub response: u8,
    /// The SCSI status.
    pub status: u8,
    /// Sense data, taken apart.
    pub sense: Option<Sense>,
    /// Sense data as it came.
    pub sense_bytes: Vec<u8>,
    /// What the target sent.
    pub data: Vec<u8>,
    /// What was left over.
    pub residual: Residual,
    /// Lengths of the R2Ts that came.
    pub r2ts: Vec<usize>,
    /// How many Data-In PDUs came.
    pub data_ins: usize,
    /// Whether the last Data-In carried the status.
    pub phase_collapse: bool,
}

impl Done {
    /// Demands GOOD.
    ///
    /// # Errors
    /// When the status is another one.
    pub fn ok(self) -> Result<Self, Error> {
        if (self.response, self.status) == (0, status::GOOD) { Ok(self) } else { Err(self.unlike("GOOD")) }
    }

    /// Demands CHECK CONDITION with this sense key and these codes.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn fails_with(self, key: u8, asc: u8, ascq: u8) -> Result<Sense, Error> {
        let checked = (self.response, self.status) == (0, status::CHECK_CONDITION);
        match self.sense.clone().filter(|sense| checked && sense.is(key, asc, ascq)) {
            Some(sense) => Ok(sense),
            None => Err(self.unlike(&format!("CHECK CONDITION with sense {key:X}h, {asc:02X}h/{ascq:02X}h"))),
        }
    }

    fn unlike(&self, expected: &str) -> Error {
        let sense = self.sense.as_ref().map(|sense| format!(", {sense}")).unwrap_or_default();
        Error::unexpected(
            expected,
            format!("response {:#04x}, status {:#04x}{sense}", self.response, self.status),
        )
    }
}

/// The sense data of a SCSI Response's data segment. RFC 7143 §11.4.7.2 "Sense Data": behind two bytes of length.
pub(super) fn sense_of(data: &[u8]) -> Vec<u8> {
    let len = number(data, 0, 2).and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    data.iter().skip(2).take(len).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_data_lies_behind_its_length() {
        assert_eq!(sense_of(&[0, 3, 0x70, 0, 5, 9, 9]), [0x70, 0, 5]);
        assert!(sense_of(&[]).is_empty());
    }
}

//! Sense data, both formats. SPC-4 §4.5.2 "Descriptor format sense data", §4.5.3 "Fixed format sense data".

use std::fmt;

use super::pdu::number;

/// Sense data, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sense {
    /// Whether it is about an earlier command (response code 71h or 73h).
    pub deferred: bool,
    /// Whether it came in descriptor format.
    pub descriptor: bool,
    /// SENSE KEY.
    pub key: u8,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INFORMATION, where valid.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION: in fixed format always there, in descriptor format where it has a descriptor.
    pub command_specific: Option<u64>,
    /// The field pointer of ILLEGAL REQUEST, where valid.
    pub field: Option<FieldPointer>,
}

/// Which field was wrong. SPC-4 §4.5.2.4.2 "Field pointer sense key specific data".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB, not in the parameter list.
    pub in_cdb: bool,
    /// The most significant bit of the field, where said.
    pub bit: Option<u8>,
    /// The byte.
    pub byte: u16,
}

impl Sense {
    /// Sense data from its first byte on; `None` for a response code that is neither format, or less than its header.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            code @ (0x70 | 0x71) => Self::parse_fixed(bytes, code == 0x71),
            code @ (0x72 | 0x73) => Self::parse_descriptors(bytes, code == 0x73),
            _ => None,
        }
    }

    /// Whether key and both codes are these.
    #[must_use]
    pub fn is(&self, key: u8, asc: u8, ascq: u8) -> bool {
        (self.key, self.asc, self.ascq) == (key, asc, ascq)
    }

    fn parse_fixed(bytes: &[u8], deferred: bool) -> Option<Self> {
        let valid = bytes.first()? & 0x80 != 0;
        Some(Self {
            deferred,
            descriptor: false,
            key: bytes.get(2)? & 0x0f,
            asc: bytes.get(12).copied().unwrap_or(0),
            ascq: bytes.get(13).copied().unwrap_or(0),
            information: number(bytes, 3, 4).filter(|_| valid),
            command_specific: number(bytes, 8, 4),
            field: bytes.get(15..18).and_then(FieldPointer::parse),
        })
    }

    fn parse_descriptors(bytes: &[u8], deferred: bool) -> Option<Self> {
        let [_, key, asc, ascq, _, _, _, len, rest @ ..] = bytes else { return None };
        let mut sense = Self {
            deferred,
            descriptor: true,
            key: key & 0x0f,
            asc: *asc,
            ascq: *ascq,
            information: None,
            command_specific: None,
            field: None,
        };
        let mut rest = rest.get(..usize::from(*len).min(rest.len()))?;
        while let [kind, len, tail @ ..] = rest {
            let (body, next) = tail.split_at_checked(usize::from(*len))?;
            match kind {
                0x00 => {
                    sense.information =
                        number(body, 2, 8).filter(|_| body.first().is_some_and(|b| b & 0x80 != 0))
                }
                0x01 => sense.command_specific = number(body, 2, 8),
                0x02 => sense.field = body.get(2..5).and_then(FieldPointer::parse),
                _ => {}
            }
            rest = next;
        }
        Some(sense)
    }
}

impl FieldPointer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[flags, high, low] = bytes else { return None };
        (flags & 0x80 != 0).then_some(Self {
            in_cdb: flags & 0x40 != 0,
            bit: (flags & 0x08 != 0).then_some(flags & 0x07),
            byte: u16::from_be_bytes([high, low]),
        })
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sense {:X}h, {:02X}h/{:02X}h", self.key, self.asc, self.ascq)?;
        if let Some(information) = self.information {
            write!(f, ", information {information}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", byte {} of the {}", field.byte, if field.in_cdb { "CDB" } else { "parameters" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_sense_names_the_failing_block() {
        let bytes = [0xf0, 0, 0x0b, 0, 0, 1, 2, 10, 0, 0, 0, 0, 0x10, 0x01, 0, 0, 0, 0];
        let sense = Sense::parse(&bytes).unwrap();
        assert!(sense.is(0x0b, 0x10, 0x01) && !sense.descriptor && !sense.deferred);
        assert_eq!((sense.information, sense.field), (Some(0x102), None));
    }

    #[test]
    fn an_information_field_counts_only_when_it_is_valid() {
        let bytes = [0x70, 0, 0x05, 0, 0, 1, 2, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2];
        let sense = Sense::parse(&bytes).unwrap();
        assert_eq!(sense.information, None);
        assert_eq!(sense.field, Some(FieldPointer { in_cdb: true, bit: Some(7), byte: 2 }));
        assert_eq!(sense.to_string(), "sense 5h, 24h/00h, byte 2 of the CDB");
    }

    #[test]
    fn descriptors_carry_64_bits_of_information() {
        let mut bytes = vec![0x72, 0x0b, 0x10, 0x03, 0, 0, 0, 20];
        bytes.extend_from_slice(&[0x00, 10, 0x80, 0, 0, 0, 0, 5, 0, 0, 0, 7]);
        bytes.extend_from_slice(&[0x02, 6, 0, 0, 0x88, 0, 9, 0]);
        let sense = Sense::parse(&bytes).unwrap();
        assert_eq!(sense.information, Some(5 << 32 | 7));
        assert_eq!(sense.field, Some(FieldPointer { in_cdb: false, bit: Some(0), byte: 9 }));
    }

    #[test]
    fn what_is_no_sense_data_is_told_apart() {
        assert_eq!(Sense::parse(&[0x7f, 0, 0]), None);
        assert_eq!(
            Sense::parse(&[0x72, 5, 0x20, 0, 0, 0, 0, 4, 0, 10, 0, 0]),
            None,
            "a descriptor beyond the end"
        );
        assert_eq!(Sense::parse(&[]), None);
    }
}

//! Additional headers of a SCSI Command. RFC 7143 §11.2.2 "Additional Header Segment (AHS)".

use super::padding;

/// Longest CDB: a variable-length one has 8 bytes and up to 252 more. SPC-4 §4.3.3 "Variable type data field CDBs".
pub(crate) const CDB_LEN_MAX: usize = 260;

/// Bytes of a CDB in the basic header.
const CDB_IN_HEADER: usize = 16;

/// AHSType, without its reserved bits. §11.2.2.1 "AHSType".
const TYPE_MASK: u8 = 0x3f;
/// §11.2.2.3 "Extended CDB AHS".
const EXTENDED_CDB: u8 = 1;
/// §11.2.2.4 "Bidirectional Read Expected Data Transfer Length AHS".
const READ_LEN: u8 = 2;

/// What additional headers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Additional<'a> {
    /// The bytes of the CDB behind its first 16.
    pub(crate) cdb: Option<&'a [u8]>,
    /// Bidirectional Read Expected Data Transfer Length.
    pub(crate) read_len: Option<u32>,
}

impl<'a> Additional<'a> {
    /// Reads all of them; `None`: they are not as they have to be.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Option<Additional<'a>> {
        let mut found = Additional::default();
        while !bytes.is_empty() {
            let ([high, low, kind], rest) = bytes.split_first_chunk()?;
            // AHSLength counts from behind the type, the reserved byte included.
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let (body, rest) = rest.split_at_checked(len)?;
            let (_, body) = body.split_first()?;
            let (_, rest) = rest.split_at_checked(padding(3 + len))?;
            bytes = rest;
            match kind & TYPE_MASK {
                EXTENDED_CDB
                    if found.cdb.is_none()
                        && !body.is_empty()
                        && body.len() <= CDB_LEN_MAX - CDB_IN_HEADER =>
                {
                    found.cdb = Some(body);
                }
                READ_LEN if found.read_len.is_none() => {
                    found.read_len = Some(u32::from_be_bytes(body.try_into().ok()?));
                }
                _ => return None,
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_kinds_are_read_in_any_order() {
        let cdb = [&[0, 17, 1, 0][..], &[7; 16]].concat();
        let len = [0, 5, 2, 0, 0, 0, 2, 0];
        let expected = Additional { cdb: Some(&[7; 16]), read_len: Some(512) };
        assert_eq!(Additional::parse(&[&cdb[..], &len].concat()), Some(expected));
        assert_eq!(Additional::parse(&[&len[..], &cdb].concat()), Some(expected));
        assert_eq!(Additional::parse(&[]), Some(Additional::default()));
    }

    #[test]
    fn an_odd_length_is_padded() {
        let cdb = [0, 2, 1, 0, 9, 0, 0, 0];
        assert_eq!(Additional::parse(&cdb).unwrap().cdb, Some(&[9][..]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            &[0, 0, 1, 0][..],
            &[0, 1, 1, 0],
            &[0, 9, 1, 0, 1, 1, 1, 1],
            &[0, 5, 3, 0, 0, 0, 0, 0],
            &[0, 5, 0, 0, 0, 0, 0, 0],
            &[0, 4, 2, 0, 0, 0, 0, 0],
            &[0, 5, 2, 0, 0, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 0],
            &[0, 5],
        ] {
            assert_eq!(Additional::parse(bad), None, "{bad:?}");
        }
        let long = [&[0, 250, 1, 0][..], &[1; 252]].concat();
        assert_eq!(Additional::parse(&long), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1020)) {
            if let Some(found) = Additional::parse(&bytes) {
                prop_assert!(found.cdb.is_none_or(|cdb| cdb.len() <= 244));
            }
        }
    }
}

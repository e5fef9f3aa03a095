//! The bytes of one PDU, free to be changed before they are sent.
//!
//! NVMe/TCP 1.1 §3.6.1 "Common Header" gives the first eight bytes: PDU-Type, FLAGS, HLEN, PDO, PLEN.

use super::{COMMON_HEADER_LEN, DIGEST_LEN, Digests, WireError, digest, le32};

/// FLAGS bit 0: a header digest follows the header.
pub(super) const FLAG_HDGST: u8 = 0x01;
/// FLAGS bit 1: a data digest follows the data.
pub(super) const FLAG_DDGST: u8 = 0x02;

/// One PDU as bytes. Made by [`super::Pdu::encode`]; every change keeps the length of what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// Lays out header, header digest, padding up to `align` bytes, data and data digest, with right lengths.
    /// `header` is everything behind the Common Header.
    pub(super) fn build(
        kind: u8,
        flags: u8,
        header: &[u8],
        data: &[u8],
        digests: Digests,
        align: usize,
    ) -> Self {
        let hlen = COMMON_HEADER_LEN.saturating_add(header.len());
        let head_len = if digests.header { hlen.saturating_add(DIGEST_LEN) } else { hlen };
        let pdo = if data.is_empty() { 0 } else { head_len.next_multiple_of(align.max(4)) };
        let data_digest = digests.data && !data.is_empty();
        let flags =
            flags | if digests.header { FLAG_HDGST } else { 0 } | if data_digest { FLAG_DDGST } else { 0 };
        let mut bytes = vec![kind, flags, narrow(hlen), narrow(pdo), 0, 0, 0, 0];
        bytes.extend_from_slice(header);
        bytes.resize(head_len.max(pdo), 0);
        bytes.extend_from_slice(data);
        if data_digest {
            bytes.extend_from_slice(&[0; DIGEST_LEN]);
        }
        let plen = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self(bytes).put(4, &plen.to_le_bytes()).seal(digests)
    }

    /// Any bytes, to be sent as they are.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What would be sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Overwrites bytes at `at`; what would fall beyond the end is left out.
    #[must_use]
    pub fn put(mut self, at: usize, value: &[u8]) -> Self {
        for (byte, new) in self.0.iter_mut().skip(at).zip(value) {
            *byte = *new;
        }
        self
    }

    /// Sets the PDU type.
    #[must_use]
    pub fn kind(self, kind: u8) -> Self {
        self.put(0, &[kind])
    }

    /// Sets FLAGS.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.put(1, &[flags])
    }

    /// Sets HLEN.
    #[must_use]
    pub fn hlen(self, hlen: u8) -> Self {
        self.put(2, &[hlen])
    }

    /// Sets PDO.
    #[must_use]
    pub fn pdo(self, pdo: u8) -> Self {
        self.put(3, &[pdo])
    }

    /// Sets PLEN (the number of bytes that are sent stays).
    #[must_use]
    pub fn plen(self, plen: u32) -> Self {
        self.put(4, &plen.to_le_bytes())
    }

    /// Flips one bit: bit `index % 8` of byte `index / 8`.
    #[must_use]
    pub fn flip_bit(mut self, index: usize) -> Self {
        crate::pi::flip_bit(&mut self.0, index);
        self
    }

    /// Keeps only the first `len` bytes.
    #[must_use]
    pub fn truncate(mut self, len: usize) -> Self {
        self.0.truncate(len);
        self
    }

    /// Computes the digests anew, after changes that shall not be noticed by them.
    #[must_use]
    pub fn seal(mut self, digests: Digests) -> Self {
        let hlen = self.0.get(2).copied().map_or(0, usize::from);
        let pdo = self.0.get(3).copied().map_or(0, usize::from);
        if digests.header
            && let Some((head, rest)) = self.0.split_at_mut_checked(hlen)
            && let Some(field) = rest.first_chunk_mut()
        {
            *field = digest(head).to_le_bytes();
        }
        let data_end = self.0.len().saturating_sub(DIGEST_LEN);
        if digests.data
            && pdo > 0
            && let Some((head, tail)) = self.0.split_at_mut_checked(data_end)
            && let Some(data) = head.get(pdo..)
            && let Some(field) = tail.first_chunk_mut()
        {
            *field = digest(data).to_le_bytes();
        }
        self
    }

    /// Flips a bit in the last byte: in a PDU with a data digest, the digest alone is then wrong.
    #[must_use]
    pub fn spoil_last_byte(mut self) -> Self {
        if let Some(last) = self.0.last_mut() {
            *last ^= 1;
        }
        self
    }

    /// Checks PLEN and both digests, and gives the header behind the Common Header, and the data.
    pub(super) fn open(
        &self,
        pdu: &'static str,
        hlen: usize,
        digests: Digests,
    ) -> Result<(&[u8], &[u8]), WireError> {
        let bytes = self.0.as_slice();
        let field = |field, expected: usize, got: usize| WireError::Field {
            pdu,
            field,
            expected: u64::try_from(expected).unwrap_or(u64::MAX),
            got: u64::try_from(got).unwrap_or(u64::MAX),
        };
        let short = |expected| WireError::Short { expected, got: bytes.len() };
        let [_, flags, hlen_field, pdo, ..] = *bytes else { return Err(short(COMMON_HEADER_LEN)) };
        let plen = usize::try_from(le32(bytes, 4).ok_or(short(COMMON_HEADER_LEN))?).unwrap_or(usize::MAX);
        if plen != bytes.len() {
            return Err(field("PLEN", bytes.len(), plen));
        }
        if usize::from(hlen_field) != hlen {
            return Err(field("HLEN", hlen, hlen_field.into()));
        }
        if (flags & FLAG_HDGST != 0) != digests.header {
            return Err(field("HDGSTF", digests.header.into(), (flags & FLAG_HDGST).into()));
        }
        let head = bytes.get(..hlen).ok_or(short(hlen))?;
        let mut head_len = hlen;
        if digests.header {
            head_len = head_len.saturating_add(DIGEST_LEN);
            let (expected, got) = (digest(head), le32(bytes, hlen).ok_or(short(head_len))?);
            if expected != got {
                return Err(WireError::HeaderDigest { expected, got });
            }
        }
        let rest = head.get(COMMON_HEADER_LEN..).ok_or(short(COMMON_HEADER_LEN))?;
        if plen == head_len {
            return Ok((rest, &[]));
        }
        let pdo = usize::from(pdo);
        if pdo < head_len {
            return Err(field("PDO", head_len, pdo));
        }
        let tail = bytes.get(pdo..).ok_or(short(pdo))?;
        if (flags & FLAG_DDGST != 0) != digests.data {
            return Err(field("DDGSTF", digests.data.into(), (flags & FLAG_DDGST).into()));
        }
        if !digests.data {
            return Ok((rest, tail));
        }
        let (data, got) = tail.split_last_chunk::<DIGEST_LEN>().ok_or(short(plen))?;
        let (expected, got) = (digest(data), u32::from_le_bytes(*got));
        if expected == got { Ok((rest, data)) } else { Err(WireError::DataDigest { expected, got }) }
    }
}

/// Header lengths and offsets fit a byte by construction: the longest header is 128 bytes, the largest
/// alignment 128.
fn narrow(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Pdu, Sqe};
    use super::*;

    const BOTH: Digests = Digests { header: true, data: true };

    fn write_capsule() -> Frame {
        Pdu::CapsuleCmd { sqe: Sqe::new(1).sgl_in_capsule(0, 8), data: vec![1, 2, 3, 4, 5, 6, 7, 8] }
            .encode(BOTH, 4)
    }

    #[test]
    fn capsule_with_both_digests_has_the_layout_of_the_specification() {
        let frame = write_capsule();
        let bytes = frame.as_bytes();
        assert_eq!(bytes[..8], [0x04, 0x03, 72, 76, 88, 0, 0, 0]);
        assert_eq!(bytes.len(), 72 + 4 + 8 + 4);
        assert_eq!(bytes[72..76], digest(&bytes[..72]).to_le_bytes());
        assert_eq!(bytes[84..88], digest(&bytes[76..84]).to_le_bytes());
    }

    #[test]
    fn data_is_padded_to_the_controllers_alignment() {
        let frame = Pdu::CapsuleCmd { sqe: Sqe::new(1), data: vec![9; 8] }.encode(BOTH, 32);
        assert_eq!(frame.as_bytes()[3], 96);
        assert_eq!(frame.as_bytes()[96..104], [9; 8]);
    }

    #[test]
    fn a_flipped_header_bit_is_a_header_digest_error_until_sealed() {
        let bent = write_capsule().flip_bit(8 * 9);
        assert!(matches!(Pdu::decode(&bent, BOTH), Err(WireError::HeaderDigest { .. })));
        assert!(Pdu::decode(&bent.seal(BOTH), BOTH).is_ok());
    }

    #[test]
    fn a_spoiled_last_byte_is_a_data_digest_error() {
        assert!(matches!(
            Pdu::decode(&write_capsule().spoil_last_byte(), BOTH),
            Err(WireError::DataDigest { .. })
        ));
    }

    #[test]
    fn a_lying_plen_is_refused() {
        assert!(matches!(
            Pdu::decode(&write_capsule().plen(99), BOTH),
            Err(WireError::Field { field: "PLEN", .. })
        ));
    }
}

//! Header and data digests of both transports: CRC-32C, sent least significant byte first. NVMe/TCP 1.1 §3.3.1.1 "PDU Header
//! Digest (HDGST)" and "PDU Data Digest (DDGST)"; RFC 7143 §13.1 "HeaderDigest and DataDigest". It is the CRC of 32-bit
//! guards, so the same code computes both.

use crate::{Guard, GuardKind, guard_of};

/// Bytes of a digest.
pub const DIGEST_LEN: usize = 4;

/// Which digests a connection has agreed upon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// Behind headers.
    pub header: bool,
    /// Behind data.
    pub data: bool,
}

/// The digest of `bytes`, as it goes onto the wire.
pub fn digest_of(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    low_bytes(guard_of(GuardKind::Crc32c, bytes))
}

/// A digest over pieces.
#[derive(Debug, Clone, Copy)]
pub struct Digest(Guard);

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl Digest {
    /// Over nothing yet.
    pub fn new() -> Digest {
        Digest(Guard::new(GuardKind::Crc32c))
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest, as it goes onto the wire.
    pub fn finish(&self) -> [u8; DIGEST_LEN] {
        low_bytes(self.0.value())
    }
}

fn low_bytes(crc: u64) -> [u8; DIGEST_LEN] {
    let [a, b, c, d, ..] = crc.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_the_check_string_is_the_published_value() {
        assert_eq!(digest_of(b"123456789"), 0xe306_9283_u32.to_le_bytes());
    }

    #[test]
    fn pieces_have_the_digest_of_the_whole() {
        let mut digest = Digest::new();
        digest.update(b"1234");
        digest.update(b"");
        digest.update(b"56789");
        assert_eq!(digest.finish(), digest_of(b"123456789"));
    }
}

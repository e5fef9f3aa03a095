//! Completion queue entries. NVM Express Base 2.1 §4.2 "Completion Queue Entry".

use super::Status;

/// A completion: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cqe {
    /// Command specific, dword 0.
    pub dw0: u32,
    /// Command specific, dword 1.
    pub dw1: u32,
    /// SQ Head Pointer.
    pub sqhd: u16,
    /// SQ Identifier (reserved over fabrics).
    pub sqid: u16,
    /// Command Identifier.
    pub cid: u16,
    /// Status.
    pub status: Status,
}

impl Cqe {
    /// Bytes of an entry.
    pub const LEN: usize = 16;

    /// From its bytes.
    #[must_use]
    pub fn parse(b: &[u8; Self::LEN]) -> Self {
        Self {
            dw0: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            dw1: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            sqhd: u16::from_le_bytes([b[8], b[9]]),
            sqid: u16::from_le_bytes([b[10], b[11]]),
            cid: u16::from_le_bytes([b[12], b[13]]),
            status: Status::from_bits(u16::from_le_bytes([b[14], b[15]])),
        }
    }

    /// Into bytes (a scripted target needs it).
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut b = [0; Self::LEN];
        b[0..4].copy_from_slice(&self.dw0.to_le_bytes());
        b[4..8].copy_from_slice(&self.dw1.to_le_bytes());
        b[8..10].copy_from_slice(&self.sqhd.to_le_bytes());
        b[10..12].copy_from_slice(&self.sqid.to_le_bytes());
        b[12..14].copy_from_slice(&self.cid.to_le_bytes());
        b[14..16].copy_from_slice(&self.status.to_bits().to_le_bytes());
        b
    }

    /// Dwords 0 and 1 as one 64-bit value (Property Get answers so).
    #[must_use]
    pub fn value(self) -> u64 {
        u64::from(self.dw1) << 32 | u64::from(self.dw0)
    }
}

#[cfg(test)]
mod tests {
    use super::Cqe;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn completions_survive_the_round_trip(mut bytes: [u8; 16]) {
            bytes[14] &= !1;
            prop_assert_eq!(Cqe::parse(&bytes).to_bytes(), bytes);
        }
    }
}
